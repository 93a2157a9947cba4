import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type IpAddress, parseIp } from '../../base/ip.ts';
import { silentLogger } from '../../base/log.ts';
import type { EndpointSlice, Node, Service } from '../../kube/types.ts';
import { type AnnouncedAddress, buildAddresses, isCandidate, mergeAddresses } from './model.ts';
import { Peers } from './peers.ts';
import { electNode, renderOwned } from './render.ts';
import { renderUnusedPorts, UnusedPorts } from './unused-ports.ts';

const meta = (name: string, namespace = 'default') => ({
  name,
  namespace,
  uid: name,
  resourceVersion: '1',
  creationTimestamp: '2026-01-01T00:00:00Z',
});

function service(spec: Partial<Service['spec']>, ips: readonly string[], ipMode = 'VIP'): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: meta('web'),
    spec: { type: 'LoadBalancer', ports: [{ port: 80 }], ...spec },
    status: { loadBalancer: { ingress: ips.map((ip) => ({ ip, ipMode })) } },
  };
}

type Conditions = { ready?: boolean; serving?: boolean; terminating?: boolean };
const slice = (
  addressType: string,
  endpoints: readonly (readonly [string | undefined, Conditions])[],
): EndpointSlice => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: meta('web-1'),
  addressType,
  endpoints: endpoints.map(([nodeName, conditions]) => ({
    addresses: ['x'],
    conditions,
    ...(nodeName ? { nodeName } : {}),
  })),
});

const addressesOf = (one: Service, slices: readonly EndpointSlice[] = []) =>
  buildAddresses(one, slices).map(({ address, nodes }) => [address, nodes && [...nodes].sort()]);

test('addresses of load balancers of our class are announced, others are not', () => {
  const both = ['172.18.200.1', 'FD00:18::C8:1'];
  assert.deepEqual(addressesOf(service({}, both)), [
    ['172.18.200.1', undefined],
    ['fd00:18::c8:1', undefined],
  ]);
  assert.equal(addressesOf(service({ loadBalancerClass: 'podwire.io/lb' }, both)).length, 2);
  assert.deepEqual(addressesOf(service({ loadBalancerClass: 'example.com/other' }, both)), []);
  assert.deepEqual(addressesOf(service({ type: 'ClusterIP' }, both)), []);
  assert.deepEqual(addressesOf(service({}, both, 'Proxy')), []);
  assert.deepEqual(addressesOf(service({}, ['not an address'])), []);
  const plain = service({}, both);
  const going = { ...plain, metadata: { ...plain.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } };
  assert.deepEqual(addressesOf(going), []);
});

test('policy Local: only nodes with ready endpoints of the family, or draining ones where nothing is ready', () => {
  const local = service({ externalTrafficPolicy: 'Local' }, ['172.18.200.1', 'fd00:18::c8:1']);
  const draining = { ready: false, serving: true, terminating: true };
  const slices = [
    slice('IPv4', [
      ['a', { ready: true }],
      ['b', draining],
      ['c', {}],
      [undefined, { ready: true }],
    ]),
    slice('IPv6', [
      ['b', draining],
      ['d', { ready: false }],
    ]),
  ];
  assert.deepEqual(addressesOf(local, slices), [
    ['172.18.200.1', ['a', 'c']],
    ['fd00:18::c8:1', ['b']],
  ]);
});

test('an address of two Services may be answered only where both allow it', () => {
  const address = parseIp('172.18.200.1');
  const one = (service: string, nodes?: readonly string[]): AnnouncedAddress => ({
    address,
    family: 4,
    service,
    ...(nodes ? { nodes: new Set(nodes) } : {}),
  });
  const nodesOf = (...lists: AnnouncedAddress[][]) => mergeAddresses(lists).get(address)?.nodes;
  assert.equal(nodesOf([one('x')], [one('y')]), undefined);
  assert.deepEqual(nodesOf([one('x')], [one('y', ['a'])]), new Set(['a']));
  assert.deepEqual(nodesOf([one('x', ['a', 'b'])], [one('y', ['b', 'c'])]), new Set(['b']));
});

