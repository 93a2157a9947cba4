import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type IpAddress, parseIp } from '../../../base/ip.ts';
import { hasCode } from '../../../linux/errors.ts';
import { frontendKey } from '../model.ts';
import { fakeMemory } from './fake-memory.ts';
import { expectedListing, tableListing } from './listing.ts';
import { FullError, Reclaimer } from './numbers.ts';
import type { SocketFrontend } from './render.ts';
import { decodeServiceKey, encodeServiceKey, plainAddress, readTarget, writeTarget } from './schema.ts';
import { SocketTables, sizesFor } from './tables.ts';

const ADDRESSES = ['10.96.0.1', '10.96.0.2', 'fd00:10:96::1'].map(parseIp);

function frontend(
  which: number,
  endpoints: readonly number[],
  { protocol = 'tcp' as const, affinitySeconds = 0 }: { protocol?: 'tcp' | 'udp'; affinitySeconds?: number } = {},
): SocketFrontend {
  const address = ADDRESSES[which]!;
  const prefix = address.includes(':') ? 'fd00:10:244::' : '10.244.0.';
  return {
    at: { family: address.includes(':') ? 6 : 4, address, protocol, port: 80 },
    kind: endpoints.length > 0 ? 'endpoints' : protocol === 'tcp' ? 'reject' : 'pass',
    endpoints: endpoints.map((n) => `${prefix}${n} . 8080`),
    affinitySeconds,
  };
}

const anyFrontend = (which: number) =>
  fc
    .record({
      endpoints: fc.uniqueArray(fc.integer({ min: 2, max: 40 }), { maxLength: 24 }),
      affinitySeconds: fc.constantFrom(0, 0, 100, 200),
    })
    .map(({ endpoints, affinitySeconds }) => frontend(which, endpoints, { affinitySeconds }));

test('any sequence of changes ends in what a fresh load writes', async () => {
  const anyChange = fc.nat(2).chain((which) => fc.option(anyFrontend(which), { freq: 5 }).map((f) => ({ which, f })));
  await fc.assert(
    fc.asyncProperty(fc.array(anyChange, { maxLength: 60 }), async (changes) => {
      const memory = fakeMemory({ frontends: 512, slots: 8192, endpoints: 4096, members: 512 });
      const tables = new SocketTables(memory);
      const wanted = new Map<string, SocketFrontend>();
      for (const { which, f } of changes) {
        const key = frontendKey(frontend(which, []).at);
        if (f) wanted.set(key, f);
        else wanted.delete(key);
        tables.change(key, f ?? undefined);
        assert.deepEqual(tableListing(memory), expectedListing(wanted.values()));
      }
      const fresh = fakeMemory(sizesFor(wanted.values()));
      new SocketTables(fresh).load(wanted.values());
      assert.deepEqual(tableListing(memory), tableListing(fresh));
    }),
  );
});

test('a change costs what it changes, whatever the number of endpoints', () => {
  const tables = new SocketTables(fakeMemory({ frontends: 8, slots: 4096, endpoints: 2048, members: 8 }));
  const many = Array.from({ length: 200 }, (_, i) => i + 2);
  const key = frontendKey(frontend(0, []).at);
  tables.change(key, frontend(0, many));
  const before = tables.writes;
  tables.change(key, frontend(0, many.toSpliced(7, 1)));
  assert.equal(tables.writes - before, 1, 'the last endpoint moves into the hole');
  tables.change(key, frontend(0, many));
  assert.equal(tables.writes - before, 3, 'the endpoint and its slot');
});

test('nothing that a program may still look at is given out again before a grace period', async () => {
  const grace = Promise.withResolvers<void>();
  let periods = 0;
  const gracePeriod = () => {
    periods++;
    return grace.promise;
  };
  const memory = fakeMemory({ frontends: 4, slots: 2048, endpoints: 1024, members: 4 }, gracePeriod);
  const tables = new SocketTables(memory);
  const key = frontendKey(frontend(0, []).at);
  const endpoint = (n: number): SocketFrontend => ({
    ...frontend(0, []),
    kind: 'endpoints',
    endpoints: [`10.1.${n >> 8}.${n & 255} . 1`],
  });
  const bytes = Buffer.from(memory.endpoints);
  const addresses = () =>
    new Set(Array.from({ length: 1024 }, (_, i) => readTarget(bytes, i * 24)).map((each) => each.address as string));
  for (let n = 0; n < 600; n++) tables.change(key, endpoint(n));
  assert.equal(periods, 1);
  assert.ok([0, 1, 300, 599].every((n) => addresses().has(`10.1.${n >> 8}.${n & 255}`)));
  grace.resolve();
  await grace.promise;
  await new Promise((resolve) => setImmediate(resolve));
  for (let n = 600; n < 4000; n++) {
    tables.change(key, endpoint(n));
    if (n % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(periods > 10);
  assert.deepEqual(tableListing(memory), expectedListing([endpoint(3999)]));
});

test('without grace periods arrays fill up and say so', () => {
  const memory = fakeMemory({ frontends: 4, slots: 64, endpoints: 16, members: 4 }, () => new Promise(() => {}));
  const tables = new SocketTables(memory);
  const key = frontendKey(frontend(0, []).at);
  assert.throws(() => {
    for (let n = 2; n < 30; n++) tables.change(key, frontend(0, [n]));
  }, FullError);
});

test('a hash map that is full says so', () => {
  const tables = new SocketTables(fakeMemory({ frontends: 4, slots: 64, endpoints: 64, members: 2 }));
  const sticky = frontend(0, [2, 3, 4], { affinitySeconds: 10 });
  assert.throws(
    () => tables.change(frontendKey(sticky.at), sticky),
    (error) => hasCode(error, 'E2BIG'),
  );
});

test('sizes have room for as much again, at least', () => {
  const sizes = sizesFor([
    frontend(
      0,
      Array.from({ length: 900 }, (_, i) => i),
    ),
  ]);
  assert.deepEqual(sizes, { frontends: 512, slots: 2048, endpoints: 2048, members: 512 });
});

test('a failed grace period frees nothing', async () => {
  const reclaimer = new Reclaimer(async () => {
    throw new Error('EINTR');
  }, 2);
  let freed = 0;
  for (let i = 0; i < 5; i++) reclaimer.retire(() => freed++);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(freed, 0);
});

test('addresses are written and read back, IPv4 as IPv6 sockets know it', () => {
  for (const text of ['10.96.0.10', 'fd00:10:96::10', '::1'] as IpAddress[]) {
    const bytes = Buffer.alloc(24, 0xee);
    writeTarget(bytes, 2, text, 8080);
    assert.deepEqual(readTarget(bytes, 2), { address: text, port: 8080 });
    const at = { family: text.includes(':') ? 6 : 4, address: text, protocol: 'udp', port: 53 } as const;
    assert.deepEqual(decodeServiceKey(encodeServiceKey(at)), at);
  }
  assert.equal(plainAddress('::ffff:10.96.0.10'), '10.96.0.10');
  assert.equal(plainAddress('fd00::1'), 'fd00::1');
});
