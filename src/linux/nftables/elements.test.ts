import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatIp, ipFromBytes } from '../../base/ip.ts';
import { decodeMessages } from '../netlink/reader.ts';
import { MessageWriter } from '../netlink/writer.ts';
import { ElementColumns } from './columns.ts';
import { decodeTransaction, type ElementChange, encodeTransaction, type SetLayout } from './elements.ts';
import { decodeFields, type Field, sizeOf, TextScanner } from './fields.ts';

const ENDPOINTS: SetLayout = {
  family: 4,
  table: 't',
  name: 'endpoints',
  key: ['ipv4_addr', 'inet_proto', 'inet_service', 'mark'],
  value: ['ipv4_addr', 'inet_service'],
};
const PORT = ['inet_proto', 'inet_service'] as const;
const FIREWALL: SetLayout = {
  family: 4,
  table: 't',
  name: 'fw',
  key: ['ipv4_addr', 'inet_proto', 'inet_service', 'ipv4_addr'],
  interval: true,
};
const DISPATCH: SetLayout = { family: 6, table: 't', name: 'd', key: ['mark'], value: 'verdict' };
const RANGES: SetLayout = {
  family: 'inet',
  table: 't',
  name: 'r',
  key: ['classid', 'mark', 'inet_proto', 'inet_service'],
  value: ['mark'],
  interval: true,
};
const CLASSES: SetLayout = { family: 'inet', table: 't', name: 'i', key: ['ipv4_addr'], value: ['classid'] };
const layouts = [ENDPOINTS, FIREWALL, DISPATCH, RANGES, CLASSES];
const layoutOf = (_family: unknown, _table: string, name: string) => layouts.find((each) => each.name === name);

function encode(...changes: ElementChange[]): Buffer {
  const writer = new MessageWriter();
  encodeTransaction(writer, changes);
  return writer.finish(1);
}
const decode = (bytes: Buffer) =>
  decodeTransaction(bytes, layoutOf).flatMap((change) =>
    change ? [[change.op, change.family, change.set, [...change.elements.values()]] as const] : [],
  );

