import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FakeClock } from '../../base/clock.ts';
import type { Logger } from '../../base/log.ts';
import {
  cluster,
  createMetrics,
  encode,
  errors,
  type Handler,
  metrics,
  nothingOutside,
  ready,
  refuseOthers,
} from './chain.ts';
import { queryOf, question, readResponse, service, slice, sourceOver } from './fixtures.ts';
import { type Answer, bareAnswer, Rcode } from './wire.ts';
import { Zone } from './zone.ts';

const answering =
  (rcode: number): Handler =>
  (query, transport) =>
    encode(query, transport, bareAnswer(rcode));

const packet = question('a.b', 'A');
const query = queryOf('a.b', 'A');

async function rcodeOf(handler: Handler, asked = query): Promise<string> {
  return readResponse(await handler(asked, 'udp', packet)).rcode;
}

function recordingLogger() {
  const lines: string[] = [];
  const add = (fields: object | string, message?: string) => void lines.push(message ?? String(fields));
  const log: Logger = { debug: add, info: add, warn: add, error: add, child: () => log };
  return { lines, log };
}

describe('errors', () => {
  const throwing: Handler = () => {
    throw new Error('broken');
  };
  const rejecting: Handler = () => Promise.reject(new Error('late'));

  test('what fails at once or later is SERVFAIL', async () => {
    const { lines, log } = recordingLogger();
    assert.equal(await rcodeOf(errors(throwing, log)), 'SERVFAIL');
    assert.equal(await rcodeOf(errors(rejecting, log)), 'SERVFAIL');
    assert.deepEqual(lines, ['dns: broken', 'dns: late']);
  });

  test('the log is told once per period', async () => {
    const { lines, log } = recordingLogger();
    const clock = new FakeClock();
    const handler = errors(throwing, log, clock);
    for (let i = 0; i < 100; i++) assert.equal(await rcodeOf(handler), 'SERVFAIL');
    assert.equal(lines.length, 1);
    await clock.advance(10_000);
    await rcodeOf(handler);
    assert.equal(lines.length, 2);
  });
});

test('metrics count response codes, failures too', async () => {
  const counts = createMetrics();
  const { log } = recordingLogger();
  await rcodeOf(metrics(answering(Rcode.nxDomain), counts));
  await rcodeOf(
    metrics(
      errors(() => Promise.reject(new Error('x')), log),
      counts,
    ),
  );
  await rcodeOf(metrics(answering(Rcode.noError), counts));
  assert.deepEqual(counts.byRcode.slice(0, 6), [1, 0, 1, 1, 0, 0]);
});

test('SERVFAIL until synced', async () => {
  let synced = false;
  const handler = ready(answering(Rcode.noError), () => synced);
  assert.equal(await rcodeOf(handler), 'SERVFAIL');
  synced = true;
  assert.equal(await rcodeOf(handler), 'NOERROR');
});

describe('cluster', () => {
  const addresses = Array.from({ length: 10 }, (_, i) => ({ addresses: [`10.0.0.${i}`] }));
  const zone = new Zone({
    domain: 'cluster.local',
    dnsAddresses: ['10.96.0.10'],
    reverseCidrs: [],
    source: sourceOver({
      namespaces: ['default'],
      services: [
        service('default/db', { clusterIP: 'None' }),
        service('default/alias', { type: 'ExternalName', externalName: 'db.default.svc.cluster.local' }),
        service('default/outside', { type: 'ExternalName', externalName: 'www.example.com' }),
      ],
      slices: [slice('default/db', { endpoints: addresses })],
      pods: [],
    }),
  });
  const handler = cluster(refuseOthers, { zone, outside: nothingOutside });
  const ask = async (name: string, type: string, options = {}, link = handler) =>
    readResponse(await link(queryOf(name, type, options), 'tcp', packet));

  test('addresses come in any order, all of them', async () => {
    const orders = new Set<string>();
    for (let i = 0; i < 20; i++) {
      const { answers } = await ask('db.default.svc.cluster.local', 'A');
      const list = answers.map(({ data }) => String(data));
      assert.deepEqual(
        list.toSorted(),
        addresses.map((one) => one.addresses[0]),
      );
      orders.add(list.join());
    }
    assert.ok(orders.size > 1);
  });

  test('an alias comes first, also when what it leads to is shuffled', async () => {
    for (let i = 0; i < 20; i++) {
      const { answers } = await ask('alias.default.svc.cluster.local', 'A');
      assert.equal(answers.length, 11);
      assert.equal(answers[0]!.type, 'CNAME');
    }
  });

  test('names of others are refused, other classes and transfers too', async () => {
    assert.equal((await ask('example.com', 'A')).rcode, 'REFUSED');
    assert.equal((await ask('db.default.svc.cluster.local', 'A', { class: 'CH' })).rcode, 'REFUSED');
    assert.equal((await ask('cluster.local', 'AXFR')).rcode, 'REFUSED');
    assert.equal((await ask('cluster.local', 'IXFR')).rcode, 'REFUSED');
    assert.equal((await ask('db.default.svc.cluster.local', 'A', { class: 'ANY' })).rcode, 'NOERROR');
  });

  test('an alias that leaves the cluster ends there when nobody can be asked', async () => {
    const response = await ask('outside.default.svc.cluster.local', 'A');
    assert.equal(response.rcode, 'NOERROR');
    assert.deepEqual(
      response.answers.map(({ data }) => data),
      ['www.example.com'],
    );
  });

  test('an alias that leaves the cluster is followed, with the code of where it ends', async () => {
    const asked: string[] = [];
    const following = (rcode: number, answers: Answer['answers']) =>
      cluster(refuseOthers, {
        zone,
        outside: async (name, type) => {
          asked.push(`${name} ${type}`);
          return { ...bareAnswer(rcode), answers };
        },
      });
    const found = await ask(
      'outside.default.svc.cluster.local',
      'AAAA',
      {},
      following(Rcode.noError, [{ name: 'www.example.com', ttl: 77, type: 'AAAA', address: '2001:db8::1' }]),
    );
    assert.deepEqual(asked, ['www.example.com 28']);
    assert.deepEqual(
      found.answers.map(({ name, data, ttl }) => [name, data, ttl]),
      [
        ['outside.default.svc.cluster.local', 'www.example.com', 5],
        ['www.example.com', '2001:db8::1', 77],
      ],
    );
    const gone = await ask('outside.default.svc.cluster.local', 'A', {}, following(Rcode.nxDomain, []));
    assert.equal(gone.rcode, 'NXDOMAIN');
    assert.equal(gone.answers.length, 1);
  });
});
