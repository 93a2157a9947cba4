import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Conntrack, type ConntrackEvent, type ConntrackFilter } from '../../src/linux/conntrack.ts';
import { check, libc } from '../../src/linux/libc.ts';
import type { NetworkNamespace } from '../../src/linux/netns.ts';
import { hasLibnftables, Nftables } from '../../src/linux/nftables.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { bindUdp, closeFd, encodeSocketAddress } from '../../src/linux/sockets.ts';
import { namespaces, skip as needsRoot } from './linux-fixture.ts';

const skip = needsRoot || (hasLibnftables() ? false : 'needs libnftables (Debian: libnftables1)');
const make = namespaces();

const FAMILIES = [
  { family: 4, client: '192.0.2.1', service: '10.96.0.10', other: '10.96.0.11', ends: ['192.0.2.11', '192.0.2.12'] },
  { family: 6, client: 'fd00::1', service: 'fd96::10', other: 'fd96::11', ends: ['fd00::11', 'fd00::12'] },
] as const;
type Addresses = (typeof FAMILIES)[number];

/** A namespace in which `service` port 53 is sent on to ends[0] and `other` to ends[1], all on a veth without a far side. */
function cluster(name: string, { family, client, service, other, ends }: Addresses): NetworkNamespace {
  const ns = make(name);
  using links = Rtnetlink.open(ns);
  links.createVeth({ name: 'v0', up: true, peer: { name: 'v1', up: true } });
  for (const address of [client, ...ends]) links.addAddress({ device: 'v0', address, nodad: true });
  links.replaceRoute({ destination: family === 4 ? '10.96.0.0/16' : 'fd96::/64', device: 'v0', source: client });
  using nft = Nftables.open(ns);
  const [ip, type] = family === 4 ? ['ip', 'ipv4_addr'] : ['ip6', 'ipv6_addr'];
  nft.run(`table ${ip} t {
    map m { type ${type} : ${type}; elements = { ${service} : ${ends[0]}, ${other} : ${ends[1]} }; }
    chain c { type nat hook output priority -100; udp dport 53 dnat to ${ip} daddr map @m; }
  }`);
  return ns;
}

/** Sends one UDP packet from each port in turn, so that a flow per port exists. */
function send(ns: NetworkNamespace, from: string, ports: readonly number[], to: string): void {
  for (const port of ports) {
    const fd = bindUdp({ ns, address: from, port });
    try {
      const target = encodeSocketAddress(to, 53);
      check('connect', libc.connect(fd, target, target.length));
      check('send', libc.send(fd, Buffer.from('?'), 1, 0));
    } finally {
      closeFd(fd);
    }
  }
}

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);