describe('element changes as messages', () => {
  it('are the bytes that nft sends', () => {
    // Captured with `nft --debug=mnl add element ip t fw { 10.96.0.1 . tcp . 80 . 198.51.100.0/24, … . 10.0.0.1 }`, without
    // the optional attribute SET_ID, and with an acknowledgement asked for.
    const list =
      '6c000380' +
      '34000180180001801400010' +
      '00a600001060000000050000' +
      '0c6336400' +
      '18000a8014000100' +
      '0a6000010600000000500000c63364ff' +
      '340001801800018014000100' +
      '0a60000106000000005000000a000001' +
      '18000a8014000100' +
      '0a60000106000000005000000a000001';
    const elements = ['10.96.0.1 . tcp . 80 . 198.51.100.0/24', '10.96.0.1 . tcp . 80 . 10.0.0.1'];
    const bytes = encode({ op: 'add', set: FIREWALL, elements });
    assert.equal(
      bytes.toString('hex'),
      `140000001000010001000000000000000000000a` +
        `900000000c0a0504020000000000000002000000` +
        `0600010074000000` +
        `0700020066770000` +
        list +
        `140000001100010003000000000000000000000a`,
    );
  });

  it('carry verdicts as nft does', () => {
    // Captured with `nft --debug=mnl add element ip t d { 0x3 : goto c }`.
    const captured =
      '2c000380' +
      '28000180' +
      '0c00018008000100' +
      '03000000' +
      '18000280' +
      '14000280' +
      '08000100fffffffc' +
      '0600020063000000';
    const bytes = encode({ op: 'add', set: DISPATCH, elements: ['0x3 : goto c'] });
    assert.ok(bytes.toString('hex').includes(captured), bytes.toString('hex'));
    assert.deepEqual(decode(bytes), [['add', 6, 'd', ['3 : goto c']]]);
    const others = encode({ op: 'add', set: DISPATCH, elements: ['1 : drop', '2 : jump abc-12'] });
    assert.deepEqual(decode(others)[0]?.[3], ['1 : drop', '2 : jump abc-12']);
  });

  it('of concatenated ranges carry fields in the machine’s order turned around, as nft does', () => {
    // Captured with `nft --debug=mnl add element inet t r { 1:2f . 0x33 . 6 . 80-90 : 0x44 }` and `… i { 10.0.0.1 : 1:2 }`.
    const ranges =
      '44000380400001801800018014000100' +
      '0001002f000000330600000000500000' +
      '18000a8014000100' +
      '0001002f0000003306000000005a0000' +
      '0c0002800800010044000000';
    const classes = '200003801c0001800c000180080001000a0000010c0002800800010002000100';
    const hex = encode(
      { op: 'add', set: RANGES, elements: ['1:2f . 0x33 . 6 . 80-90 : 0x44'] },
      { op: 'add', set: CLASSES, elements: ['10.0.0.1 : 1:2'] },
    ).toString('hex');
    assert.ok(hex.includes(ranges), hex);
    assert.ok(hex.includes(classes), hex);
    assert.ok(hex.includes('0c0a0104020000000000000001000000'), 'NFPROTO_INET');
  });

  it('take a range or a CIDR in every field, and come back', () => {
    const set: SetLayout = { ...RANGES, value: undefined, key: ['classid', 'ipv6_addr', 'mark', 'inet_service'] };
    const texts: [string, string?][] = [
      ['1:2-3:4 . fd00::1-fd00::ffff . 1-300 . 80-90'],
      [
        'ffff:ffff . 2001:db8::/32 . 7 . 0-65535',
        'ffff:ffff . 2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff . 7 . 0-65535',
      ],
      ['0:1 . ::ffff:192.0.2.0/120 . 0x10-0x20 . 1', '0:1 . ::ffff:c000:200-::ffff:c000:2ff . 16-32 . 1'],
      ['0:1 . ::1-::1 . 4294967295 . 1-1', '0:1 . ::1 . 4294967295 . 1'],
    ];
    const bytes = encode({ op: 'add', set, elements: texts.map(([text]) => text) });
    const [decoded] = decodeTransaction(bytes, () => set).filter((change) => change !== undefined);
    assert.equal(decoded!.family, 'inet');
    assert.deepEqual(
      [...decoded!.elements.values()],
      texts.map(([text, read]) => read ?? text),
    );
  });

  it('come back as they went in, deletions without values', () => {
    const added = ['10.96.0.1 . tcp . 80 . 3 : 10.244.0.2 . 8080', '10.96.0.2 . udp . 53 . 8388608 : 10.244.0.3 . 53'];
    const add: ElementChange = { op: 'add', set: ENDPOINTS, elements: added };
    const remove: ElementChange = { ...add, op: 'delete', elements: ['10.96.0.1 . tcp . 80 . 4', ...added.slice(1)] };
    const empty: ElementChange = { op: 'delete', set: DISPATCH, elements: 'all' };
    assert.deepEqual(decode(encode(empty, remove, add)), [
      ['delete', 6, 'd', []],
      ['delete', 4, 'endpoints', ['10.96.0.1 . tcp . 80 . 4', '10.96.0.2 . udp . 53 . 8388608']],
      ['add', 4, 'endpoints', added],
    ]);
  });

  it('are the same bytes in columns as in text', () => {
    const endpoints = new ElementColumns();
    for (let n = 0; n < 4000; n++)
      endpoints.push(`10.96.${n >> 9}.${(n >> 1) & 255} . udp . 53`, (n & 1) * 0x80000000, `10.0.0.1 . ${n}`);
    const counts = new ElementColumns();
    counts.push('fd00::1 . tcp . 80', undefined, 0x40000002);
    counts.push('fd00::2 . tcp . 80', undefined, '7');
    const marks: SetLayout = { ...ENDPOINTS, family: 6, name: 'm', key: ['ipv6_addr', ...PORT], value: ['mark'] };
    const pairs = new ElementColumns();
    pairs.push('10.0.0.1 . 10.0.0.2', undefined, undefined);
    const plain: SetLayout = { ...ENDPOINTS, name: 'p', key: ['ipv4_addr', 'ipv4_addr'], value: undefined };
    const ranges = new ElementColumns();
    ranges.push('10.96.0.1 . tcp . 80 . 198.51.100.0/24', undefined, undefined);
    const changes = [
      { op: 'add', set: FIREWALL, elements: ranges },
      { op: 'add', set: ENDPOINTS, elements: endpoints },
      { op: 'add', set: marks, elements: counts },
      { op: 'add', set: plain, elements: pairs },
    ] as const;
    const inText = changes.map((change): ElementChange => ({ ...change, elements: change.elements.texts() }));
    assert.ok(encode(...changes).equals(encode(...inText)));
    assert.equal(endpoints.texts()[1], '10.96.0.0 . udp . 53 . 2147483648 : 10.0.0.1 . 1');
  });

  it('refuse columns that are not of their set', () => {
    const element = (...parts: Parameters<ElementColumns['push']>): ElementColumns => {
      const columns = new ElementColumns();
      columns.push(...parts);
      return columns;
    };
    const refused: [SetLayout, ElementColumns][] = [
      [ENDPOINTS, element('10.96.0.1 . tcp . 80', undefined, '10.0.0.1 . 80')],
      [ENDPOINTS, element('10.96.0.1 . tcp . 80 . 1', 1, '10.0.0.1 . 80')],
      [ENDPOINTS, element('10.96.0.1 . tcp . 80', 1, '10.0.0.1 . 80 . 1')],
      [ENDPOINTS, element('10.96.0.1 . tcp . 80', 1, 7)],
      [ENDPOINTS, element('10.96.0.1 . tcp . 80', 1, undefined)],
      [FIREWALL, element('10.96.0.1 . tcp . 80', 80, undefined)],
      [{ ...FIREWALL, interval: false }, element('10.96.0.1 . tcp . 80', 1, undefined)],
    ];
    for (const [set, elements] of refused)
      assert.throws(() => encode({ op: 'add', set, elements }), TypeError, elements.texts()[0]);
  });

  it('are cut into messages that the kernel takes, of which the last is acknowledged', () => {
    const elements = Array.from(
      { length: 5000 },
      (_, n) => `10.96.${n >> 8}.${n & 255} . tcp . 80 . 0 : 10.0.0.1 . 80`,
    );
    const bytes = encode({ op: 'add', set: ENDPOINTS, elements, timeoutMs: 1000 });
    const messages = decodeMessages(bytes);
    assert.ok(messages.length > 4);
    assert.deepEqual(
      messages.map(({ flags }) => flags & 4),
      messages.map((_, i) => (i === messages.length - 2 ? 4 : 0)),
    );
    assert.ok(messages.every(({ payload }) => payload.length < 65_600));
    assert.deepEqual(
      decode(bytes).flatMap(([, , , texts]) => texts),
      elements,
    );
  });

  it('refuse what is no element of the set', () => {
    const refused: [SetLayout, string][] = [
      [ENDPOINTS, '10.96.0.1 . tcp . 80 : 10.0.0.1 . 80'],
      [ENDPOINTS, '10.96.0.256 . tcp . 80 . 1 : 10.0.0.1 . 80'],
      [ENDPOINTS, '10.96.0 . tcp . 80 . 1 : 10.0.0.1 . 80'],
      [ENDPOINTS, '10.96.0.1 . tcp . 65536 . 1 : 10.0.0.1 . 80'],
      [ENDPOINTS, '10.96.0.1 . foo . 80 . 1 : 10.0.0.1 . 80'],
      [ENDPOINTS, '10.96.0.1 . tcp . 80 . 1'],
      [ENDPOINTS, '10.96.0.1 . tcp . 80 . 1 : 10.0.0.1 . 80 '],
      [ENDPOINTS, ''],
      [DISPATCH, '1 : leave'],
      [DISPATCH, '0xg : drop'],
      [CLASSES, '10.0.0.1 : 1'],
      [CLASSES, '10.0.0.1 : 1:10000'],
      [CLASSES, '10.0.0.1-10.0.0.2 : 1:2'],
      [RANGES, '1:2 . 3 . 6 . 80-65536 : 1'],
      [RANGES, '1:2 . 3 . 6 . 80- : 1'],
      [RANGES, '1:2 . 3 . 6 . 80/8 : 1'],
      [FIREWALL, '10.96.0.1 . tcp . 80 . 10.0.0.0/33'],
      [{ ...FIREWALL, key: ['ipv4_addr'] }, '10.0.0.0/8'],
    ];
    for (const [set, element] of refused)
      assert.throws(() => encode({ op: 'add', set, elements: [element] }), TypeError, element);
  });
});

