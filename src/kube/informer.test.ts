import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../base/log.ts';
import { FakeClient } from './fake-client.ts';
import { Informer } from './informer.ts';
import { isConflict, isNotFound } from './status.ts';

const settle = () => new Promise((resolve) => setTimeout(resolve, 5));
const configMap = (name: string, labels: Record<string, string> = {}) => ({
  metadata: { name, namespace: 'default', labels },
});

test('an informer follows a kind: list, changes, indexes, deletion, relist after Expired', async () => {
  const client = new FakeClient();
  await client.create('ConfigMap', configMap('a', { app: 'x' }));
  const informer = new Informer('ConfigMap', { client, log: silentLogger });
  informer.addIndex('app', (object) => (object.metadata.labels?.['app'] ? [object.metadata.labels['app']] : []));
  const seen: string[] = [];
  informer.addHandler({
    onAdd: (object) => seen.push(`add ${object.metadata.name}`),
    onUpdate: (_, object) => seen.push(`update ${object.metadata.name}`),
    onDelete: (object) => seen.push(`delete ${object.metadata.name}`),
  });
  const stop = new AbortController();
  await informer.start(stop.signal);
  assert.equal(informer.hasSynced, true);
  await client.create('ConfigMap', configMap('b', { app: 'x' }));
  await client.patch('ConfigMap', { namespace: 'default', name: 'a' }, { metadata: { labels: { app: 'y' } } });
  await client.delete('ConfigMap', { namespace: 'default', name: 'b' });
  await settle();
  assert.deepEqual(seen, ['add a', 'add b', 'update a', 'delete b']);
  assert.deepEqual(informer.byIndex('app', 'x'), []);
  assert.deepEqual(
    informer.byIndex('app', 'y').map((object) => object.metadata.name),
    ['a'],
  );
  stop.abort();
});

test('a handler is told of what is there, unless it has seen to that itself', async () => {
  const client = new FakeClient();
  await client.create('ConfigMap', configMap('a'));
  const informer = new Informer('ConfigMap', { client, log: silentLogger });
  const stop = new AbortController();
  await informer.start(stop.signal);
  assert.deepEqual([...informer.keys()], ['default/a']);
  const told: string[] = [];
  informer.addHandler({ onAdd: ({ metadata }) => told.push(`first ${metadata.name}`) });
  informer.addHandler({ onAdd: ({ metadata }) => told.push(`second ${metadata.name}`) }, 'seen');
  await client.create('ConfigMap', configMap('b'));
  await settle();
  assert.deepEqual(told, ['first a', 'first b', 'second b']);
  stop.abort();
});

test('a relist tells what was missed', async () => {
  const client = new FakeClient();
  await client.create('ConfigMap', configMap('a'));
  const informer = new Informer('ConfigMap', { client, log: silentLogger });
  const seen: string[] = [];
  informer.addHandler({
    onAdd: (o) => seen.push(`add ${o.metadata.name}`),
    onDelete: (o) => seen.push(`delete ${o.metadata.name}`),
  });
  let broken = true;
  client.onRequest = (verb) => {
    if (verb === 'watch' && broken) throw new Error('connection lost');
  };
  const stop = new AbortController();
  await informer.start(stop.signal);
  await client.delete('ConfigMap', { namespace: 'default', name: 'a' });
  await client.create('ConfigMap', configMap('b'));
  client.compact();
  broken = false;
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.deepEqual(seen, ['add a', 'delete a', 'add b']);
  stop.abort();
});

test('the fake refuses what the server refuses', async () => {
  const client = new FakeClient();
  const made = await client.create('ConfigMap', configMap('a'));
  await assert.rejects(client.create('ConfigMap', configMap('a')), /already exists/);
  await client.patch('ConfigMap', made.metadata, { data: { k: 'v' } });
  await assert.rejects(client.update('ConfigMap', made), isConflict);
  await assert.rejects(client.get('ConfigMap', { namespace: 'default', name: 'z' }), isNotFound);
});