for (const addresses of FAMILIES) {
  const { family, client, service, other, ends } = addresses;

  test(`IPv${family}: list, count and flush`, { skip }, () => {
    const ns = cluster(`list${family}`, addresses);
    using conntrack = Conntrack.open(ns);
    send(ns, client, range(2000, 5), service);
    send(ns, client, range(3000, 3), other);
    assert.equal(conntrack.list({ protocol: 'udp' }).length, 8);
    const [flow] = conntrack.list({ family, origSourcePort: 2000 });
    assert.deepEqual(
      [flow?.protocol, flow?.orig.source, flow?.orig.destination, flow?.orig.destinationPort, flow?.reply.source],
      ['udp', client, service, 53, ends[0]],
    );
    assert.ok((flow?.timeout ?? 0) > 0);
    assert.ok(conntrack.count() >= 8);
    conntrack.flush();
    assert.deepEqual(conntrack.list({ protocol: 'udp' }), []);
  });

  const cases: { name: string; filter: ConntrackFilter; left: number }[] = [
    { name: 'service and endpoint', filter: { origDestination: service, replySource: ends[0] }, left: 3 },
    { name: 'service', filter: { origDestination: other }, left: 5 },
    { name: 'endpoint', filter: { replySource: ends[1], replySourcePort: 53 }, left: 5 },
    {
      name: 'endpoint that the service does not have',
      filter: { origDestination: service, replySource: ends[1] },
      left: 8,
    },
    { name: 'port', filter: { origDestinationPort: 53, protocol: 'udp' }, left: 0 },
    { name: 'another port', filter: { origDestinationPort: 54, protocol: 'udp' }, left: 8 },
    { name: 'another protocol', filter: { origDestination: service, protocol: 'tcp' }, left: 8 },
    { name: 'client and its port', filter: { origSource: client, origSourcePort: 2003, protocol: 'udp' }, left: 7 },
    { name: 'zone', filter: { zone: 7 }, left: 8 },
    { name: 'the default zone', filter: { zone: 0, origDestination: service }, left: 3 },
    { name: 'a port without a protocol', filter: { origSourcePort: 2001 }, left: 7 },
  ];
  test(`IPv${family}: delete by filter`, { skip }, async (t) => {
    const ns = cluster(`delete${family}`, addresses);
    using conntrack = Conntrack.open(ns);
    for (const { name, filter, left } of cases) {
      await t.test(name, () => {
        conntrack.flush();
        send(ns, client, range(2000, 5), service);
        send(ns, client, range(3000, 3), other);
        conntrack.delete({ family, ...filter });
        assert.equal(conntrack.list({ family, protocol: 'udp' }).length, left);
      });
    }
  });

  test(`IPv${family}: delete by tuple`, { skip }, () => {
    const ns = cluster(`tuple${family}`, addresses);
    using conntrack = Conntrack.open(ns);
    send(ns, client, range(2000, 5), service);
    const flows = conntrack.list({ protocol: 'udp' });
    assert.equal(conntrack.deleteFlow(flows[0]!), true);
    assert.equal(conntrack.deleteFlow(flows[0]!), false);
    conntrack.deleteFlows(flows);
    assert.deepEqual(conntrack.list({ protocol: 'udp' }), []);
  });

  test(`IPv${family}: events tell when flows begin and end`, { skip }, async () => {
    const ns = cluster(`events${family}`, addresses);
    using conntrack = Conntrack.open(ns);
    const seen: ConntrackEvent[] = [];
    const ended = Promise.withResolvers<void>();
    const monitor = conntrack.subscribe(
      (event) => {
        if (event.flow.protocol !== 'udp') return;
        seen.push(event);
        if (event.type === 'destroy') ended.resolve();
      },
      () => ended.reject(new Error('resync')),
    );
    try {
      send(ns, client, [2000], service);
      const [flow] = conntrack.list({ protocol: 'udp' });
      conntrack.deleteFlow(flow!);
      await ended.promise;
      assert.deepEqual(
        seen.map((event) => [event.type, event.flow.orig.destination, event.flow.reply.source]),
        [
          ['new', service, ends[0]],
          ['destroy', service, ends[0]],
        ],
      );
      assert.equal(seen[0]!.flow.id, flow!.id);
    } finally {
      monitor.close();
    }
  });
}

test('an empty filter is refused', { skip }, () => {
  using conntrack = Conntrack.open(make('empty'));
  assert.throws(() => conntrack.delete({}), TypeError);
});

test('an entry that an event told of can be deleted from it, without a list', { skip }, async () => {
  const ns = cluster('indexed', FAMILIES[0]);
  using conntrack = Conntrack.open(ns);
  const begun = Promise.withResolvers<ConntrackEvent>();
  const monitor = conntrack.subscribe(begun.resolve, () => {});
  try {
    send(ns, FAMILIES[0].client, [2000], FAMILIES[0].service);
    const { flow } = await begun.promise;
    assert.equal(conntrack.deleteFlow(flow), true);
    assert.deepEqual(conntrack.list({ protocol: 'udp' }), []);
  } finally {
    monitor.close();
  }
});