describe('fields', () => {
  const bytesOf = (fields: readonly Field[], text: string): Buffer => {
    const bytes = Buffer.alloc(sizeOf(fields));
    const scanner = new TextScanner().begin(text);
    scanner.fields(fields, bytes, 0);
    assert.ok(scanner.isAtEnd, text);
    return bytes;
  };

  it('come back as they went in', () => {
    const any: Readonly<Record<Field, fc.Arbitrary<string>>> = {
      ipv4_addr: fc.nat(0xffffffff).map((n) => formatIp(4, BigInt(n))),
      ipv6_addr: fc
        .array(fc.oneof(fc.constant(0), fc.nat(255)), { minLength: 16, maxLength: 16 })
        .map((bytes) => ipFromBytes(Uint8Array.from(bytes))),
      inet_proto: fc.constantFrom('tcp', 'udp', 'sctp', '200'),
      inet_service: fc.nat(65535).map(String),
      mark: fc.nat(0xffffffff).map(String),
      classid: fc.tuple(fc.nat(0xffff), fc.nat(0xffff)).map((each) => each.map((n) => n.toString(16)).join(':')),
    };
    const fields = fc.array(fc.constantFrom(...(Object.keys(any) as Field[])), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(
        fields.chain((types) => fc.tuple(fc.constant(types), fc.tuple(...types.map((type) => any[type])))),
        ([types, texts]) => {
          const text = texts.join(' . ');
          assert.equal(decodeFields(types, bytesOf(types, text)), text);
        },
      ),
    );
  });

  it('read IPv6 in every notation, and refuse what is none', () => {
    for (const [text, canonical] of [
      ['::', '::'],
      ['::1', '::1'],
      ['1::', '1::'],
      ['FD00:0:0:0:0:0:0:0001', 'fd00::1'],
      ['::ffff:192.0.2.1', '::ffff:c000:201'],
      ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ] as const)
      assert.equal(decodeFields(['ipv6_addr'], bytesOf(['ipv6_addr'], text)), canonical);
    for (const text of [
      '',
      ':',
      ':1',
      '1:',
      '1::2:',
      '1:::2',
      '1::2::3',
      '12345::',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      'g::',
    ])
      assert.throws(() => bytesOf(['ipv6_addr'], text), text);
  });
});
