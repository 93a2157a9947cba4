/** spec.trafficDistribution: a client's node and zone decide which endpoints it meets, and what it falls back to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allReady, applyAll, eventually, service, sleeper, startCluster, url, whoAmI } from './fixture.ts';

const cluster = await startCluster('topology', { nodes: 3 });
const ZONES = { 'node-1': 'a', 'node-2': 'a', 'node-3': 'b' };
for (const [name, zone] of Object.entries(ZONES)) {
  const labels = { 'topology.kubernetes.io/zone': zone };
  await cluster.client.patch('Node', { name }, { metadata: { labels } });
}
const app = { labels: { app: 'web' } };
await applyAll(cluster, [
  service('everywhere', { selector: { app: 'web' } }),
  service('zone', { selector: { app: 'web' }, trafficDistribution: 'PreferSameZone' }),
  service('close', { selector: { app: 'web' }, trafficDistribution: 'PreferClose' }),
  service('node', { selector: { app: 'web' }, trafficDistribution: 'PreferSameNode' }),
  whoAmI('web-1', { node: 'node-1', ...app }),
  whoAmI('web-2', { node: 'node-2', ...app }),
  whoAmI('web-3', { node: 'node-3', ...app }),
  sleeper('client-2', { node: 'node-2' }),
  sleeper('client-3', { node: 'node-3' }),
]);
await allReady(cluster, ['web-1', 'web-2', 'web-3', 'client-2', 'client-3']);

/** The pods that thirty requests in a row meet. */
async function met(from: string, name: string): Promise<string> {
  const { spec } = await cluster.client.get('Service', { namespace: 'default', name });
  const script = `for i in $(seq 30); do curl -sS --max-time 3 ${url(spec.clusterIP!)} || echo x FAILED; done`;
  const lines = (await cluster.exec(from, script)).stdout.trim().split('\n');
  return [...new Set(lines.map((line) => line.split(' ')[1]))].sort().join(' ');
}

async function meets(from: string, name: string, pods: string): Promise<void> {
  await eventually(
    `${from} over ${name}`,
    () => met(from, name),
    (answer) => answer === pods,
  );
}

test('each distribution from each side', async () => {
  await meets('client-2', 'everywhere', 'web-1 web-2 web-3');
  for (const name of ['zone', 'close']) {
    await meets('client-2', name, 'web-1 web-2');
    await meets('client-3', name, 'web-3');
  }
  await meets('client-2', 'node', 'web-2');
  await meets('client-3', 'node', 'web-3');
});

test('without an endpoint on the node its zone serves, without one in the zone everybody', async () => {
  await cluster.client.delete('Pod', { namespace: 'default', name: 'web-2' });
  await meets('client-2', 'node', 'web-1');
  await meets('client-2', 'zone', 'web-1');
  await cluster.client.delete('Pod', { namespace: 'default', name: 'web-1' });
  for (const name of ['node', 'zone', 'everywhere']) await meets('client-2', name, 'web-3');
});

test('slices say when what is in them happened', async () => {
  const { items } = await cluster.client.list('EndpointSlice', {
    namespace: 'default',
    labelSelector: 'kubernetes.io/service-name=zone',
  });
  for (const { metadata } of items) {
    const time = metadata.annotations?.['endpoints.kubernetes.io/last-change-trigger-time'];
    assert.ok(time === undefined || Math.abs(Date.now() - Date.parse(time)) < 3_600_000, time);
  }
});
