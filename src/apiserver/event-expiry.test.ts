import assert from 'node:assert/strict';
import { it } from 'node:test';
import { FakeClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { memoryStore } from '../store/memory.ts';
import { WatchCache } from './cache/watch-cache.ts';
import type { Api } from './context.ts';
import { expireEvents } from './event-expiry.ts';
import { event } from './resources/event.ts';
import type { ApiObject } from './resources/kind.ts';
import { Storage } from './storage.ts';

it('events go an hour after their last change', async () => {
  const clock = new FakeClock();
  const store = memoryStore();
  const cache = new WatchCache(store, [event], silentLogger);
  await cache.start();
  const storage = new Storage(store, cache);
  const lookup = { get: () => undefined, now: () => new Date(clock.now()), randomSuffix: () => 'x' };
  const api: Api = { kinds: [event], cache, storage, lookup, allocators: new Map(), clock, log: silentLogger };
  const create = (name: string, minutesAgo: number) => {
    const at = new Date(clock.now() - minutesAgo * 60_000).toISOString();
    const metadata = { name, namespace: 'default', uid: name, creationTimestamp: '2020-01-01T00:00:00Z' };
    return storage.create(event, {
      apiVersion: 'v1',
      kind: 'Event',
      metadata,
      lastTimestamp: at,
    } as unknown as ApiObject);
  };
  await create('old', 70);
  await create('young', 10);
  const abort = new AbortController();
  const running = expireEvents(api, clock, abort.signal);
  const names = () =>
    cache
      .of(event)
      .list({ labels: [], fields: [] })
      .map((stored) => stored.name);
  await clock.advance(120_000);
  assert.deepEqual(names(), ['young']);
  await clock.advance(3_600_000);
  assert.deepEqual(names(), []);
  abort.abort();
  await running;
  cache.stop();
  await store.close();
});
