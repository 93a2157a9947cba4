/**
 * Any bytes through the whole path (cache, decoder, chain, zone, encoder): nothing throws, every answer is one that another
 * implementation reads, belongs to its question and is no longer than asked for.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseCidr } from '../../src/base/ip.ts';
import { silentLogger } from '../../src/base/log.ts';
import { AnswerCache } from '../../src/node/dns/cache.ts';
import {
  cluster,
  createMetrics,
  errors,
  metrics,
  nothingOutside,
  refuseOthers,
  type Transport,
} from '../../src/node/dns/chain.ts';
import { decodeQuery, decodeResponse } from '../../src/node/dns/decode.ts';
import { question, readResponse, service, slice, sourceOver } from '../../src/node/dns/fixtures.ts';
import { Zone } from '../../src/node/dns/zone.ts';

const http = { name: 'http', protocol: 'TCP', port: 80 };
const zone = new Zone({
  domain: 'cluster.local',
  dnsAddresses: ['10.96.0.10'],
  reverseCidrs: ['10.244.0.0/16', 'fd00:10:244::/56'].map(parseCidr),
  source: sourceOver({
    namespaces: ['default'],
    services: [
      service('default/web', { clusterIP: '10.96.0.1', ports: [http] }),
      service('default/db', { clusterIP: 'None', ports: [http] }),
      service('default/alias', { type: 'ExternalName', externalName: 'db.default.svc.cluster.local' }),
    ],
    slices: [
      slice('default/db', {
        ports: [http],
        endpoints: Array.from({ length: 40 }, (_, i) => ({ addresses: [`10.244.1.${i}`], hostname: `db-${i}` })),
      }),
    ],
    pods: [],
  }),
});
const counts = createMetrics();
const cache = new AnswerCache({ generation: () => 0, counts, arenaBytes: 1 << 16 });
let failures = 0;
const counting = { ...silentLogger, warn: () => void failures++ };
const handler = metrics(
  errors(cache.link(cluster(refuseOthers, { zone, outside: nothingOutside })), counting, {
    now: () => Date.now() + 1e9 * failures,
    after: () => ({ cancel() {} }),
    sleep: () => Promise.resolve(),
  }),
  counts,
);
const out = Buffer.alloc(65_535);

/** As the listener does it; what was answered, and how. */
function serve(packet: Buffer, transport: Transport): { response: Buffer; cached: boolean } | undefined {
  const found = cache.find(packet, packet.length, transport, out);
  if (found > 0) return { response: Buffer.from(out.subarray(0, found)), cached: true };
  const decoded = decodeQuery(packet);
  if (decoded.kind === 'ignore') return undefined;
  if (decoded.kind === 'refuse') return { response: decoded.response, cached: false };
  const response = handler(decoded.query, transport, packet);
  assert.ok(Buffer.isBuffer(response));
  return { response, cached: false };
}

function check(packet: Buffer, transport: Transport): void {
  const answer = serve(packet, transport);
  if (!answer) {
    assert.ok(packet.length < 12 || packet[2]! & 0x80, 'only fragments and responses are ignored');
    return;
  }
  const { response, cached } = answer;
  assert.deepEqual(response.subarray(0, 2), packet.subarray(0, 2), 'the id');
  assert.ok(response[2]! & 0x80);
  const decoded = decodeQuery(packet);
  if (decoded.kind !== 'query') return assert.ok(!cached);
  const { question: asked, udpSize } = decoded.query;
  assert.deepEqual(response.subarray(12, 12 + asked.length), asked);
  if (transport === 'udp') assert.ok(response.length <= udpSize);
  // The other implementation reads names as text and refuses some labels; what it reads must be whole.
  if (!decoded.query.name.includes('\\')) {
    const { answers, questions } = readResponse(response);
    assert.equal(questions.length, 1);
    assert.ok(answers.every((record) => record.ttl === 5));
  }
}

const names = [
  'web.default.svc.cluster.local',
  'db.default.svc.cluster.local',
  'db-3.db.default.svc.cluster.local',
  'alias.default.svc.cluster.local',
  '_http._tcp.db.default.svc.cluster.local',
  '3.1.244.10.in-addr.arpa',
  '1.244.10.in-addr.arpa',
  'nope.default.svc.cluster.local',
  'cluster.local',
  'example.com',
];
const options = fc.record({
  id: fc.nat({ max: 65_535 }),
  edns: fc.option(
    fc.record({
      udpPayloadSize: fc.nat({ max: 65_535 }),
      dnssecOk: fc.boolean(),
      version: fc.constantFrom(0, 0, 0, 1),
    }),
    { nil: undefined },
  ),
});
const transport = fc.constantFrom<Transport>('udp', 'tcp');
const mixedCase = fc
  .tuple(fc.constantFrom(...names), fc.infiniteStream(fc.boolean()))
  .map(([name, upper]) => [...name].map((c) => (upper.next().value ? c.toUpperCase() : c)).join(''));
const types = fc.constantFrom('A', 'AAAA', 'SRV', 'PTR', 'CNAME', 'TXT', 'SOA', 'NS', 'ANY', 'MX', 'HTTPS');
const good = fc.tuple(mixedCase, types, options).map(([name, type, rest]) => question(name, type, rest as object));

const changed = (packets: fc.Arbitrary<Buffer>) =>
  fc
    .tuple(
      packets,
      fc.array(fc.tuple(fc.nat({ max: 100 }), fc.nat({ max: 255 })), { maxLength: 4 }),
      fc.nat({ max: 90 }),
    )
    .map(([packet, changes, cut]) => {
      const copy = Buffer.from(packet);
      for (const [at, value] of changes) copy[at % copy.length] = value;
      return cut > 70 ? copy.subarray(0, Math.min(copy.length, cut - 60)) : copy;
    });
const anything = fc.uint8Array({ maxLength: 700 }).map((bytes) => Buffer.from(bytes));

describe('any bytes', () => {
  test('good queries are answered, first and again', () => {
    fc.assert(
      fc.property(good, transport, (packet, over) => [1, 2, 3].forEach(() => check(packet, over))),
      { numRuns: 2000 },
    );
    assert.ok(counts.cacheHits > 500);
  });

  test('queries with bytes changed or cut off', () => {
    fc.assert(fc.property(changed(good), transport, check), { numRuns: 5000 });
  });

  test('noise', () => {
    fc.assert(fc.property(anything, transport, check), { numRuns: 5000 });
  });

  test('responses of upstream servers, changed and noise', () => {
    const responses = good.map((packet) => serve(packet, 'tcp')?.response ?? packet);
    fc.assert(
      fc.property(fc.oneof(changed(responses), anything), (packet) => void decodeResponse(packet)),
      { numRuns: 5000 },
    );
  });

  test('nothing failed inside', () => assert.equal(failures, 0));
});
