import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  Attributes,
  decodeAcknowledgement,
  decodeMac,
  decodeMessages,
  NLMSG_DONE,
  NLMSG_ERROR,
  parseMac,
} from './reader.ts';
import { HEADER_SIZE, MessageWriter, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST } from './writer.ts';

test('a message has its length, type, flags and sequence number', () => {
  const writer = new MessageWriter(1).message(24, NLM_F_CREATE).u32(7).attrU8(1, 9);
  const bytes = writer.finish(41, 'ack');
  // nlmsghdr: length 28, type 24, flags REQUEST|ACK|CREATE, sequence 41, port 0; then the body; then a padded attribute.
  assert.equal(bytes.toString('hex'), `1c0000001800050429000000${'00000000'}07000000${'0500010009000000'}`);
  const [message] = decodeMessages(bytes);
  assert.deepEqual(
    [message?.type, message?.flags, message?.sequence],
    [24, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 41],
  );
});

test('several messages get consecutive numbers and only the last asks for an answer', () => {
  const writer = new MessageWriter(1);
  for (let i = 0; i < 3; i++) writer.message(i).u8(i).attrString(1, `name${i}`);
  const messages = decodeMessages(writer.finish(0xffffffff, 'ack'));
  assert.deepEqual(
    messages.map((message) => [message.type, message.sequence, message.flags & NLM_F_ACK]),
    [
      [0, 0xffffffff, 0],
      [1, 0, 0],
      [2, 1, NLM_F_ACK],
    ],
  );
});

test('truncate forgets messages that could not be finished', () => {
  const writer = new MessageWriter().message(1).u32(1).message(2).u32(2);
  writer.truncate(1);
  writer.truncate(5);
  writer.message(3).u32(3);
  assert.deepEqual(
    decodeMessages(writer.finish(1)).map((message) => [message.type, message.payload.readUInt32LE()]),
    [
      [1, 1],
      [3, 3],
    ],
  );
});

test('a nest is padded for what follows it, and its own length is exact', () => {
  const writer = new MessageWriter().message(1);
  writer.nest(5, () => writer.u16(10).bytes(Buffer.alloc(16, 1))).attrU32(6, 99);
  const [message] = decodeMessages(writer.finish(1));
  const attributes = new Attributes(message!.payload);
  assert.equal(attributes.bytes(5)?.length, 18);
  assert.equal(attributes.u32(6), 99);
});

test('attributes of every type come back as they went in', () => {
  fc.assert(
    fc.property(
      fc.nat(255),
      fc.nat(65535),
      fc.nat(0xffffffff),
      fc.string({ unit: 'binary', maxLength: 40 }).filter((text) => !text.includes('\0') && text.isWellFormed()),
      fc.uint8Array({ maxLength: 70 }),
      (byte, short, long, text, raw) => {
        const writer = new MessageWriter(4).message(1);
        writer.attrU8(1, byte).attrU16(2, short).attrU32(3, long).attrBe16(4, short).attrBe32(5, long);
        writer.attrString(6, text).attr(7, raw).attrFlag(8);
        writer.nest(9, () => writer.attrU8(1, byte).nestPlain(2, () => writer.attrU32(1, long)));
        const attributes = new Attributes(decodeMessages(writer.finish(1))[0]!.payload);
        assert.deepEqual(
          [attributes.u8(1), attributes.u16(2), attributes.u32(3), attributes.be16(4), attributes.be32(5)],
          [byte, short, long, short, long],
        );
        assert.equal(attributes.string(6), text);
        assert.deepEqual(new Uint8Array(attributes.bytes(7)!), raw);
        assert.ok(attributes.has(8) && !attributes.has(10));
        assert.equal(attributes.nested(9)?.nested(2)?.u32(1), long);
      },
    ),
  );
});

test('values that are too short, and types that are absent, are undefined', () => {
  const writer = new MessageWriter().message(1).attrU8(1, 1).attr(2, Buffer.alloc(5)).attrFlag(3);
  const attributes = new Attributes(decodeMessages(writer.finish(1))[0]!.payload);
  assert.deepEqual(
    [attributes.u16(1), attributes.u32(1), attributes.be16(3), attributes.u8(3), attributes.i32(9)],
    Array(5).fill(undefined),
  );
  assert.deepEqual([attributes.ip(2), attributes.mac(2), attributes.nested(9)], Array(3).fill(undefined));
  assert.equal(attributes.string(3), '');
});

test('acknowledgements carry the kernel’s words where they are', () => {
  // Captured: RTM_NEWROUTE with host bits set, NETLINK_CAP_ACK and NETLINK_EXT_ACK on.
  const request = '1c0000001800050401000000000000000000';
  const capped = Buffer.alloc(20);
  capped.writeInt32LE(-22);
  Buffer.from(request, 'hex').copy(capped, 4, 0, 16);
  const words = new MessageWriter().message(1).attrString(1, 'Invalid prefix for given prefix length');
  const tlv = words.finish(1).subarray(HEADER_SIZE);
  const payload = Buffer.concat([capped, tlv]);
  assert.deepEqual(decodeAcknowledgement({ type: NLMSG_ERROR, flags: 0x300, sequence: 1, payload }), {
    errno: 22,
    message: 'Invalid prefix for given prefix length',
  });
  // Not capped: the whole request comes first.
  const uncapped = Buffer.concat([capped, Buffer.alloc(12), tlv]);
  assert.equal(
    decodeAcknowledgement({ type: NLMSG_ERROR, flags: 0x200, sequence: 1, payload: uncapped }).message,
    'Invalid prefix for given prefix length',
  );
  const done = Buffer.concat([Buffer.alloc(4), tlv]);
  assert.deepEqual(decodeAcknowledgement({ type: NLMSG_DONE, flags: 0x202, sequence: 1, payload: done }), {
    errno: 0,
    message: 'Invalid prefix for given prefix length',
  });
  assert.deepEqual(decodeAcknowledgement({ type: NLMSG_ERROR, flags: 0, sequence: 1, payload: Buffer.alloc(4) }), {
    errno: 0,
    message: undefined,
  });
});

test('no bytes make the decoder throw or hang', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(0xffff), (raw, flags) => {
      const bytes = Buffer.from(raw);
      const messages = decodeMessages(bytes);
      assert.ok(messages.length <= bytes.length / HEADER_SIZE);
      const attributes = new Attributes(bytes);
      for (let type = 0; type < 8; type++) {
        attributes.ip(type);
        attributes.string(type);
        attributes.nested(type)?.nested(type)?.u32(type);
      }
      decodeAcknowledgement({ type: flags & 1 ? NLMSG_ERROR : NLMSG_DONE, flags, sequence: 1, payload: bytes });
    }),
    { numRuns: 2000 },
  );
});

test('a header that claims less than itself, or more than there is, ends the decoding', () => {
  for (const length of [0, 15, 17, 0xffffffff]) {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt32LE(length);
    assert.deepEqual(decodeMessages(bytes), []);
  }
});

test('MAC addresses', () => {
  assert.equal(decodeMac(parseMac('02:00:5E:10:00:ff')), '02:00:5e:10:00:ff');
  for (const wrong of ['', '02:00:5e:10:00', '02:00:5e:10:00:ff:01', '0g:00:00:00:00:00', '020000000000']) {
    assert.throws(() => parseMac(wrong), TypeError);
  }
});
