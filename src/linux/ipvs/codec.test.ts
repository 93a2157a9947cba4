import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseIp } from '../../base/ip.ts';
import { decodeMessages, type NetlinkMessage } from '../netlink/reader.ts';
import { MessageWriter } from '../netlink/writer.ts';
import {
  decodeDestination,
  decodeService,
  encodeDestination,
  encodeService,
  encodeServiceDeletion,
  serviceKeyText,
  type VirtualService,
} from './codec.ts';

const STATS =
  '5c000a000800010000000000080002000000000008000300000000000c00040000000000000000000c0005000000000000000000080006000000000008000700000000000800080000000000080009000000000008000a00000000007c000c000c00010000000000000000000c00020000000000000000000c00030000000000000000000c00040000000000000000000c00050000000000000000000c00060000000000000000000c00070000000000000000000c00080000000000000000000c00090000000000000000000c000a000000000000000000';
/** Payloads of Linux 6.1 for what `ipvsadm -A -t 10.96.0.10:80 -s rr -p 300` and the like had made. */
const CAPTURED = {
  tcp: `010100002c01010006000100020000000600020006000000140003000a60000a000000000000000000000000060004000050000007000600727200000c00070003000000ffffffff080008002c01000008000900ffffffff${STATS}`,
  udp6: `010100002c010100060001000a000000060002001100000014000300fd00001000960000000000000000000a060004000035000007000600727200000c00070002000000ffffffff08000800000000000800090080000000${STATS}`,
  fwmark: `010100001001010006000100020000000800050000010020070006006d6800000c00070002000000ffffffff080008000000000008000900ffffffff${STATS}`,
  destination: `0501000050010200140001000af40002000000000000000000000000060002001f9000000800030000000000080004000100000005000d000000000006000e000000000006000f00000000000800050000000000080006000000000008000700000000000800080000000000080009000000000006000b0002000000${STATS}`,
  destination6: `050100005001020014000100fd0000100244000000000000000000020600020014e900000800030000000000080004000000000005000d000000000006000e000000000006000f00000000000800050000000000080006000000000008000700000000000800080000000000080009000000000006000b000a000000${STATS}`,
} as const;

const captured = (name: keyof typeof CAPTURED): NetlinkMessage => ({
  type: 0x20,
  flags: 0,
  sequence: 1,
  payload: Buffer.from(CAPTURED[name], 'hex'),
});

const FAMILY_ID = 0x20;
const web: VirtualService = {
  family: 4,
  protocol: 'tcp',
  address: parseIp('10.96.0.10'),
  port: 80,
  scheduler: 'rr',
  persistenceSeconds: 300,
};

describe('what the kernel says', () => {
  test('services, by address and by mark', () => {
    assert.deepEqual(decodeService(captured('tcp')), web);
    assert.deepEqual(decodeService(captured('udp6')), {
      family: 6,
      protocol: 'udp',
      address: 'fd00:10:96::a',
      port: 53,
      scheduler: 'rr',
      persistenceSeconds: undefined,
    });
    assert.deepEqual(decodeService(captured('fwmark')), {
      family: 4,
      fwmark: 0x20000100,
      scheduler: 'mh',
      persistenceSeconds: undefined,
    });
  });

  test('destinations', () => {
    const idle = { activeConnections: 0, inactiveConnections: 0 };
    assert.deepEqual(decodeDestination(captured('destination'), 4), {
      ...idle,
      address: '10.244.0.2',
      port: 8080,
      weight: 1,
    });
    assert.deepEqual(decodeDestination(captured('destination6'), 6), {
      ...idle,
      address: 'fd00:10:244::2',
      port: 5353,
      weight: 0,
    });
  });

  test('garbage is nothing, and never an exception', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        const message = { type: FAMILY_ID, flags: 0, sequence: 1, payload: Buffer.from(bytes) };
        for (const family of [4, 6] as const) decodeDestination(message, family);
        decodeService(message);
      }),
    );
  });
});

test('what is sent, byte by byte', () => {
  const bytes = (write: (writer: MessageWriter) => void) => {
    const writer = new MessageWriter();
    write(writer);
    return writer.finish(1, 'ack').toString('hex');
  };
  const head = (length: string) => `${length}000000200005000100000000000000`;
  const key = '06000100020000000600020006000000140003000a60000a0000000000000000000000000600040000500000';
  assert.equal(
    bytes((writer) => encodeService(writer, FAMILY_ID, 'newService', web)),
    `${head('68')}0101000054000180${key}07000600727200000c00070001000000ffffffff080008002c01000008000900ffffffff`,
  );
  assert.equal(
    bytes((writer) => encodeServiceDeletion(writer, FAMILY_ID, web)),
    `${head('44')}0301000030000180${key}`,
  );
  const server = { address: parseIp('10.244.0.2'), port: 8080, weight: 1 };
  assert.equal(
    bytes((writer) => encodeDestination(writer, FAMILY_ID, 'newDestination', web, server)),
    `${head('8c')}0501000030000180${key}48000280140001000af40002000000000000000000000000060002001f90000006000b000200000008000300000000000800040001000000` +
      '08000500000000000800060000000000',
  );
});

test('what is sent reads back as the same', () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6()).map(parseIp);
  fc.assert(
    fc.property(
      address,
      fc.constantFrom('tcp' as const, 'udp' as const),
      fc.integer({ min: 1, max: 65535 }),
      fc.option(fc.integer({ min: 1, max: 86400 }), { nil: undefined }),
      (text, protocol, port, persistenceSeconds) => {
        const family = text.includes(':') ? 6 : 4;
        const service: VirtualService = { family, protocol, address: text, port, scheduler: 'rr', persistenceSeconds };
        const writer = new MessageWriter();
        encodeService(writer, FAMILY_ID, 'setService', service);
        const [message] = decodeMessages(writer.finish(1));
        const decoded = decodeService(message!);
        assert.deepEqual(decoded, service);
        assert.equal(serviceKeyText(decoded!), `${text} . ${protocol} . ${port}`);
      },
    ),
  );
});
