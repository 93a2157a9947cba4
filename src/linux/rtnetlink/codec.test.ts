import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIp } from '../../base/ip.ts';
import { decodeFlow, encodeDeleteFlow } from '../conntrack/codec.ts';
import { decodeMessages } from '../netlink/reader.ts';
import { MessageWriter } from '../netlink/writer.ts';
import { decodeAddress, encodeNewAddress } from './addresses.ts';
import { decodeLink, encodeNewBridge } from './links.ts';
import { decodeEvent } from './monitor.ts';
import { decodeFdb, decodeNeighbour, encodeNewFdb, encodeReplaceNeighbour } from './neighbours.ts';
import { describeOperation, encodeOperation, isDeletion, type Operation } from './operations.ts';
import { type Device, parsePrefixed } from './protocol.ts';
import { decodeRoute, encodeNewRoute, type RouteSpec } from './routes.ts';
import { decodeRule, encodeNewRule } from './rules.ts';

/** Payloads that Linux 6.18 sent for objects that iproute2 had made; what iproute2 said about them stands beside. */
const CAPTURED = {
  // ip -d link show vx1: 02:00:00:00:00:aa mtu 1450 up, vxlan id 42 local 192.0.2.1 dstport 4789 nolearning (start only)
  link:
    '00000100020000004310010000000000080003007678310008000d00e80300000500100000000000050011000000000008000400aa05000' +
    '008001b000000000008001f00010000000a0001000200000000aa00000a000200ffffffffffff00005c00120' +
    '00a00010076786c616e0000004c000200080001002a00000008000400c00002010500050000000000050007000000000006000f0012b50000' +
    '050012000100000005001300000000000500140000000000050015000000000005001600000000',
  // ip addr add 192.0.2.1/24 dev vx1 scope link
  address4:
    '021880fd0200000008000100c000020108000200c00002010800030076783100080008008000000014000600ffffffffffffffff1fd40300' +
    '1fd40300',
  // ip addr add fd00::1/64 dev vx1 nodad
  address6:
    '0a4082000200000014000100fd00000000000000000000000000000114000600ffffffffffffffff20d4030020d40300080008008200' +
    '0000',
  // ip route add 10.1.0.0/24 via 192.0.2.2 dev vx1 mtu 1400 metric 7 proto 112 onlink
  route4:
    '02180000fe7000010400000008000f00fe000000080001000a01000008000600070000000c000800080002007805000008000500c0000202' +
    '0800040002000000',
  // ip -6 route add fd01::/64 proto 112 nexthop via fd00::2 dev vx1 weight 3 nexthop via fd00::3 dev vx1
  route6:
    '0a400000fe7000010000000008000f00fe00000014000100fd01000000000000000000000000000008000600000400003c0009001c000002' +
    '0200000014000500fd0000000000000000000000000000021c0000000200000014000500fd000000000000000000000000000003' +
    '24000c0000000000000000000000000000000000000000000000000000000000000000000500140000000000',
  // ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:bb dev vx1 nud permanent
  neighbour:
    '02000000020000008000000108000100c00002020a0002000200000000bb0000080004000000000014000300050000000500000005000000' +
    '00000000',
  // bridge fdb append 02:00:00:00:00:bb dev vx1 dst 198.51.100.7
  fdb: '0700000002000000c00002010a0002000200000000bb000008000100c6336407140003000000000004000000040000000000' + '0000',
  // ip rule add fwmark 0x1/0xff table 100 priority 50 (iproute2 6.1 gives it protocol boot, 3)
  rule:
    '02000000640000010000000008000f006400000008000e00ffffffff0500150000000000080006003200000008000a000100000008001000' +
    'ff000000',
  // conntrack: udp 192.0.2.1:2000 -> 192.0.2.1:53
  flow:
    '02000000340001801400018008000100c000020108000200c00002011c000280050001001100000006000200' +
    '07d000000600030000350000340002801400018008000100c000020108000200c00002011c000280050001001100000006000200' +
    '003500000600030007d000000800030000000008080008000000000008000c009434587a08000b0000000001080007000000001d',
} as const;

