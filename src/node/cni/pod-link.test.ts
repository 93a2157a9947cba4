import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  hostInterfaceName,
  hostSideActivation,
  parseAlias,
  podMac,
  podSideOperations,
  renderAlias,
} from './pod-link.ts';

const link = { containerId: 'c1', ifname: 'eth0', addresses: ['10.244.1.7', 'fd00:10:244:1::7'] };

test('the host end has a name of the kernel, one per interface', () => {
  const name = hostInterfaceName('c1', 'eth0');
  assert.match(name, /^pw[0-9a-f]{11}$/);
  assert.equal(name, hostInterfaceName('c1', 'eth0'));
  assert.notEqual(name, hostInterfaceName('c1', 'net1'));
  assert.notEqual(name, hostInterfaceName('c2', 'eth0'));
});

test("the pod's MAC is made of its first address", () => {
  assert.equal(podMac(['10.244.1.7', 'fd00::1']), '0a:58:0a:f4:01:07');
  assert.equal(podMac(['fd00:10:244:1::1:7']), '0a:58:00:01:00:07');
});

test('inside the pod: addresses, gateways as permanent neighbours, default routes', () => {
  assert.deepEqual(podSideOperations(link), [
    { op: 'setLink', device: 'lo', changes: { up: true } },
    { op: 'setLink', device: 'eth0', changes: { up: true } },
    { op: 'addAddress', address: { device: 'eth0', address: '10.244.1.7/32', nodad: false } },
    { op: 'addAddress', address: { device: 'eth0', address: 'fd00:10:244:1::7/128', nodad: true } },
    { op: 'replaceNeighbour', neighbour: { device: 'eth0', address: '169.254.1.1', mac: 'ee:ee:ee:ee:ee:ee' } },
    { op: 'replaceNeighbour', neighbour: { device: 'eth0', address: 'fe80::1', mac: 'ee:ee:ee:ee:ee:ee' } },
    {
      op: 'addRoute',
      route: { destination: '0.0.0.0/0', via: '169.254.1.1', device: 'eth0', onlink: true, protocol: 4 },
    },
    { op: 'addRoute', route: { destination: '::/0', via: 'fe80::1', device: 'eth0', onlink: true, protocol: 4 } },
  ]);
});

test('on the node: up first, then the routes, with the address of their family as source', () => {
  const operations = hostSideActivation(link, 9, ['fd00:18::2', '172.18.0.2']);
  assert.deepEqual(
    operations.map(({ op }) => op),
    ['setLink', 'replaceAddress', 'replaceRoute', 'replaceRoute'],
  );
  assert.deepEqual(operations.slice(2), [
    { op: 'replaceRoute', route: { destination: '10.244.1.7/32', device: 9, protocol: 113, source: '172.18.0.2' } },
    {
      op: 'replaceRoute',
      route: { destination: 'fd00:10:244:1::7/128', device: 9, protocol: 113, source: 'fd00:18::2' },
    },
  ]);
  const ipv4Only = { ...link, addresses: ['10.244.1.7'] };
  assert.deepEqual(
    hostSideActivation(ipv4Only, 9, []).map(({ op }) => op),
    ['setLink', 'replaceRoute'],
  );
});

test('property: an alias fits and comes back, a long name cut at its end', () => {
  const id = fc.stringMatching(/^[a-zA-Z0-9_.-]{1,64}$/);
  const dns = fc.stringMatching(/^[a-z0-9.-]{0,250}$/);
  const namespace = fc.stringMatching(/^[a-z0-9-]{0,63}$/);
  fc.assert(
    fc.property(id, namespace, dns, fc.constantFrom('', 'b4f7'), (containerId, podNamespace, podName, podUid) => {
      const owner = { containerId, ifname: 'eth0', podNamespace, podName, podUid };
      const alias = renderAlias(owner);
      assert.ok(Buffer.byteLength(alias) <= 255);
      const parsed = parseAlias(alias);
      assert.ok(parsed && podName.startsWith(parsed.podName));
      assert.deepEqual({ ...parsed, podName }, owner);
    }),
  );
  for (const foreign of [undefined, '', 'eth0', 'podwire a b', 'other a b c d/e'])
    assert.equal(parseAlias(foreign), undefined);
});
