import assert from 'node:assert/strict';
import { test } from 'node:test';
import { statusError } from '../../kube/status.ts';
import { draft, eventually, fakeContext, node, pod, running, service, settle, withSignal } from '../fixtures.ts';
import { EndpointsController } from './endpoints-controller.ts';
import { EndpointSliceController } from './slice-controller.ts';

const web = () =>
  draft(
    service('web', { selector: { app: 'web' }, ipFamilies: ['IPv4'], clusterIP: '10.96.0.5', ports: [{ port: 80 }] }),
  );

const webPod = (name: string, ip: string, labels: Record<string, string> = { app: 'web' }) =>
  draft(pod(name, { labels, spec: { nodeName: 'n1' }, status: running([ip]) }));

type Context = ReturnType<typeof fakeContext>;

async function addresses({ client }: Context, name = 'web'): Promise<string> {
  const { items } = await client.list('EndpointSlice', { labelSelector: `kubernetes.io/service-name=${name}` });
  return items
    .flatMap((slice) => slice.endpoints.map((endpoint) => endpoint.addresses[0]!))
    .sort()
    .join();
}

test('slices and Endpoints follow pods, labels, readiness and the selector', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Service', web());
    await client.create('Pod', webPod('a', '10.0.0.1'));
    await Promise.all(
      [new EndpointSliceController(context), new EndpointsController(context)].map((c) => c.start(signal)),
    );
    await eventually('a', async () => (await addresses(context)) === '10.0.0.1');
    await client.create('Pod', webPod('b', '10.0.0.2'));
    await client.create('Pod', webPod('x', '10.0.0.3', { app: 'other' }));
    await eventually('a and b', async () => (await addresses(context)) === '10.0.0.1,10.0.0.2');
    await eventually('Endpoints', async () => {
      const endpoints = await client.get('Endpoints', { namespace: 'default', name: 'web' });
      return endpoints.subsets?.[0]?.addresses?.length === 2;
    });
    await client.patch('Pod', { namespace: 'default', name: 'a' }, { metadata: { labels: { app: 'gone' } } });
    await eventually('b', async () => (await addresses(context)) === '10.0.0.2');
    await client.patch('Service', { namespace: 'default', name: 'web' }, { spec: { selector: { app: 'other' } } });
    await eventually('x', async () => (await addresses(context)) === '10.0.0.3');
    await client.delete('Service', { namespace: 'default', name: 'web' });
    await eventually('all gone', async () => {
      const slices = (await client.list('EndpointSlice')).items.length;
      return slices + (await client.list('Endpoints')).items.length === 0;
    });
  }));

test('changes of a pod that do not matter cost no write', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Service', web());
    await client.create('Pod', webPod('a', '10.0.0.1'));
    await new EndpointSliceController(context).start(signal);
    await eventually('a', async () => (await addresses(context)) === '10.0.0.1');
    await settle();
    const before = client.writes.filter((write) => write.includes('EndpointSlice')).length;
    await client.patch('Pod', { namespace: 'default', name: 'a' }, { metadata: { annotations: { x: 'y' } } });
    await client.patch('Service', { namespace: 'default', name: 'web' }, { metadata: { annotations: { x: 'y' } } });
    await settle();
    assert.equal(client.writes.filter((write) => write.includes('EndpointSlice')).length, before);
  }));

test('no slice is made twice while the watch lags, under a storm and with failing writes', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Service', web());
    await new EndpointSliceController(context, { minIntervalMs: 1 }).start(signal);
    let requests = 0;
    client.onRequest = async (verb, kind) => {
      if (kind !== 'EndpointSlice' || verb === 'list') return;
      if (++requests % 3 === 0) throw statusError('InternalError', 'now and then');
      await new Promise((resolve) => setTimeout(resolve, 2));
    };
    const ips = Array.from({ length: 130 }, (_, i) => `10.0.1.${i}`);
    for (const [i, ip] of ips.entries()) {
      await client.create('Pod', webPod(`p${i}`, ip));
      if (i % 10 === 0) await settle(1);
    }
    await eventually('all', async () => (await addresses(context)) === [...ips].sort().join());
    assert.equal((await client.list('EndpointSlice')).items.length, 2);
  }));

test('a slice that someone deletes comes back; foreign ones and selectorless Services are left alone', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Service', web());
    await client.create('Service', draft(service('manual', { ports: [{ port: 80 }] })));
    await client.create('EndpointSlice', {
      metadata: { name: 'manual-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'manual' } },
      addressType: 'IPv4',
      endpoints: [{ addresses: ['192.0.2.1'] }],
      ports: [],
    });
    await client.create('Pod', webPod('a', '10.0.0.1'));
    await new EndpointSliceController(context).start(signal);
    await eventually('a', async () => (await addresses(context)) === '10.0.0.1');
    const [slice] = (await client.list('EndpointSlice', { labelSelector: 'kubernetes.io/service-name=web' })).items;
    await client.delete('EndpointSlice', slice!.metadata);
    await eventually('a again', async () => (await addresses(context)) === '10.0.0.1');
    assert.equal(await addresses(context, 'manual'), '192.0.2.1');
  }));

test('the zone of an endpoint follows its node', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Service', web());
    await client.create('Pod', webPod('a', '10.0.0.1'));
    await new EndpointSliceController(context).start(signal);
    await client.create('Node', draft(node('n1', { labels: { 'topology.kubernetes.io/zone': 'east' } })));
    await eventually('zone', async () => {
      const { items } = await client.list('EndpointSlice');
      return items[0]?.endpoints[0]?.zone === 'east';
    });
  }));
