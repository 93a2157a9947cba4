import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { encode as encodeWithOracle } from '@dnsquery/dns-packet';
import fc from 'fast-check';
import { decodeQuery, decodeResponse } from './decode.ts';
import { queryOf, question, readResponse } from './fixtures.ts';
import { Rcode } from './wire.ts';

/** A query of raw pieces: header counts and the bytes behind the header. */
function raw({
  flags = 0x0100,
  counts = [1, 0, 0, 0],
  body = '',
}: {
  flags?: number;
  counts?: number[];
  body?: string;
}) {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(0x1234, 0);
  header.writeUInt16BE(flags, 2);
  counts.forEach((count, i) => header.writeUInt16BE(count, 4 + 2 * i));
  return Buffer.concat([header, Buffer.from(body.replaceAll(' ', ''), 'hex')]);
}

function refusalOf(packet: Buffer): number {
  const decoded = decodeQuery(packet);
  assert.equal(decoded.kind, 'refuse');
  assert.ok(decoded.kind === 'refuse');
  assert.equal(decoded.response.readUInt16BE(0), packet.readUInt16BE(0), 'the id is repeated');
  assert.ok(decoded.response.readUInt16BE(2) & 0x8000, 'it is a response');
  return decoded.response[3]! & 0xf;
}

const A_IN = '0001 0001';
const NAME = '01 61 00';

describe('decodeQuery', () => {
  test('reads what another implementation wrote', () => {
    const query = queryOf('Web.Default.svc.cluster.local', 'SRV', { id: 4711, edns: { udpPayloadSize: 900 } });
    assert.equal(query.id, 4711);
    assert.equal(query.name, 'web.default.svc.cluster.local');
    assert.equal(query.type, 33);
    assert.equal(query.class, 1);
    assert.equal(query.udpSize, 900);
    assert.equal(query.edns?.dnssecOk, false);
    assert.equal(query.question.toString('latin1', 0, 4), '\x03Web', 'the case stays');
  });

  test('names are as they were written, in lower case', () => {
    const labels = fc.stringMatching(/^[a-zA-Z0-9_-]{1,20}$/);
    fc.assert(
      fc.property(fc.array(labels, { minLength: 1, maxLength: 8 }), (parts) => {
        assert.equal(queryOf(parts.join('.'), 'A').name, parts.join('.').toLowerCase());
      }),
    );
  });

  test('the root has the empty name', () => {
    const decoded = decodeQuery(raw({ body: `00 ${A_IN}` }));
    assert.ok(decoded.kind === 'query');
    assert.equal(decoded.query.name, '');
  });

  test('bytes that are no plain text are escaped, so a dot in a label is no border', () => {
    const decoded = decodeQuery(raw({ body: `04 412e c3 5c 01 62 00 ${A_IN}` }));
    assert.ok(decoded.kind === 'query');
    assert.equal(decoded.query.name, 'a\\046\\195\\092.b');
  });

  test('the datagram size is 512 without EDNS, and between 512 and 1232 with it', () => {
    assert.equal(queryOf('a', 'A').udpSize, 512);
    assert.equal(queryOf('a', 'A', { edns: { udpPayloadSize: 100 } }).udpSize, 512);
    assert.equal(queryOf('a', 'A', { edns: { udpPayloadSize: 1000 } }).udpSize, 1000);
    assert.equal(queryOf('a', 'A', { edns: { udpPayloadSize: 4096 } }).udpSize, 1232);
  });

  test('a name may have 255 bytes and no more', () => {
    const label = (length: number) => length.toString(16).padStart(2, '0') + '61'.repeat(length);
    const long = label(63) + label(63) + label(63);
    assert.equal(decodeQuery(raw({ body: `${long}${label(61)}00${A_IN}` })).kind, 'query');
    assert.equal(refusalOf(raw({ body: `${long}${label(62)}00${A_IN}` })), Rcode.formatError);
  });

  const refused: [string, Buffer, number][] = [
    ['no question', raw({ counts: [0, 0, 0, 0] }), Rcode.formatError],
    ['two questions', raw({ counts: [2, 0, 0, 0], body: `${NAME}${A_IN}${NAME}${A_IN}` }), Rcode.formatError],
    ['a question that is cut off', raw({ body: `${NAME} 0001` }), Rcode.formatError],
    ['a name that is cut off', raw({ body: '05 6161' }), Rcode.formatError],
    ['a name without an end', raw({ body: '01 61' }), Rcode.formatError],
    ['a pointer in the question', raw({ body: `c00c ${A_IN}` }), Rcode.formatError],
    ['a label type of long ago', raw({ body: `41 61 00 ${A_IN}` }), Rcode.formatError],
    ['fewer records than announced', raw({ counts: [1, 0, 0, 1], body: `${NAME}${A_IN}` }), Rcode.formatError],
    [
      'two OPT records',
      raw({ counts: [1, 0, 0, 2], body: `${NAME}${A_IN} 000029 04d0 00000000 0000 000029 04d0 00000000 0000` }),
      Rcode.formatError,
    ],
    [
      'an OPT record with a name',
      raw({ counts: [1, 0, 0, 1], body: `${NAME}${A_IN} 016100 0029 04d0 00000000 0000` }),
      Rcode.formatError,
    ],
    [
      'an OPT record longer than the message',
      raw({ counts: [1, 0, 0, 1], body: `${NAME}${A_IN} 000029 04d0 00000000 0004 00` }),
      Rcode.formatError,
    ],
    ['STATUS', raw({ flags: 0x1000, body: `${NAME}${A_IN}` }), Rcode.notImplemented],
    ['NOTIFY', raw({ flags: 0x2000, body: `${NAME}${A_IN}` }), Rcode.notImplemented],
    ['UPDATE', raw({ flags: 0x2800, body: `${NAME}${A_IN}` }), Rcode.notImplemented],
  ];
  for (const [what, packet, rcode] of refused) {
    test(`${what} is refused`, () => assert.equal(refusalOf(packet), rcode));
  }

  test('a response and a fragment of a header are ignored', () => {
    assert.equal(decodeQuery(raw({ flags: 0x8100, body: `${NAME}${A_IN}` })).kind, 'ignore');
    assert.equal(decodeQuery(Buffer.alloc(11)).kind, 'ignore');
    assert.equal(decodeQuery(Buffer.alloc(0)).kind, 'ignore');
  });

  test('a later version of EDNS is answered with BADVERS', () => {
    const decoded = decodeQuery(question('a.b', 'A', { edns: { version: 1 } }));
    assert.ok(decoded.kind === 'refuse');
    const response = readResponse(decoded.response);
    assert.equal(response.rcode, 'NOERROR');
    assert.equal(response.additionals[0]!.extendedRcode, 1, 'BADVERS is 16: the upper bits stand in the OPT record');
    assert.equal(response.questions[0]!.name, 'a.b');
  });

  test('other additional records are passed over', () => {
    const body = `${NAME}${A_IN} 0161 00 0010 0001 00000000 0002 0161 000029 04d0 00000000 0000`;
    const decoded = decodeQuery(raw({ counts: [1, 0, 0, 2], body }));
    assert.ok(decoded.kind === 'query');
    assert.equal(decoded.query.udpSize, 1232);
  });
});

