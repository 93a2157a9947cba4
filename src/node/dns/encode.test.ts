import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ipFromBytes } from '../../base/ip.ts';
import { decodeQuery } from './decode.ts';
import { encodeAnswer, encodeQuery } from './encode.ts';
import { type OracleRecord, queryOf, readResponse } from './fixtures.ts';
import { type Answer, bareAnswer, Rcode, type ResourceRecord, Type } from './wire.ts';

const answer = (parts: Partial<Answer>): Answer => ({ ...bareAnswer(Rcode.noError), authoritative: true, ...parts });
const ZONE = 'default.svc.cluster.local';

const soa: ResourceRecord = {
  name: 'cluster.local',
  ttl: 5,
  type: 'SOA',
  primary: 'ns.dns.cluster.local',
  mailbox: 'hostmaster.cluster.local',
  serial: 4_294_967_295,
  refresh: 7200,
  retry: 1800,
  expire: 86_400,
  minimum: 5,
};

function addresses(count: number, name = `web.${ZONE}`): ResourceRecord[] {
  return Array.from({ length: count }, (_, i) => ({ name, ttl: 5, type: 'A', address: `10.0.${i >> 8}.${i & 255}` }));
}

/** What the oracle must read for a record of ours. */
function expected(record: ResourceRecord): unknown {
  switch (record.type) {
    case 'A':
    case 'AAAA':
      return record.address;
    case 'CNAME':
    case 'PTR':
    case 'NS':
      return record.target;
    case 'SRV': {
      const { priority, weight, port, target } = record;
      return { priority, weight, port, target };
    }
    case 'TXT':
      return record.text;
    case 'SOA': {
      const { primary: mname, mailbox: rname, serial, refresh, retry, expire, minimum } = record;
      return { mname, rname, serial, refresh, retry, expire, minimum };
    }
  }
}

function read({ data, type }: OracleRecord): unknown {
  if (type !== 'TXT') return data;
  return Buffer.concat((Array.isArray(data) ? data : [data]).map((part) => Buffer.from(part as Uint8Array))).toString();
}

const label = fc.stringMatching(/^[a-z0-9_]([a-z0-9-]{0,12}[a-z0-9])?$/);
const name = fc.oneof(
  label.map((first) => `${first}.${ZONE}`),
  fc.array(label, { minLength: 1, maxLength: 6 }).map((labels) => labels.join('.')),
);
const uint16 = fc.nat({ max: 65_535 });
const address = (length: number) => fc.uint8Array({ minLength: length, maxLength: length }).map((b) => ipFromBytes(b));
const data = fc.oneof(
  fc.record({ type: fc.constant('A' as const), address: address(4) }),
  fc.record({ type: fc.constant('AAAA' as const), address: address(16) }),
  fc.record({ type: fc.constantFrom('CNAME' as const, 'PTR' as const, 'NS' as const), target: name }),
  fc.record({ type: fc.constant('SRV' as const), priority: uint16, weight: uint16, port: uint16, target: name }),
  fc.record({ type: fc.constant('TXT' as const), text: fc.stringMatching(/^[ -~]{0,100}$/) }),
);
const record: fc.Arbitrary<ResourceRecord> = fc
  .tuple(name, fc.nat({ max: 2 ** 31 - 1 }), data)
  .map(([owner, ttl, rest]) => ({ name: owner, ttl, ...rest }));

