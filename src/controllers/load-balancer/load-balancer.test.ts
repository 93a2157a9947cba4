import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Service } from '../../kube/types.ts';
import { eventually, fakeContext, settle, withSignal } from '../fixtures.ts';
import { CONFIG_MAP, LoadBalancerController } from './controller.ts';

type Context = ReturnType<typeof fakeContext>;
const options = { loadBalancerPool: ['172.18.200.0/24', 'fd00:18::c8:0/112'] };

const start = async (context: Context, signal: AbortSignal, rest: object = options) => {
  await new LoadBalancerController(context, rest).start(signal);
};
const create = ({ client }: Context, name: string, spec: Partial<Service['spec']> = {}) =>
  client.create('Service', {
    metadata: { name, namespace: 'default' },
    spec: { type: 'LoadBalancer', ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack', ports: [{ port: 80 }], ...spec },
  });
const ipsOf = async ({ client }: Context, name: string) => {
  const { status } = await client.get('Service', { namespace: 'default', name });
  return status?.loadBalancer?.ingress?.map(({ ip }) => ip) ?? [];
};
const has = (context: Context, name: string, ...ips: string[]) =>
  eventually(`${name} has ${ips}`, async () => String(await ipsOf(context, name)) === String(ips));
const eventReasons = async ({ client }: Context) => (await client.list('Event')).items.map(({ reason }) => reason);

test('a Service gets its address as a VIP, with an event, and gives it back', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    await start(context, signal);
    await create(context, 'web');
    await has(context, 'web', '172.18.200.1');
    const { status } = await context.client.get('Service', { namespace: 'default', name: 'web' });
    assert.deepEqual(status?.loadBalancer, { ingress: [{ ip: '172.18.200.1', ipMode: 'VIP' }] });
    await eventually('event', async () => (await eventReasons(context)).includes('IPAllocated'));
    await context.client.patch('Service', { namespace: 'default', name: 'web' }, { spec: { type: 'ClusterIP' } });
    await has(context, 'web');
    await create(context, 'api', { loadBalancerIP: '172.18.200.1' });
    await has(context, 'api', '172.18.200.1');
  }));

test('many at once get different addresses; other classes and types get none', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    await start(context, signal);
    const names = Array.from({ length: 60 }, (_, i) => `s${i}`);
    await Promise.all([
      ...names.map((name) => create(context, name)),
      create(context, 'other', { loadBalancerClass: 'example.com/other' }),
      create(context, 'plain', { type: 'ClusterIP' }),
    ]);
    await eventually('all have one', async () =>
      (await Promise.all(names.map((name) => ipsOf(context, name)))).every((ips) => ips.length === 1),
    );
    const ips = (await Promise.all(names.map((name) => ipsOf(context, name)))).flat();
    assert.equal(new Set(ips).size, names.length);
    assert.deepEqual(await ipsOf(context, 'other'), []);
    assert.deepEqual(await ipsOf(context, 'plain'), []);
  }));

test('a restart keeps everything, and repairs two Services with one address', async () => {
  const context = fakeContext();
  await withSignal(async (signal) => {
    await start(context, signal);
    await create(context, 'a');
    await has(context, 'a', '172.18.200.1');
  });
  const thief = await create(context, 'b');
  await context.client.updateStatus('Service', {
    ...thief,
    metadata: { ...thief.metadata, creationTimestamp: '2099-01-01T00:00:00Z' },
    status: { loadBalancer: { ingress: [{ ip: '172.18.200.1' }] } },
  });
  const second = { ...fakeContext(context.client) };
  await withSignal(async (signal) => {
    await start(second, signal);
    await has(second, 'b', '172.18.200.2');
    await has(second, 'a', '172.18.200.1');
  });
});

test('a full pool: the event says so, and who waits gets what is released', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    await start(context, signal, { loadBalancerPool: ['172.18.200.7'] });
    await create(context, 'a');
    await has(context, 'a', '172.18.200.7');
    await create(context, 'b');
    await eventually('event', async () => (await eventReasons(context)).includes('AllocationFailed'));
    await context.client.delete('Service', { namespace: 'default', name: 'a' });
    await has(context, 'b', '172.18.200.7');
  }));

test('the ConfigMap: new pools serve who waits, faults are events and take nothing away', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await start(context, signal, {});
    await create(context, 'a');
    await eventually('event', async () => (await eventReasons(context)).includes('AllocationFailed'));
    const config = await client.create('ConfigMap', {
      metadata: { ...CONFIG_MAP },
      data: { pools: '[{name: p, addresses: [172.18.9.1-172.18.9.2]}]' },
    });
    await has(context, 'a', '172.18.9.1');
    await client.patch('ConfigMap', config.metadata, { data: { pools: '[{name: p, addresses: [nonsense]}]' } });
    await eventually('event', async () => (await eventReasons(context)).includes('InvalidPools'));
    await settle();
    await has(context, 'a', '172.18.9.1');
    await client.patch('ConfigMap', config.metadata, { data: { pools: '[{name: p, addresses: [172.18.9.2]}]' } });
    await has(context, 'a', '172.18.9.2');
  }));
