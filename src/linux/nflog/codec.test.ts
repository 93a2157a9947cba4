import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decodeMessages } from '../netlink/reader.ts';
import { MessageWriter } from '../netlink/writer.ts';
import { decodeLoggedPacket, encodeBind, NFULNL_MSG_PACKET } from './codec.ts';
import { decodePacketHeaders } from './packet-headers.ts';

/** A TCP SYN from 10.0.0.1:40000 to 10.0.0.2:80, header of 24 bytes (one word of options). */
const ipv4 = Buffer.from(
  `46000040123440004006000${'0'}0a0000010a00000201010101${'9c40'}${'0050'}0000000000000000a002faf000000000`,
  'hex',
);

function ipv6(next: number, ...rest: Buffer[]): Buffer {
  const body = Buffer.concat(rest);
  const head = Buffer.alloc(40);
  head.writeUInt8(0x60, 0);
  head.writeUInt16BE(body.length, 4);
  head.writeUInt8(next, 6);
  Buffer.from('fd00000000000000000000000000000a', 'hex').copy(head, 8);
  Buffer.from('fd00000000000000000000000000000b', 'hex').copy(head, 24);
  return Buffer.concat([head, body]);
}

const udp = Buffer.from('0035d43100080000', 'hex');

describe('headers', () => {
  test('IPv4 with options', () => {
    assert.deepEqual(decodePacketHeaders(ipv4), {
      source: '10.0.0.1',
      destination: '10.0.0.2',
      protocol: 6,
      sourcePort: 40000,
      destinationPort: 80,
    });
  });

  test('a later fragment has no ports', () => {
    const later = Buffer.from(ipv4);
    later.writeUInt16BE(0x00b9, 6);
    assert.equal(decodePacketHeaders(later)?.destinationPort, undefined);
    assert.equal(decodePacketHeaders(later)?.protocol, 6);
  });

  test('IPv6, plain and behind extension headers', () => {
    const plain = decodePacketHeaders(ipv6(17, udp));
    assert.deepEqual(plain, {
      source: 'fd00::a',
      destination: 'fd00::b',
      protocol: 17,
      sourcePort: 53,
      destinationPort: 54321,
    });
    const hopByHop = Buffer.from('2b00010400000000', 'hex');
    const routing = Buffer.from('1101000000000000ffffffffffffffff', 'hex');
    assert.deepEqual(decodePacketHeaders(ipv6(0, hopByHop, routing, udp)), plain);
    const firstFragment = Buffer.from('1100000100000001', 'hex');
    assert.deepEqual(decodePacketHeaders(ipv6(44, firstFragment, udp)), plain);
    const laterFragment = Buffer.from('1100010100000001', 'hex');
    assert.equal(decodePacketHeaders(ipv6(44, laterFragment, udp))?.destinationPort, undefined);
  });

  test('never throws, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(0x45, 0x4f, 0x60, 0x00), (bytes, first) => {
        bytes[0] = first;
        decodePacketHeaders(Buffer.from(bytes));
      }),
    );
  });
});

describe('messages', () => {
  const message = (write: (w: MessageWriter) => void) => {
    const writer = new MessageWriter();
    writer.message(NFULNL_MSG_PACKET).u8(2).u8(0).be16(7);
    write(writer);
    return decodeMessages(Buffer.from(writer.finish(1)))[0]!;
  };

  test('a packet', () => {
    const time = Buffer.alloc(16);
    time.writeBigUInt64BE(1_700_000_000n, 0);
    time.writeBigUInt64BE(250_000n, 8);
    const decoded = decodeLoggedPacket(
      message((w) => w.attr(3, time).attrBe32(4, 12).attrBe32(5, 13).attrString(10, 'ingress').attr(9, ipv4)),
    );
    assert.equal(decoded?.prefix, 'ingress');
    assert.equal(decoded?.timestamp, 1_700_000_000_250);
    assert.deepEqual([decoded?.inDevice, decoded?.outDevice], [12, 13]);
    assert.equal(decoded?.headers?.destinationPort, 80);
  });

  test('what is absent or another message', () => {
    assert.deepEqual(decodeLoggedPacket(message(() => {})), {
      prefix: '',
      timestamp: undefined,
      inDevice: undefined,
      outDevice: undefined,
      headers: undefined,
    });
    assert.equal(decodeLoggedPacket({ type: 3, flags: 0, sequence: 0, payload: Buffer.alloc(8) }), undefined);
    assert.equal(
      decodeLoggedPacket({ type: NFULNL_MSG_PACKET, flags: 0, sequence: 0, payload: Buffer.alloc(2) }),
      undefined,
    );
  });

  test('binding: the bytes that the kernel takes', () => {
    const writer = new MessageWriter();
    encodeBind(writer, 0x1234, 128);
    const [bind, mode] = decodeMessages(Buffer.from(writer.finish(1)));
    assert.equal(bind?.type, 0x401);
    assert.equal(bind?.payload.toString('hex'), '000012340500010001000000');
    assert.equal(
      mode?.payload.toString('hex'),
      `00001234${'0a000200'}00000080${'0200'}${'0000'}0800050000000001${'0800040000000001'}`,
    );
  });
});
