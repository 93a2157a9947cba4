import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Node } from '../../kube/types.ts';
import { buildModel, type RouteMode, type RoutesModel } from './model.ts';
import { renderState, tunnelMac } from './render.ts';

interface NodeShape {
  readonly name: string;
  readonly cidrs?: readonly string[];
  readonly ips?: readonly string[];
  readonly created?: string;
}

function node({ name, cidrs, ips = [], created = '2026-01-01T00:00:00Z' }: NodeShape): Node {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, uid: name, resourceVersion: '1', creationTimestamp: created },
    spec: cidrs ? { podCIDR: cidrs[0]!, podCIDRs: [...cidrs] } : {},
    status: {
      addresses: [...ips.map((address) => ({ type: 'InternalIP', address })), { type: 'Hostname', address: name }],
    },
  };
}

const dual = (i: number): NodeShape => ({
  name: `n${i}`,
  cidrs: [`10.244.${i}.0/24`, `fd00:10:244:${i}::/64`],
  ips: [`172.18.0.${i + 1}`, `fd00:18::${i + 1}`],
});

function model(nodes: readonly NodeShape[], mode: RouteMode = 'vxlan'): RoutesModel {
  const result = buildModel(nodes.map(node), 'n1', mode);
  if ('waitingFor' in result) throw new Error(result.waitingFor);
  return result;
}

const underlay = { ifindex: 2, mtu: 1500, hasOwnAddress: true };
const settings = { vni: 1, port: 8472 };

test('a dual-stack VXLAN, whole', () => {
  assert.deepEqual(renderState(model([dual(2), dual(1)]), underlay, settings), {
    podMtu: 1450,
    device: {
      name: 'podwire.1',
      vni: 1,
      port: 8472,
      mac: '0e:57:0a:f4:01:00',
      mtu: 1450,
      local: '172.18.0.2',
      lower: 2,
    },
    addresses: ['10.244.1.0/32', 'fd00:10:244:1::/128'],
    neighbours: [
      { address: '10.244.2.0', mac: '0e:57:0a:f4:02:00' },
      { address: 'fd00:10:244:2::', mac: '0e:57:0a:f4:02:00' },
    ],
    fdb: [{ mac: '0e:57:0a:f4:02:00', destination: '172.18.0.3' }],
    routes: [
      { destination: '10.244.1.0/24', type: 'unreachable', overVxlan: false },
      { destination: '10.244.2.0/24', via: '10.244.2.0', type: 'unicast', overVxlan: true },
      { destination: 'fd00:10:244:1::/64', type: 'unreachable', overVxlan: false },
      { destination: 'fd00:10:244:2::/64', via: 'fd00:10:244:2::', type: 'unicast', overVxlan: true },
    ],
  });
});

test('host-gw, whole: no device, next hops are the nodes', () => {
  assert.deepEqual(renderState(model([dual(1), dual(2)], 'host-gw'), underlay, settings), {
    podMtu: 1500,
    device: undefined,
    addresses: [],
    neighbours: [],
    fdb: [],
    routes: [
      { destination: '10.244.1.0/24', type: 'unreachable', overVxlan: false },
      { destination: '10.244.2.0/24', via: '172.18.0.3', type: 'unicast', overVxlan: false },
      { destination: 'fd00:10:244:1::/64', type: 'unreachable', overVxlan: false },
      { destination: 'fd00:10:244:2::/64', via: 'fd00:18::3', type: 'unicast', overVxlan: false },
    ],
  });
});

test('an IPv6 underlay costs 70 bytes, and carries IPv4 pods', () => {
  const ipv6Only = (i: number): NodeShape => ({ ...dual(i), ips: [`fd00:18::${i + 1}`] });
  const state = renderState(model([ipv6Only(1), ipv6Only(2)]), underlay, settings);
  assert.equal(state.podMtu, 1430);
  assert.equal(state.device?.local, 'fd00:18::2');
  assert.deepEqual(state.fdb, [{ mac: '0e:57:0a:f4:02:00', destination: 'fd00:18::3' }]);
  const plain = renderState(model([ipv6Only(1), ipv6Only(2)], 'host-gw'), underlay, settings);
  assert.equal(plain.routes.find(({ destination }) => destination === '10.244.2.0/24')?.via, 'fd00:18::3');
});

