import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../base/clock.ts';
import { eventually, fakeContext, withSignal } from './fixtures.ts';
import { FreshStore } from './fresh-store.ts';

/** A store whose watch hears nothing until `catchUp`. */
async function laggingStore(signal: AbortSignal) {
  const { client, informers } = fakeContext();
  const clock = new FakeClock();
  const store = new FreshStore(informers.of('ConfigMap'), client, clock);
  store.addIndex('app', ({ metadata }) => (metadata.labels?.['app'] ? [metadata.labels['app']] : []));
  await client.create('ConfigMap', { metadata: { name: 'old', labels: { app: 'a' } } });
  const held = Promise.withResolvers<void>();
  client.onRequest = (verb) => (verb === 'watch' ? held.promise : undefined);
  await informers.start(signal);
  return { client, store, clock, informer: informers.of('ConfigMap'), catchUp: held.resolve };
}

const names = (store: FreshStore<'ConfigMap'>, app = 'a') =>
  store
    .byIndex('app', app)
    .map(({ metadata }) => metadata.name)
    .sort();

test('own writes are seen before the watch tells, and once after it', () =>
  withSignal(async (signal) => {
    const { store, informer, catchUp } = await laggingStore(signal);
    const made = await store.create({ metadata: { name: 'new', namespace: 'default', labels: { app: 'a' } } });
    assert.deepEqual(names(store), ['new', 'old']);
    assert.equal(store.get('default/new')?.metadata.uid, made.metadata.uid);
    assert.ok(store.isOwnWrite(made));
    await store.patch(store.get('default/old')!, { metadata: { labels: { app: 'b' } } });
    assert.deepEqual([names(store), names(store, 'b')], [['new'], ['old']]);
    await store.delete(store.get('default/old')!);
    assert.deepEqual(names(store, 'b'), []);
    assert.equal(store.get('default/old'), undefined);
    catchUp();
    await eventually('caught up', () => informer.size === 1 && informer.get('default/new'));
    assert.deepEqual([names(store), names(store, 'b')], [['new'], []]);
  }));

test('what others do to an own object is seen', () =>
  withSignal(async (signal) => {
    const { client, store, informer, catchUp } = await laggingStore(signal);
    const made = await store.create({ metadata: { name: 'new', namespace: 'default', labels: { app: 'a' } } });
    await client.patch('ConfigMap', made.metadata, { data: { x: 'y' } });
    catchUp();
    await eventually('the change', () => store.get('default/new')?.data?.['x'] === 'y');
    await client.delete('ConfigMap', made.metadata);
    await eventually('gone', () => informer.size === 1);
    assert.equal(store.get('default/new'), undefined);
  }));

test('a write that the watch never confirms is forgotten after a while', () =>
  withSignal(async (signal) => {
    const { store, clock } = await laggingStore(signal);
    await store.create({ metadata: { name: 'new', namespace: 'default', labels: { app: 'a' } } });
    await clock.advance(31_000);
    assert.deepEqual(names(store), ['old']);
  }));

test('a delete of another object under the name, or of none, counts as done by others', () =>
  withSignal(async (signal) => {
    const { client, store } = await laggingStore(signal);
    const old = store.get('default/old')!;
    await client.delete('ConfigMap', old.metadata);
    await client.create('ConfigMap', { metadata: { name: 'old' } });
    assert.equal(await store.delete(old), false);
    assert.equal((await client.list('ConfigMap')).items.length, 1);
  }));
