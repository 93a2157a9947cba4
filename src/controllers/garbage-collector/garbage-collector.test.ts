import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AnyObject } from '../../kube/client.ts';
import type { OwnerReference } from '../../kube/types.ts';
import { draft, eventually, fakeContext, node, settle, withSignal } from '../fixtures.ts';
import { GarbageCollector } from './controller.ts';
import { judge, type OwnerState } from './owners.ts';

const reference = (object: AnyObject, blockOwnerDeletion = true): OwnerReference => ({
  apiVersion: object.apiVersion,
  kind: object.kind,
  name: object.metadata.name,
  uid: object.metadata.uid,
  blockOwnerDeletion,
});

test('verdicts', () => {
  const object = (count: number, finalizers: string[] = []) =>
    ({
      metadata: {
        finalizers,
        ownerReferences: Array.from({ length: count }, (_, i) => ({
          apiVersion: 'v1',
          kind: 'X',
          name: 'x',
          uid: String(i),
        })),
      },
    }) as unknown as AnyObject;
  const cases: [string, readonly OwnerState[], boolean, string][] = [
    ['no owners', [], false, 'keep'],
    ['all there', ['present', 'unknown'], false, 'keep'],
    ['one of two gone', ['present', 'absent'], false, 'detach 0'],
    ['one of two waiting', ['waiting', 'present'], false, 'detach 1'],
    ['all gone', ['absent', 'absent'], true, 'delete Background'],
    ['waiting, with dependents', ['waiting'], true, 'delete Foreground'],
    ['waiting, without', ['waiting', 'absent'], false, 'delete Background'],
    ['cannot be asked', ['unknown'], false, 'keep'],
  ];
  for (const [name, states, dependents, expected] of cases) {
    const verdict = judge(object(states.length), (owner) => states[Number(owner.uid)]!, dependents);
    const text =
      verdict.type === 'detach'
        ? `detach ${verdict.ownerReferences.map(({ uid }) => uid).join()}`
        : verdict.type === 'delete'
          ? `delete ${verdict.propagationPolicy}`
          : 'keep';
    assert.equal(text, expected, name);
  }
  const own = judge(object(1, ['orphan']), () => 'absent', false);
  assert.deepEqual(own, { type: 'delete', propagationPolicy: 'Orphan' });
});

async function family({ client }: ReturnType<typeof fakeContext>) {
  const top = await client.create('ConfigMap', { metadata: { name: 'top' } });
  const middle = await client.create('ConfigMap', { metadata: { name: 'middle', ownerReferences: [reference(top)] } });
  await client.create('Secret', { metadata: { name: 'leaf', ownerReferences: [reference(middle)] } });
  return { top, middle };
}

const count = async ({ client }: ReturnType<typeof fakeContext>) =>
  (await client.list('ConfigMap')).items.length + (await client.list('Secret')).items.length;

test('background: dependents follow, generation by generation', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { top } = await family(context);
    await new GarbageCollector(context).start(signal);
    await settle();
    assert.equal(await count(context), 3, 'nothing goes while the owners are there');
    await context.client.delete('ConfigMap', top.metadata, { propagationPolicy: 'Background' });
    await eventually('all gone', async () => (await count(context)) === 0);
  }));

test('foreground: the owner goes last', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { top } = await family(context);
    await new GarbageCollector(context).start(signal);
    await context.client.delete('ConfigMap', top.metadata, { propagationPolicy: 'Foreground' });
    await eventually('all gone', async () => (await count(context)) === 0);
    const gone = context.client.writes.filter((write) => /^(delete|patch) /.test(write));
    const last = (text: string) => gone.findLastIndex((write) => write.endsWith(text));
    assert.ok(last('Secret default/leaf') < last('ConfigMap default/middle'), gone.join('\n'));
    assert.ok(last('ConfigMap default/middle') < last('ConfigMap default/top'));
  }));

test('foreground waits for blocking dependents only', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    const top = await client.create('ConfigMap', { metadata: { name: 'top' } });
    const stubborn = ['example.com/hold'];
    const hold = { name: 'held', finalizers: stubborn, ownerReferences: [reference(top)] };
    await client.create('Secret', { metadata: hold });
    await client.create('Secret', { metadata: { ...hold, name: 'free', ownerReferences: [reference(top, false)] } });
    await new GarbageCollector(context).start(signal);
    await client.delete('ConfigMap', top.metadata, { propagationPolicy: 'Foreground' });
    await eventually('deleting', async () =>
      (await client.list('Secret')).items.every((one) => one.metadata.deletionTimestamp),
    );
    await settle();
    assert.equal((await client.list('ConfigMap')).items.length, 1);
    await client.patch('Secret', { namespace: 'default', name: 'held' }, { metadata: { finalizers: [] } });
    await eventually('gone', async () => (await client.list('ConfigMap')).items.length === 0);
  }));

test('orphan: dependents are set free', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    const { top } = await family(context);
    await new GarbageCollector(context).start(signal);
    await client.delete('ConfigMap', top.metadata, { propagationPolicy: 'Orphan' });
    await eventually('gone', async () => (await client.list('ConfigMap')).items.length === 1);
    await settle();
    const middle = await client.get('ConfigMap', { namespace: 'default', name: 'middle' });
    assert.deepEqual(middle.metadata.ownerReferences, []);
    assert.equal(await count(context), 2);
  }));

test('an owner of the same name but another uid, or in another namespace, is no owner', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    const top = await client.create('ConfigMap', { metadata: { name: 'top' } });
    const wrong = { ...reference(top), uid: 'other' };
    await client.create('Secret', { metadata: { name: 'a', ownerReferences: [wrong] } });
    await client.create('Secret', {
      metadata: { name: 'b', namespace: 'elsewhere', ownerReferences: [reference(top)] },
    });
    await client.create('Secret', { metadata: { name: 'c', ownerReferences: [reference(top)] } });
    await client.create('Secret', { metadata: { name: 'd', ownerReferences: [wrong, reference(top)] } });
    await new GarbageCollector(context).start(signal);
    await eventually('a and b gone', async () => {
      const names = (await client.list('Secret')).items.map((one) => one.metadata.name);
      return names.join() === 'c,d';
    });
    const kept = await eventually('detached', async () => {
      const one = await client.get('Secret', { namespace: 'default', name: 'd' });
      return one.metadata.ownerReferences?.length === 1 ? one : undefined;
    });
    assert.equal(kept.metadata.ownerReferences![0]!.uid, top.metadata.uid);
  }));

test('owners of unknown kinds and cluster-wide owners', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    const n1 = await client.create('Node', draft(node('n1')));
    const foreign = { apiVersion: 'example.com/v1', kind: 'Widget', name: 'w', uid: 'w' };
    await client.create('Secret', { metadata: { name: 'a', ownerReferences: [foreign] } });
    await client.create('Lease', { metadata: { name: 'n1', ownerReferences: [reference(n1)] }, spec: {} });
    await new GarbageCollector(context).start(signal);
    await settle();
    assert.equal((await client.list('Secret')).items.length + (await client.list('Lease')).items.length, 2);
    await client.delete('Node', { name: 'n1' });
    await eventually('lease gone', async () => (await client.list('Lease')).items.length === 0);
    assert.equal((await client.list('Secret')).items.length, 1);
  }));
