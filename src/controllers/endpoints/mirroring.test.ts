import assert from 'node:assert/strict';
import { test } from 'node:test';
import { draft, eventually, fakeContext, service, settle, withSignal } from '../fixtures.ts';
import { EndpointSliceMirroring } from './mirroring-controller.ts';

const at = { namespace: 'default', name: 'db' };
const subsets = [
  {
    addresses: [{ ip: '192.0.2.1' }, { ip: '2001:db8::1' }],
    notReadyAddresses: [{ ip: '192.0.2.2' }],
    ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }],
  },
];

type Context = ReturnType<typeof fakeContext>;

async function view({ client }: Context): Promise<readonly string[]> {
  const { items } = await client.list('EndpointSlice', { labelSelector: 'kubernetes.io/service-name=db' });
  return items
    .flatMap((slice) =>
      slice.endpoints.map(
        ({ addresses, conditions }) =>
          `${slice.addressType} ${addresses[0]}:${slice.ports![0]!.port} ${conditions!.ready}`,
      ),
    )
    .sort();
}

test('Endpoints that a user wrote appear as slices of both families, follow, and go', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Endpoints', { metadata: at, subsets });
    await new EndpointSliceMirroring(context).start(signal);
    await settle();
    assert.deepEqual(await view(context), [], 'without a Service there is nothing to mirror for');
    await client.create('Service', draft(service('db', { ports: [{ port: 5432 }] })));
    await eventually('mirrored', async () => (await view(context)).length === 3);
    assert.deepEqual(await view(context), [
      'IPv4 192.0.2.1:5432 true',
      'IPv4 192.0.2.2:5432 false',
      'IPv6 2001:db8::1:5432 true',
    ]);
    await client.patch('Endpoints', at, { subsets: [{ ...subsets[0], notReadyAddresses: [] }] });
    await eventually('followed', async () => (await view(context)).length === 2);
    await client.delete('Endpoints', at);
    await eventually('gone', async () => (await client.list('EndpointSlice')).items.length === 0);
  }));

test('not mirrored: Services with a selector, and what says so', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Service', draft(service('db', { selector: { app: 'db' }, ports: [{ port: 5432 }] })));
    await client.create('Endpoints', { metadata: at, subsets });
    await client.create('Service', draft(service('api', { ports: [{ port: 443 }] })));
    const labels = { 'endpointslice.kubernetes.io/skip-mirror': 'true' };
    await client.create('Endpoints', { metadata: { name: 'api', labels }, subsets });
    await new EndpointSliceMirroring(context).start(signal);
    await settle();
    assert.equal((await client.list('EndpointSlice')).items.length, 0);
  }));