describe('encodeAnswer', () => {
  test('another implementation reads what was meant', () => {
    fc.assert(
      fc.property(
        name,
        fc.array(record, { maxLength: 12 }),
        fc.array(record, { maxLength: 6 }),
        (asked, first, more) => {
          const query = queryOf(asked, 'A', { id: 77, edns: {} });
          const bytes = encodeAnswer(query, answer({ answers: first, authority: [soa], additional: more }), 65_535);
          const response = readResponse(bytes);
          assert.equal(response.id, 77);
          assert.ok(response.flag_qr && response.flag_aa && response.flag_rd && response.flag_ra && !response.flag_tc);
          assert.equal(response.questions[0]!.name, asked);
          const sections = [
            [first, response.answers],
            [[soa], response.authorities],
            [more, response.additionals.filter(({ type }) => type !== 'OPT')],
          ] as const;
          for (const [ours, theirs] of sections) {
            assert.deepEqual(
              theirs.map((one) => [one.name, one.type, one.ttl, one.class, read(one)]),
              ours.map((one) => [one.name, one.type, one.ttl, 'IN', expected(one)]),
            );
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  test('names that were written before become pointers, targets of SRV records do not', () => {
    const query = queryOf(`web.${ZONE}`, 'A');
    const plain = encodeAnswer(query, answer({ answers: addresses(1) }), 512);
    assert.equal(plain.length, 12 + query.question.length + 16, 'the owner is a pointer to the question');
    const target = `a.web.${ZONE}`;
    const srv: ResourceRecord = { name: query.name, ttl: 5, type: 'SRV', priority: 0, weight: 1, port: 1, target };
    const encoded = encodeAnswer(query, answer({ answers: [srv] }), 512);
    assert.equal(encoded.length, 12 + query.question.length + 12 + 6 + target.length + 2);
    // But what an SRV record wrote is nothing to point to either.
    const both = encodeAnswer(query, answer({ answers: [srv], additional: addresses(1, target) }), 512);
    assert.equal(readResponse(both).additionals[0]!.name, target);
  });

  test('the case of the question is kept, and others point to it', () => {
    const query = queryOf('wEb.dEfAuLt.SVC.cluster.LOCAL', 'A');
    const bytes = encodeAnswer(query, answer({ answers: addresses(1) }), 512);
    assert.deepEqual(bytes.subarray(12, 12 + query.question.length), query.question);
    assert.equal(readResponse(bytes).answers[0]!.name, 'wEb.dEfAuLt.SVC.cluster.LOCAL');
  });

  test('what does not fit is left out whole, and the client is told', () => {
    const query = queryOf(`web.${ZONE}`, 'A');
    const bytes = encodeAnswer(query, answer({ answers: addresses(200), additional: addresses(1) }), 512);
    assert.ok(bytes.length <= 512 && bytes.length > 512 - 16);
    const response = readResponse(bytes);
    assert.ok(response.flag_tc);
    assert.equal(response.answers.length, Math.floor((512 - 12 - query.question.length) / 16));
    assert.equal(response.additionals.length, 0);
  });

  test('the additional section goes first, without the flag', () => {
    const query = queryOf(`web.${ZONE}`, 'A', { edns: {} });
    const bytes = encodeAnswer(query, answer({ answers: addresses(20), additional: addresses(100) }), 512);
    const response = readResponse(bytes);
    assert.ok(bytes.length <= 512);
    assert.ok(!response.flag_tc);
    assert.equal(response.answers.length, 20);
    assert.ok(response.additionals.length < 20);
    assert.ok(
      response.additionals.some(({ type }) => type === 'OPT'),
      'the OPT record has its room',
    );
  });

  test('nothing points into what was cut off', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 100, max: 700 }),
        fc.array(record, { maxLength: 8 }),
        fc.array(record, { maxLength: 8 }),
        (limit, authority, additional) => {
          const query = queryOf(`web.${ZONE}`, 'A');
          const bytes = encodeAnswer(query, answer({ answers: addresses(1), authority, additional }), limit);
          const response = readResponse(bytes);
          const names = (records: readonly { name: string }[]) => records.map((one) => one.name);
          const left = response.authorities.length;
          assert.deepEqual(names(response.authorities), names(authority).slice(0, left));
          assert.deepEqual(names(response.additionals), names(additional).slice(0, response.additionals.length));
        },
      ),
    );
  });

  test('over TCP 64 KB are used and no more', () => {
    const query = queryOf(`web.${ZONE}`, 'A');
    const bytes = encodeAnswer(query, answer({ answers: addresses(5000) }), 65_535);
    assert.ok(bytes.length <= 65_535);
    const response = readResponse(bytes);
    assert.ok(response.flag_tc);
    assert.ok(response.answers.length > 4000);
    assert.equal(response.answers.at(-1)!.name, `web.${ZONE}`);
  });

  test('EDNS is answered with EDNS, and DO and CD come back; without EDNS there is none', () => {
    const response = (edns?: object) =>
      readResponse(encodeAnswer(queryOf('a.b', 'A', edns ? { edns } : {}), answer({}), 512));
    assert.equal(response().additionals.length, 0);
    assert.equal(response({}).additionals[0]!.udpPayloadSize, 1232);
    assert.equal(response({}).additionals[0]!.flag_do, false);
    assert.equal(response({ dnssecOk: true }).additionals[0]!.flag_do, true);
    const query = { ...queryOf('a.b', 'A', { recursionDesired: false }), flags: 0x0010 };
    const flags = readResponse(encodeAnswer(query, answer({}), 512));
    assert.ok(flags.flag_cd && !flags.flag_rd);
  });

  test('labels with any bytes survive', () => {
    const label = Buffer.from([4, 0x41, 0x2e, 0x00, 0xff]);
    const packet = Buffer.concat([
      Buffer.from('000101000001000000000000', 'hex'),
      label,
      Buffer.from([1, 0x62, 0, 0, 1, 0, 1]),
    ]);
    const decoded = decodeQuery(packet);
    assert.ok(decoded.kind === 'query');
    const bytes = encodeAnswer(decoded.query, answer({ answers: addresses(1, decoded.query.name) }), 512);
    assert.deepEqual(bytes.subarray(12, 12 + decoded.query.question.length), decoded.query.question);
    assert.equal(bytes.readUInt16BE(12 + decoded.query.question.length), 0xc00c);
  });

  test('a name that cannot be written is an error, not a broken message', () => {
    for (const target of ['a..b', `${'x'.repeat(64)}.b`]) {
      const alias: ResourceRecord = { name: 'a', ttl: 5, type: 'CNAME', target };
      assert.throws(() => encodeAnswer(queryOf('a', 'A'), answer({ answers: [alias] }), 512), RangeError);
    }
  });
});

test('encodeQuery asks one question with EDNS', () => {
  const packet = encodeQuery({ id: 5, name: 'a.example', type: Type.AAAA });
  const decoded = decodeQuery(packet);
  assert.ok(decoded.kind === 'query');
  assert.equal(decoded.query.name, 'a.example');
  assert.equal(decoded.query.type, Type.AAAA);
  assert.equal(decoded.query.udpSize, 1232);
});