describe('decodeResponse', () => {
  const response = (answers: object[]) =>
    Buffer.from(
      encodeWithOracle({
        type: 'response',
        id: 1,
        flags: 0x0180,
        questions: [{ type: 'A', name: 'a.example' }],
        answers,
      } as unknown as Parameters<typeof encodeWithOracle>[0]),
    );

  test('reads addresses and aliases, passes over the rest', () => {
    const decoded = decodeResponse(
      response([
        { type: 'CNAME', name: 'a.example', ttl: 9, data: 'B.example' },
        { type: 'A', name: 'b.example', ttl: 8, data: '192.0.2.1' },
        { type: 'AAAA', name: 'b.example', ttl: 7, data: '2001:db8::1' },
        { type: 'TXT', name: 'b.example', ttl: 7, data: 'x' },
      ]),
    );
    assert.deepEqual(decoded, {
      rcode: 0,
      truncated: false,
      answers: [
        { name: 'a.example', ttl: 9, type: 'CNAME', target: 'b.example' },
        { name: 'b.example', ttl: 8, type: 'A', address: '192.0.2.1' },
        { name: 'b.example', ttl: 7, type: 'AAAA', address: '2001:db8::1' },
      ],
    });
  });

  const record = (name: string, data: string, type = '0001') =>
    `${name} ${type} 0001 00000005 ${(data.replaceAll(' ', '').length / 2).toString(16).padStart(4, '0')} ${data}`;
  const question1 = `${NAME}${A_IN}`;

  test('names of pointers are followed', () => {
    const packet = raw({
      flags: 0x8180,
      counts: [1, 1, 0, 0],
      body: `${question1}${record('c00c', '01 62 c00c', '0005')}`,
    });
    assert.deepEqual(decodeResponse(packet)?.answers, [{ name: 'a', ttl: 5, type: 'CNAME', target: 'b.a' }]);
  });

  for (const [what, body] of [
    ['a pointer to itself', record('c013', '01020304')],
    ['a pointer forwards', record('c020', '01020304')],
    ['an address of three bytes', record('c00c', '010203')],
    ['an alias longer than its data', record('c00c', '0562', '0005')],
    ['a record that is cut off', 'c00c 0001 0001'],
  ] as const) {
    test(`${what} breaks the response`, () => {
      const packet = raw({ flags: 0x8180, counts: [1, 1, 0, 0], body: question1 + body });
      assert.equal(decodeResponse(packet), undefined);
    });
  }
});