const captured = (name: keyof typeof CAPTURED): Buffer => Buffer.from(CAPTURED[name], 'hex');
const resolve = (device: Device): number => (typeof device === 'number' ? device : 1);

/** What an encoder wrote, as the payload that a decoder takes. */
function payloadOf(encode: (w: MessageWriter) => void): Buffer {
  const writer = new MessageWriter();
  encode(writer);
  const messages = decodeMessages(writer.finish(1));
  assert.equal(messages.length, 1);
  return messages[0]!.payload;
}

test('captured link', () => {
  const link = decodeLink(captured('link'));
  assert.deepEqual(
    [link?.ifindex, link?.name, link?.mac, link?.mtu, link?.up, link?.carrier, link?.kind],
    [2, 'vx1', '02:00:00:00:00:aa', 1450, true, true, 'vxlan'],
  );
  assert.deepEqual(link?.vxlan, {
    vni: 42,
    port: 4789,
    local: '192.0.2.1',
    device: undefined,
    learning: false,
    udpChecksum: true,
    zeroChecksum6Tx: false,
    zeroChecksum6Rx: false,
  });
});

test('captured addresses', () => {
  const v4 = decodeAddress(captured('address4'));
  assert.deepEqual(
    [v4?.address, v4?.prefix, v4?.scope, v4?.label, v4?.peer, v4?.permanent],
    ['192.0.2.1', 24, 'link', 'vx1', undefined, true],
  );
  const v6 = decodeAddress(captured('address6'));
  assert.deepEqual(
    [v6?.address, v6?.prefix, v6?.scope, v6?.tentative, v6?.permanent],
    ['fd00::1', 64, 'universe', false, true],
  );
});

test('captured routes', () => {
  assert.deepEqual(decodeRoute(captured('route4')), {
    family: 4,
    destination: '10.1.0.0/24',
    via: '192.0.2.2',
    ifindex: 2,
    source: undefined,
    scope: 'universe',
    metric: 7,
    mtu: 1400,
    table: 254,
    protocol: 112,
    type: 'unicast',
    onlink: true,
    nexthops: [],
  });
  const v6 = decodeRoute(captured('route6'));
  assert.deepEqual([v6?.destination, v6?.metric, v6?.via], ['fd01::/64', 1024, undefined]);
  assert.deepEqual(v6?.nexthops, [
    { via: 'fd00::2', ifindex: 2, weight: 3, onlink: false },
    { via: 'fd00::3', ifindex: 2, weight: 1, onlink: false },
  ]);
});

test('captured neighbour, forwarding entry and rule', () => {
  assert.deepEqual(decodeNeighbour(captured('neighbour')), {
    family: 4,
    ifindex: 2,
    address: '192.0.2.2',
    mac: '02:00:00:00:00:bb',
    state: 'permanent',
    proxy: false,
  });
  const fdb = decodeFdb(captured('fdb'));
  assert.deepEqual([fdb?.mac, fdb?.destination, fdb?.self], ['02:00:00:00:00:bb', '198.51.100.7', true]);
  const rule = decodeRule(captured('rule'));
  assert.deepEqual(
    [rule?.priority, rule?.mark, rule?.markMask, rule?.table, rule?.suppressPrefixLength, rule?.action],
    [50, 1, 0xff, 100, undefined, 'table'],
  );
});

test('captured flow', () => {
  const flow = decodeFlow({ type: 0x100, flags: 2, sequence: 1, payload: captured('flow') });
  assert.deepEqual(
    [flow?.protocol, flow?.orig.sourcePort, flow?.orig.destinationPort, flow?.reply.sourcePort, flow?.timeout],
    ['udp', 2000, 53, 53, 29],
  );
  assert.equal(flow?.id, 0x9434587a);
});

