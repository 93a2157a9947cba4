/** A node whose podCIDR is full: the pod stays pending and says why, and starts when an address is free again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, allReady, applyAll, eventually, sleeper, startCluster } from './fixture.ts';

// 8 addresses, less the node's own and the broadcast address.
const cluster = await startCluster('full', { nodes: 1, nodeMaskSizes: { ipv4: 29 } });
const NAMES = Array.from({ length: 6 }, (_, i) => `pod-${i + 1}`);

test('no address is given out twice, and the first pod too many waits', async () => {
  const { spec } = await cluster.client.get('Node', { name: 'node-1' });
  assert.match(spec.podCIDR!, /\/29$/);
  await applyAll(
    cluster,
    NAMES.map((name) => sleeper(name)),
  );
  const fitting: string[] = [];
  await eventually(
    'all but the ones too many are ready',
    async () => {
      const { items } = await cluster.client.list('Pod', { namespace: 'default' });
      const ready = items.filter((one) => one.status?.phase === 'Running');
      fitting.splice(0, fitting.length, ...ready.map((one) => one.metadata.name));
      const { items: events } = await cluster.client.list('Event', { namespace: 'default' });
      return { ready: ready.length, refused: events.filter((one) => one.reason === 'FailedCreatePodSandBox') };
    },
    ({ ready, refused }) => ready >= 4 && refused.length > 0,
  );
  const pods = await allReady(cluster, fitting);
  assert.equal(new Set(pods.map((one) => addressOf(one))).size, fitting.length);
  const { items: events } = await cluster.client.list('Event', { namespace: 'default' });
  const event = events.find((one) => one.reason === 'FailedCreatePodSandBox')!;
  assert.match(event.message ?? '', /no free address in 10\.244\.0\.0\/29/);
  const waiting = event.involvedObject.name!;
  const pending = await cluster.client.get('Pod', { namespace: 'default', name: waiting });
  assert.equal(pending.status?.phase, 'Pending');
  assert.ok(!fitting.includes(waiting));

  await cluster.client.delete('Pod', { namespace: 'default', name: fitting[0]! });
  await cluster.waitForPod(waiting);
});
