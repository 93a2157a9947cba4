import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conditionOf } from '../../kube/conditions.ts';
import { draft, eventually, fakeContext, namespace, pod, settle, withSignal } from '../fixtures.ts';
import { NamespaceController } from './controller.ts';

async function filled({ client }: ReturnType<typeof fakeContext>) {
  await client.create('Namespace', draft(namespace('ns')));
  await client.create('Namespace', draft(namespace('other')));
  for (const name of ['ns', 'other']) {
    await client.create('Pod', draft(pod('a', { namespace: name, spec: { nodeName: 'n1' } })));
    await client.create('ConfigMap', { metadata: { name: 'a', namespace: name } });
    await client.create('NetworkPolicy', { metadata: { name: 'a', namespace: name }, spec: { podSelector: {} } });
  }
}

test('a deleted namespace is emptied, pods first, and goes; others are not touched', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await filled(context);
    await new NamespaceController(context).start(signal);
    await client.delete('Namespace', { name: 'ns' });
    const waiting = await eventually('a reason', async () => {
      const one = await client.get('Namespace', { name: 'ns' });
      return one.status?.conditions ? one : undefined;
    });
    const condition = conditionOf(waiting.status!.conditions, 'NamespaceContentRemaining');
    assert.equal(condition!.message, 'Some resources are remaining: pods. has 1 resource instances');
    assert.equal((await client.list('NetworkPolicy', { namespace: 'ns' })).items.length, 1, 'while a pod is there');
    await client.delete('Pod', { namespace: 'ns', name: 'a' }, { gracePeriodSeconds: 0 });
    await eventually('gone', async () => (await client.list('Namespace')).items.length === 1);
    for (const kind of ['Pod', 'ConfigMap', 'NetworkPolicy'] as const) {
      assert.deepEqual(
        (await client.list(kind)).items.map((one) => one.metadata.namespace),
        ['other'],
      );
    }
  }));

test('a namespace that was being deleted at the start is finished; foreign finalizers are respected', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Namespace', draft(namespace('ns')));
    await client.create('ConfigMap', { metadata: { name: 'a', namespace: 'ns', finalizers: ['example.com/hold'] } });
    await client.delete('Namespace', { name: 'ns' });
    await new NamespaceController(context).start(signal);
    await eventually('says so', async () => {
      const { status } = await client.get('Namespace', { name: 'ns' });
      return conditionOf(status?.conditions, 'NamespaceFinalizersRemaining')?.status === 'True';
    });
    await settle();
    await client.patch('ConfigMap', { namespace: 'ns', name: 'a' }, { metadata: { finalizers: [] } });
    await eventually('gone', async () => (await client.list('Namespace')).items.length === 0);
  }));