test('captured bytes, cut off anywhere or with any byte changed, never throw', () => {
  const decoders = [decodeLink, decodeAddress, decodeRoute, decodeNeighbour, decodeFdb, decodeRule];
  const names = Object.keys(CAPTURED) as (keyof typeof CAPTURED)[];
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.nat(500), fc.nat(500), fc.nat(255), (name, length, at, value) => {
      const bytes = captured(name);
      bytes[at % bytes.length] = value;
      const part = bytes.subarray(0, length % (bytes.length + 1));
      for (const decode of decoders) decode(part);
      for (let type = 16; type < 36; type++) decodeEvent({ type, flags: 0, sequence: 0, payload: part });
      decodeFlow({ type: 0x100, flags: 0, sequence: 0, payload: part });
    }),
    { numRuns: 3000 },
  );
});

test('garbage gives undefined or an object, never an exception', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat(40), (raw, type) => {
      decodeEvent({ type, flags: 0, sequence: 0, payload: Buffer.from(raw) });
      decodeFlow({ type: 0x100 + (type % 3), flags: 0, sequence: 0, payload: Buffer.from(raw) });
    }),
    { numRuns: 2000 },
  );
});

const family = fc.constantFrom(4 as const, 6 as const);
/** A network address with clear host bits, as text with its prefix, and an address of the same family. */
const network = family.chain((f) => {
  const bits = f === 4 ? 32 : 128;
  return fc
    .record({ prefix: fc.nat(bits), value: fc.bigInt(0n, (1n << BigInt(bits)) - 1n), hop: fc.bigInt(1n, 0xffffffffn) })
    .map(({ prefix, value, hop }) => {
      const shift = BigInt(bits - prefix);
      return {
        family: f,
        destination: `${formatIp(f, (value >> shift) << shift)}/${prefix}`,
        address: formatIp(f, hop),
      };
    });
});

test('routes come back as they were asked for', () => {
  fc.assert(
    fc.property(
      network,
      fc.record({
        metric: fc.nat(0xffffffff),
        mtu: fc.integer({ min: 68, max: 65535 }),
        table: fc.integer({ min: 1, max: 0xffffffff }),
        protocol: fc.integer({ min: 4, max: 255 }),
        onlink: fc.boolean(),
        device: fc.integer({ min: 1, max: 1000 }),
        type: fc.constantFrom('unicast' as const, 'blackhole' as const, 'unreachable' as const),
        scope: fc.constantFrom('universe' as const, 'link' as const, 'host' as const),
      }),
      (net, rest) => {
        const spec: RouteSpec = { destination: net.destination, via: net.address, source: net.address, ...rest };
        const { device, ...same } = rest;
        assert.deepEqual(decodeRoute(payloadOf((w) => encodeNewRoute(w, 'replace', spec, resolve))), {
          ...same,
          family: net.family,
          destination: net.destination,
          via: net.address,
          source: net.address,
          ifindex: device,
          nexthops: [],
        });
      },
    ),
  );
});

test('a route of one family through a gateway of the other comes back', () => {
  const spec: RouteSpec = { destination: '10.0.0.0/8', via: 'fe80::1', device: 3, onlink: true };
  const route = decodeRoute(payloadOf((w) => encodeNewRoute(w, 'add', spec, resolve)));
  assert.deepEqual([route?.via, route?.ifindex, route?.onlink], ['fe80::1', 3, true]);
  const many: RouteSpec = { destination: '10.0.0.0/8', nexthops: [{ via: 'fe80::1', device: 3, weight: 256 }] };
  assert.deepEqual(decodeRoute(payloadOf((w) => encodeNewRoute(w, 'add', many, resolve)))?.nexthops, [
    { via: 'fe80::1', ifindex: 3, weight: 256, onlink: false },
  ]);
});

