import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../base/log.ts';
import { FakeClient } from './fake-client.ts';
import { Informer } from './informer.ts';
import { InformerView } from './informer-view.ts';

test('a view shows and tells of what matches only', async () => {
  const client = new FakeClient();
  const create = (name: string, app: string) =>
    client.create('ConfigMap', { metadata: { name, namespace: 'default', labels: { app } } });
  const label = (name: string, app: string) =>
    client.patch('ConfigMap', { namespace: 'default', name }, { metadata: { labels: { app } } });
  await create('a', 'mine');
  await create('b', 'other');
  const informer = new Informer('ConfigMap', { client, log: silentLogger });
  const view = new InformerView(informer, ({ metadata }) => metadata.labels?.['app'] === 'mine');
  informer.addIndex('name', ({ metadata }) => [metadata.name]);
  const seen: string[] = [];
  const remove = view.addHandler({
    onAdd: ({ metadata }) => seen.push(`add ${metadata.name}`),
    onUpdate: (_, { metadata }) => seen.push(`update ${metadata.name}`),
    onDelete: ({ metadata }) => seen.push(`delete ${metadata.name}`),
  });
  const stop = new AbortController();
  await view.start(stop.signal);
  assert.equal(view.hasSynced, true);
  assert.equal(view.get('default/a')?.metadata.name, 'a');
  assert.equal(view.get('default/b'), undefined);
  assert.deepEqual(view.byIndex('name', 'b'), []);

  await client.patch('ConfigMap', { namespace: 'default', name: 'a' }, { data: { key: 'value' } });
  await client.patch('ConfigMap', { namespace: 'default', name: 'b' }, { data: { key: 'value' } });
  await label('b', 'mine');
  await label('a', 'other');
  await client.delete('ConfigMap', { namespace: 'default', name: 'a' });
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(
    [...view.list()].map(({ metadata }) => metadata.name),
    ['b'],
  );
  assert.equal(view.size, 1);
  await client.delete('ConfigMap', { namespace: 'default', name: 'b' });
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(seen, ['add a', 'update a', 'add b', 'delete a', 'delete b']);

  remove();
  await create('c', 'mine');
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(seen.length, 5);
  stop.abort();
});
