import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type IpAddress, parseIp } from '../../base/ip.ts';
import { silentLogger } from '../../base/log.ts';
import type { EndpointSlice, Node, Service } from '../../kube/types.ts';
import { type AnnouncedAddress, buildAddresses, isCandidate, mergeAddresses } from './model.ts';
import { Peers, type Presence } from './peers.ts';
import { electNode, renderDuties } from './render.ts';
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
const speaking = (names: readonly string[]) => new Map<string, Presence>(names.map((name) => [name, { speaks: true }]));

test('every address has exactly one node, whatever the order of the nodes', () => {
  fc.assert(
    fc.property(nodeNames, (nodes) => {
      const owners = nodes.flatMap((node) => renderDuties(announced, speaking(nodes), node).own);
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
  assert.deepEqual(renderDuties(announced, speaking(['a']), 'b'), { own: [], standIn: new Map() });
  assert.equal(electNode({ address: addresses[0]!, family: 4, service: 'x', nodes: new Set() }, ['a']), undefined);
});

test('addresses of a silent node stay with it, and exactly one other speaks for each, under policy Local too', () => {
  const living = speaking(['a', 'b', 'c']).set('d', { speaks: false, mac: 'd-mac' });
  const local = { address: parseIp('172.18.201.1'), family: 4 as const, service: 'local', nodes: new Set(['d']) };
  const all = new Map([...announced, [local.address, local]]);
  const duties = new Map([...living.keys()].map((name) => [name, renderDuties(all, living, name)]));
  assert.deepEqual([...duties.values()].flatMap(({ own }) => own).sort(), [...all.keys()].sort());
  const stoodIn = [...duties.values()].flatMap(({ standIn }) => [...standIn]);
  assert.deepEqual(stoodIn.map(([address]) => address).sort(), duties.get('d')!.own);
  assert.ok(stoodIn.every(([, mac]) => mac === 'd-mac'));
  assert.equal(duties.get('d')!.standIn.size, 0, 'it is silent');
  const unanswered = speaking(['a', 'b', 'c']).set('d', { speaks: false });
  for (const name of unanswered.keys()) assert.equal(renderDuties(all, unanswered, name).standIn.size, 0);
});

const TIMES = { silentMs: 500, deadMs: 1000, absentMs: 5000 };
const asked = new Map(['a', 'b', 'c'].map((name, i) => [name, parseIp(`172.18.0.${i + 1}`)]));
const living = (peers: Peers, now: number) => [...peers.living(now).keys()];
const speakers = (peers: Peers, now: number) =>
  [...peers.living(now)].flatMap(([name, { speaks }]) => (speaks ? name : []));

test('peers live while they are heard, and are believed in at first', () => {
  const peers = new Peers(TIMES);
  peers.setCandidates(asked, 0);
  assert.deepEqual(living(peers, 999), ['a', 'b', 'c']);
  assert.deepEqual(peers.silent(999), [], 'nobody knows where they are');
  assert.equal(peers.heard('a', true, 'a-mac', 400), true, 'it has a MAC now');
  assert.equal(peers.heard('a', true, 'a-mac', 800), false, 'no change');
  assert.deepEqual(living(peers, 1000), ['a']);
  assert.equal(peers.heard('b', true, 'b-mac', 1100), true, 'it is back');
  assert.equal(peers.heard('stranger', true, 'x-mac', 1300), false);
  assert.deepEqual(living(peers, 1300), ['a', 'b']);
  peers.heard('a', true, 'a-mac', 2000);
  assert.deepEqual(living(peers, 3500), []);
  peers.excuse(1000, 3500);
  assert.deepEqual(living(peers, 3500), ['a'], 'a second of the silence was our own sleep');
  peers.forgive(5000);
  assert.deepEqual(living(peers, 5400), ['a', 'b', 'c']);
  peers.setCandidates(new Map([['c', undefined]]), 5400);
  assert.deepEqual(living(peers, 5400), ['c']);
});

test('a silent agent’s node lives while its kernel answers, for a while, and its next beat ends the silence', () => {
  const peers = new Peers(TIMES);
  const address = asked.get('a')!;
  peers.setCandidates(new Map([['a', address]]), 0);
  peers.heard('a', true, 'a-mac', 0);
  assert.equal(peers.answered(address, 'a-mac', 100), false, 'it is not asked while it speaks');
  assert.deepEqual(peers.silent(500), [{ address, mac: 'a-mac' }]);
  assert.deepEqual(peers.living(500), new Map([['a', { speaks: false }]]));
  assert.equal(peers.answered(address, 'other-mac', 600), false, 'another node says that it has the address');
  assert.equal(peers.answered(address, 'a-mac', 600), true);
  assert.equal(peers.answered(address, 'a-mac', 700), false);
  assert.deepEqual(peers.living(1600), new Map([['a', { speaks: false, mac: 'a-mac' }]]));
  assert.deepEqual(living(peers, 1700), [], 'its kernel was silent for as long as makes dead');
  assert.equal(peers.answered(address, 'a-mac', 1700), false, 'the dead come back by a beat alone');
  peers.heard('a', true, 'a-mac', 2000);
  assert.deepEqual(peers.living(2000), new Map([['a', { speaks: true }]]));
  for (let now = 2500; now < 8000; now += 200) peers.answered(address, 'a-mac', now);
  assert.deepEqual(living(peers, 6900), ['a']);
  assert.deepEqual(living(peers, 7000), [], 'absent for too long');
});

test('an agent that says goodbye is spoken for as soon as its kernel answers; one that cannot be asked is gone', () => {
  const peers = new Peers(TIMES);
  peers.setCandidates(new Map([...asked, ['unasked', undefined]]), 0);
  for (const name of ['a', 'unasked']) peers.heard(name, true, `${name}-mac`, 0);
  assert.deepEqual(speakers(peers, 100), ['a', 'b', 'c', 'unasked']);
  assert.equal(peers.heard('a', false, 'a-mac', 100), true);
  assert.equal(peers.heard('unasked', false, 'unasked-mac', 100), true);
  assert.deepEqual(living(peers, 100), ['a', 'b', 'c']);
  assert.equal(peers.answered(asked.get('a')!, 'a-mac', 101), true);
  assert.deepEqual(peers.living(102).get('a'), { speaks: false, mac: 'a-mac' });
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