test('neighbours, forwarding entries, addresses and rules come back', () => {
  fc.assert(
    fc.property(network, fc.integer({ min: 1, max: 1000 }), fc.nat(0xffffffff), (net, device, number) => {
      const mac = '02:00:00:00:00:01';
      const { address } = net;
      const neighbour = decodeNeighbour(payloadOf((w) => encodeReplaceNeighbour(w, { device, address, mac }, resolve)));
      assert.deepEqual(neighbour, {
        family: net.family,
        ifindex: device,
        address,
        mac,
        state: 'permanent',
        proxy: false,
      });
      const spec = { device, mac, destination: address, port: 4789, vni: 77 };
      const fdb = decodeFdb(payloadOf((w) => encodeNewFdb(w, 'append', spec, resolve)));
      assert.deepEqual([fdb?.destination, fdb?.port, fdb?.vni, fdb?.self], [address, 4789, 77, true]);
      const local = decodeAddress(
        payloadOf((w) => encodeNewAddress(w, 'add', { device, address: `${address}/24`, scope: 'link' }, resolve)),
      );
      assert.deepEqual([local?.address, local?.prefix, local?.scope, local?.ifindex], [address, 24, 'link', device]);
      const rule = {
        family: net.family,
        priority: number,
        mark: number,
        markMask: number,
        table: number,
        source: net.destination,
        destination: net.destination,
        inputDevice: 'eth0',
        invert: true,
      };
      const decoded = decodeRule(payloadOf((w) => encodeNewRule(w, rule)));
      assert.deepEqual(decoded, {
        ...rule,
        outputDevice: undefined,
        suppressPrefixLength: undefined,
        action: 'table',
        protocol: 112,
      });
    }),
  );
});

test('a deletion of a flow names its original tuple', () => {
  const flow = decodeFlow({ type: 0x100, flags: 2, sequence: 1, payload: captured('flow') })!;
  const bytes = payloadOf((w) => encodeDeleteFlow(w, flow));
  // The kernel's own encoding of the same tuple is the beginning of what it sent.
  assert.equal(
    bytes.subarray(4, 4 + 0x34).toString('hex'),
    captured('flow')
      .subarray(4, 4 + 0x34)
      .toString('hex'),
  );
});

test('names of interfaces are checked before the kernel sees them', () => {
  for (const name of ['', 'sixteen-bytes-xx', 'ümlauts-ümlauts']) {
    assert.throws(() => payloadOf((w) => encodeNewBridge(w, { name }, resolve)), TypeError);
  }
});

test('prefixes are checked', () => {
  assert.deepEqual(parsePrefixed('10.0.0.1'), { address: '10.0.0.1', family: 4, prefix: 32 });
  assert.deepEqual(parsePrefixed('::/0'), { address: '::', family: 6, prefix: 0 });
  for (const wrong of ['10.0.0.0/33', '::/129', '10.0.0.0/-1', '10.0.0.0/1.5', '10.0.0.0/x']) {
    assert.throws(() => parsePrefixed(wrong), TypeError);
  }
});

test('every operation encodes to one message and has words', () => {
  const route = { destination: '10.0.0.0/8', via: '192.0.2.1', device: 2 };
  const address = { device: 2, address: '192.0.2.1/24' };
  const neighbour = { device: 2, address: '192.0.2.1', mac: '02:00:00:00:00:01' };
  const fdb = { device: 2, mac: '02:00:00:00:00:01', destination: '192.0.2.1' };
  const rule = { family: 4, priority: 1, table: 5 } as const;
  const operations: Operation[] = [
    { op: 'addRoute', route },
    { op: 'replaceRoute', route },
    { op: 'appendRoute', route },
    { op: 'deleteRoute', route },
    { op: 'addAddress', address },
    { op: 'replaceAddress', address },
    { op: 'deleteAddress', address },
    { op: 'replaceNeighbour', neighbour },
    { op: 'deleteNeighbour', neighbour },
    { op: 'replaceFdb', fdb },
    { op: 'appendFdb', fdb },
    { op: 'deleteFdb', fdb },
    { op: 'addRule', rule },
    { op: 'deleteRule', rule },
    { op: 'setLink', device: 2, changes: { up: true, netns: 3 } },
    { op: 'deleteLink', device: 2 },
  ];
  for (const operation of operations) {
    payloadOf((w) => encodeOperation(w, operation, resolve));
    assert.match(describeOperation(operation), /^(add|replace|append|delete|set) [a-z]+ /);
    assert.equal(isDeletion(operation), /^delete /.test(describeOperation(operation)));
  }
  assert.equal(describeOperation(operations[1]!), 'replace route 10.0.0.0/8 via 192.0.2.1 dev 2');
});