const waiting: [string, NodeShape[], RegExp][] = [
  ['no Node', [dual(2)], /does not exist/],
  ['no podCIDR', [{ name: 'n1', ips: ['172.18.0.2'] }], /has no podCIDR/],
  ['no address', [{ name: 'n1', cidrs: ['10.244.1.0/24'] }], /has no InternalIP/],
  ['a podCIDR that is none', [{ name: 'n1', cidrs: ['10.244.1.0/99'], ips: ['172.18.0.2'] }], /not a CIDR/],
];
for (const [what, nodes, expected] of waiting) {
  test(`nothing is done while the own node has ${what}`, () => {
    const result = buildModel(nodes.map(node), 'n1', 'vxlan');
    assert.match('waitingFor' in result ? result.waitingFor : '', expected);
  });
}

const skips: [string, NodeShape, RouteMode, RegExp][] = [
  ['no podCIDR', { name: 'x', ips: ['172.18.0.9'] }, 'vxlan', /no podCIDR/],
  ['no address', { name: 'x', cidrs: ['10.244.9.0/24'] }, 'vxlan', /no InternalIP/],
  ['garbage as address', { name: 'x', cidrs: ['10.244.9.0/24'], ips: ['172.18.0.999'] }, 'vxlan', /not an IP address/],
  ['two podCIDRs of a family', { ...dual(9), cidrs: ['10.1.0.0/24', '10.2.0.0/24'] }, 'vxlan', /more than one podCIDR/],
  ['host bits in its podCIDR', { ...dual(9), cidrs: ['10.244.9.1/24'] }, 'vxlan', /host bits/],
  ['the podCIDR of another node', { ...dual(9), cidrs: ['10.244.2.0/25'] }, 'vxlan', /overlaps with n2/],
  ['the own podCIDR', { ...dual(9), cidrs: ['10.244.0.0/16'] }, 'vxlan', /overlaps with n1/],
  [
    'the address of another node',
    { ...dual(9), ips: ['172.18.0.3'] },
    'vxlan',
    /claims the address 172\.18\.0\.3 of n2/,
  ],
  ['no address of the tunnel family', { ...dual(9), ips: ['fd00:18::9'] }, 'vxlan', /no IPv4 InternalIP/],
  ['no way for IPv6', { ...dual(9), ips: ['172.18.0.9'] }, 'host-gw', /fd00:10:244:9::\/64 can be routed/],
];
for (const [what, bad, mode, expected] of skips) {
  test(`a node with ${what} is left out, the others stay`, () => {
    const created = '2026-02-01T00:00:00Z';
    const result = model([dual(1), dual(2), { created, ...bad, name: bad.name }], mode);
    assert.deepEqual(
      result.peers.map(({ name }) => name),
      ['n2'],
    );
    assert.match(result.skipped[0]?.reason ?? '', expected);
  });
}

test('the older of two nodes keeps a podCIDR', () => {
  const younger = { ...dual(9), name: 'a', cidrs: ['10.244.2.0/24'], created: '2026-03-01T00:00:00Z' };
  assert.deepEqual(
    model([dual(1), younger, dual(2)]).peers.map(({ name }) => name),
    ['n2'],
  );
});

test('property: the order of Nodes does not matter', () => {
  const nodes = Array.from({ length: 6 }, (_, i) => dual(i + 1));
  const expected = JSON.stringify(renderState(model(nodes), underlay, settings));
  fc.assert(
    fc.property(fc.shuffledSubarray(nodes, { minLength: nodes.length }), (shuffled) => {
      assert.equal(JSON.stringify(renderState(model(shuffled), underlay, settings)), expected);
    }),
  );
});

test('tunnel MACs are locally administered, unicast and distinct', () => {
  const shapes = Array.from({ length: 250 }, (_, i) => dual(i + 1));
  const ipv6 = shapes.map((shape) => ({ ...shape, cidrs: [shape.cidrs![1]!] }));
  for (const set of [shapes, ipv6]) {
    const result = model(set);
    const macs = [result.self, ...result.peers].map(tunnelMac);
    assert.equal(new Set(macs).size, macs.length);
    for (const mac of macs) assert.equal(Number.parseInt(mac.slice(0, 2), 16) & 3, 2);
  }
});
