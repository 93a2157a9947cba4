import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cidrsOverlap, formatCidr, parseCidr } from '../../base/ip.ts';
import { statusError } from '../../kube/status.ts';
import { draft, eventually, fakeContext, node, withSignal } from '../fixtures.ts';
import { SubnetAllocator } from './allocator.ts';
import { NodeIpam } from './controller.ts';

test('subnets are given in turn, and a freed one comes last', () => {
  const allocator = new SubnetAllocator(parseCidr('10.0.0.0/22'), 24);
  const first = allocator.allocate()!;
  assert.equal(formatCidr(first), '10.0.0.0/24');
  assert.equal(formatCidr(allocator.allocate()!), '10.0.1.0/24');
  allocator.release(first);
  assert.deepEqual(
    [allocator, allocator, allocator].map((one) => formatCidr(one.allocate()!)),
    ['10.0.2.0/24', '10.0.3.0/24', '10.0.0.0/24'],
  );
  assert.equal(allocator.allocate(), undefined);
});

test('what cannot be cut is refused', () => {
  for (const [cidr, prefix] of [
    ['10.0.0.0/16', 15],
    ['10.0.0.0/8', 25],
    ['10.0.0.0/30', 33],
    ['fd00::/48', 65],
  ] as const) {
    assert.throws(() => new SubnetAllocator(parseCidr(cidr), prefix), RangeError, `${cidr} /${prefix}`);
  }
});

test('nothing that is given overlaps what is in use, for blocks of any size', () => {
  const block = fc.tuple(
    fc.integer({ min: 0, max: 255 }),
    fc.integer({ min: 0, max: 255 }),
    fc.integer({ min: 18, max: 28 }),
  );
  fc.assert(
    fc.property(fc.array(block, { maxLength: 8 }), fc.nat(70), (blocks, count) => {
      const allocator = new SubnetAllocator(parseCidr('10.0.0.0/18'), 24);
      const used = blocks.map(([a, b, prefix]) => parseCidr(`10.0.${a}.${b}/${prefix}`));
      for (const one of used) allocator.occupy(one);
      for (let i = 0; i < count; i++) {
        const given = allocator.allocate();
        if (!given) return assert.equal(allocator.free, 0);
        assert.ok(!used.some((one) => cidrsOverlap(one, given)));
        used.push(given);
      }
    }),
  );
});

const clusterCidrs = ['10.244.0.0/16', 'fd00:10:244::/56'];

test('each node gets a subnet of each family, after those that exist are known', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    const taken = { podCIDR: '10.244.0.0/24', podCIDRs: ['10.244.0.0/24', 'fd00:10:244::/64'] };
    await client.create('Node', draft(node('new')));
    await client.create('Node', draft(node('old', { spec: taken })));
    await new NodeIpam(context, { clusterCidrs }).start(signal);
    const fresh = await eventually('podCIDRs', async () => {
      const one = await client.get('Node', { name: 'new' });
      return one.spec.podCIDRs ? one : undefined;
    });
    assert.deepEqual(fresh.spec.podCIDRs, ['10.244.1.0/24', 'fd00:10:244:1::/64']);
    assert.equal(fresh.spec.podCIDR, '10.244.1.0/24');
  }));

test('a node whose write failed keeps its subnet; nobody else gets it', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await new NodeIpam(context, { clusterCidrs }).start(signal);
    let failures = 3;
    client.onRequest = (verb) => {
      if (verb === 'patch' && failures-- > 0) throw statusError('Timeout', 'unknown outcome');
    };
    for (const name of ['a', 'b', 'c']) await client.create('Node', draft(node(name)));
    const cidrs = await eventually('podCIDRs', async () => {
      const { items } = await client.list('Node');
      return items.every((one) => one.spec.podCIDR) ? items.map((one) => one.spec.podCIDR) : undefined;
    });
    assert.deepEqual(cidrs, ['10.244.0.0/24', '10.244.1.0/24', '10.244.2.0/24']);
  }));

test('exhausted: an event; a node that goes makes room', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await new NodeIpam(context, { clusterCidrs: ['10.0.0.0/24'] }).start(signal);
    await client.create('Node', draft(node('a')));
    await eventually('podCIDR', async () => (await client.get('Node', { name: 'a' })).spec.podCIDR);
    await client.create('Node', draft(node('b')));
    await eventually('event', async () =>
      (await client.list('Event')).items.some((event) => event.reason === 'CIDRNotAvailable'),
    );
    await client.delete('Node', { name: 'a' });
    await eventually('podCIDR', async () => (await client.get('Node', { name: 'b' })).spec.podCIDR === '10.0.0.0/24');
  }));