test('candidates are Ready and not excluded', () => {
  const node = (status: string, labels: Record<string, string> = {}): Node => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { ...meta('n'), labels },
    spec: {},
    status: { conditions: [{ type: 'Ready', status }] },
  });
  assert.equal(isCandidate(node('True')), true);
  assert.equal(isCandidate(node('Unknown')), false);
  assert.equal(isCandidate(node('True', { 'node.kubernetes.io/exclude-from-external-load-balancers': '' })), false);
});

const nodeNames = fc.uniqueArray(fc.stringMatching(/^node-[0-9]{1,3}$/), { minLength: 1, maxLength: 20 });
const addresses = Array.from({ length: 200 }, (_, i) => parseIp(`172.18.200.${i}`));
const announced = new Map(addresses.map((address) => [address, { address, family: 4 as const, service: 'x' }]));

test('every address has exactly one node, whatever the order of the nodes', () => {
  fc.assert(
    fc.property(nodeNames, (nodes) => {
      const owners = nodes.flatMap((node) => renderOwned(announced, nodes, node));
      assert.deepEqual(owners.sort(), [...addresses].sort());
      assert.equal(
        electNode(announced.get(addresses[0]!)!, nodes),
        electNode(announced.get(addresses[0]!)!, nodes.toReversed()),
      );
    }),
    { numRuns: 30 },
  );
});

test('a node that goes moves its own addresses only, and the shares are even', () => {
  const nodes = Array.from({ length: 10 }, (_, i) => `node-${i + 1}`);
  const before = new Map(addresses.map((address) => [address, electNode(announced.get(address)!, nodes)]));
  const left = nodes.slice(1);
  for (const address of addresses) {
    const after = electNode(announced.get(address)!, left);
    if (before.get(address) !== 'node-1') assert.equal(after, before.get(address));
  }
  const shares = nodes.map((node) => [...before.values()].filter((owner) => owner === node).length);
  assert.ok(Math.min(...shares) >= 8 && Math.max(...shares) <= 36, `shares of 20 on average: ${shares}`);
});

test('a node that is not alive owns nothing; where no node may answer nobody does', () => {
  assert.deepEqual(renderOwned(announced, ['a'], 'b'), []);
  assert.equal(electNode({ address: addresses[0]!, family: 4, service: 'x', nodes: new Set() }, ['a']), undefined);
});

test('peers live while they are heard, and are believed in at first', () => {
  const peers = new Peers(1000);
  const names = new Set(['a', 'b', 'c']);
  peers.setCandidates(names, 0);
  assert.deepEqual(peers.live(999), ['a', 'b', 'c']);
  assert.equal(peers.heard('a', true, 900), false, 'no change');
  assert.deepEqual(peers.live(1000), ['a']);
  assert.equal(peers.heard('b', true, 1100), true, 'it is back');
  assert.equal(peers.heard('b', false, 1200), true, 'it says that it goes');
  assert.equal(peers.heard('b', false, 1300), false);
  assert.equal(peers.heard('stranger', true, 1300), false);
  assert.deepEqual(peers.live(1300), ['a']);
  peers.heard('a', true, 2000);
  assert.deepEqual(peers.live(3500), []);
  peers.excuse(1000, 3500);
  assert.deepEqual(peers.live(3500), ['a'], 'a second of the silence was our own sleep');
  peers.forgive(5000);
  assert.deepEqual(peers.live(5500), ['a', 'c']);
  peers.setCandidates(new Set(['c']), 5500);
  assert.deepEqual(peers.live(5500), ['c']);
});

test('refused ports: one table at first, then elements; anew after a failure', () => {
  const runs: string[] = [];
  let broken = false;
  const nft = {
    run(text: string) {
      if (broken) throw new Error('no');
      runs.push(text);
    },
  };
  const ports = new UnusedPorts({ nft, log: silentLogger });
  const [a, b] = [parseIp('172.18.200.1'), parseIp('fd00:18::c8:1')] as [IpAddress, IpAddress];
  ports.set([b, a]);
  ports.set([b]);
  ports.set([b]);
  broken = true;
  ports.set([a]);
  broken = false;
  ports.set([a]);
  assert.deepEqual(runs, [
    renderUnusedPorts([a, b]),
    'delete element inet podwire-announce addresses4 { 172.18.200.1 }\n',
    renderUnusedPorts([a]),
  ]);
});
