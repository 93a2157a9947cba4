/** The question between two nodes' agents, over real sockets of two namespaces, both families. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../../src/base/log.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { SyncClient } from '../../src/node/drain/sync-client.ts';
import { SyncServer } from '../../src/node/drain/sync-server.ts';
import { namespaces, skip } from './linux-fixture.ts';

const make = namespaces();
const PORT = 10250;
const ADDRESSES = ['172.18.0.2', 'fd00:18::2'];

function pair(name: string) {
  const [a, b] = [make(`${name}a`), make(`${name}b`)];
  using near = Rtnetlink.open(a);
  near.createVeth({ name: 'eth0', up: true, peer: { name: 'eth0', netns: b, up: true } });
  using far = Rtnetlink.open(b);
  for (const [netlink, host] of [
    [near, 1],
    [far, 2],
  ] as const) {
    netlink.addAddress({ device: 'eth0', address: `172.18.0.${host}/16` });
    netlink.addAddress({ device: 'eth0', address: `fd00:18::${host}/64`, nodad: true });
  }
  return { a, b };
}

for (const address of ADDRESSES) {
  test(`${address}: answered when the rules are there, at once when they are already`, { skip }, async () => {
    const { a, b } = pair(address.includes(':') ? 'six' : 'four');
    const end = new AbortController();
    const server = new SyncServer({ addresses: ADDRESSES, port: PORT, ns: b, log: silentLogger });
    using client = new SyncClient({ port: PORT, ns: a });
    try {
      await server.start(end.signal);
      server.advance(5);
      assert.equal(await client.waitFor(address, 5, 5000), 'synced');
      let done = false;
      const waits = [
        client.waitFor(address, 7, 5000),
        client.waitFor(address, 7, 5000),
        client.waitFor(address, 6, 5000),
      ];
      void Promise.all(waits).then(() => {
        done = true;
      });
      while (server.waiting < 2) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.equal(server.waiting, 2, 'equal questions are one');
      server.advance(6);
      assert.equal(await waits[2], 'synced');
      assert.equal(done, false);
      server.advance(9);
      assert.deepEqual(await Promise.all(waits), ['synced', 'synced', 'synced']);
      assert.equal(server.waiting, 0);
      end.abort();
      assert.equal(await client.waitFor(address, 9, 5000), 'synced', 'known already');
      assert.equal(await client.waitFor(address, 10, 700), 'late', 'it has answered before');
      client.keepOnly(new Set());
      for (const when of ['forgotten', 'again']) assert.equal(await client.waitFor(address, 9, 9000), 'silent', when);
    } finally {
      end.abort();
    }
  });
}

test('an agent that stood still is waited for, once it has answered', { skip }, async () => {
  const { a, b } = pair('still');
  using client = new SyncClient({ port: PORT, ns: a });
  const start = async () => {
    const end = new AbortController();
    const server = new SyncServer({ addresses: ADDRESSES, port: PORT, ns: b, log: silentLogger });
    await server.start(end.signal);
    return { server, end };
  };
  const first = await start();
  first.server.advance(1);
  assert.equal(await client.waitFor(ADDRESSES[0]!, 1, 5000), 'synced');
  first.end.abort();
  const wait = client.waitFor(ADDRESSES[0]!, 2, 9000);
  await new Promise((resolve) => setTimeout(resolve, 2500));
  const second = await start();
  second.server.advance(2);
  assert.equal(await wait, 'synced');
  second.end.abort();
});

test('a node that answers but does not follow is late', {
  skip,
}, async () => {
  const { a, b } = pair('late');
  const end = new AbortController();
  const server = new SyncServer({ addresses: ADDRESSES, port: PORT, ns: b, log: silentLogger });
  using client = new SyncClient({ port: PORT, ns: a });
  try {
    await server.start(end.signal);
    assert.equal(await client.waitFor(ADDRESSES[0]!, 3, 600), 'late');
  } finally {
    end.abort();
  }
});
