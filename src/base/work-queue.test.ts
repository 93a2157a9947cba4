import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BoundedRunner } from './bounded-runner.ts';
import { FakeClock } from './clock.ts';
import { silentLogger } from './log.ts';
import { WorkQueue } from './work-queue.ts';

const settle = () => new Promise((resolve) => setImmediate(resolve));

test('a key added while it is worked on is worked on once more, never at the same time', async () => {
  const running = Promise.withResolvers<void>();
  let active = 0;
  let runs = 0;
  const queue = new WorkQueue({
    name: 'test',
    log: silentLogger,
    workers: 4,
    reconcile: async () => {
      runs++;
      assert.equal(++active, 1);
      if (runs === 1) await running.promise;
      active--;
    },
  });
  const stop = new AbortController();
  queue.add('a');
  queue.start(stop.signal);
  queue.add('a');
  queue.add('a');
  running.resolve();
  await settle();
  assert.equal(runs, 2);
  assert.equal(queue.size, 0);
  stop.abort();
});

test('a failing key is tried again, ever later, and the wait is forgotten after a success', async () => {
  const clock = new FakeClock();
  const times: number[] = [];
  const start = clock.now();
  const queue = new WorkQueue({
    name: 'test',
    log: silentLogger,
    clock,
    backoffMs: [100, 1000],
    reconcile: async () => {
      times.push(clock.now() - start);
      if (times.length < 6) throw new Error('not yet');
    },
  });
  const stop = new AbortController();
  queue.start(stop.signal);
  queue.add('a');
  await clock.advance(10_000);
  assert.deepEqual(times, [0, 100, 300, 700, 1500, 2500]);
  stop.abort();
});

test('a bounded runner runs at once, then at most once per interval, and never loses a request', async () => {
  const clock = new FakeClock();
  const start = clock.now();
  const times: number[] = [];
  const runner = new BoundedRunner({
    name: 'test',
    log: silentLogger,
    clock,
    minIntervalMs: 100,
    run: () => {
      times.push(clock.now() - start);
      if (times.length === 2) throw new Error('once');
    },
  });
  const stop = new AbortController();
  runner.start(stop.signal);
  runner.trigger();
  runner.trigger();
  await clock.advance(10);
  runner.trigger();
  await clock.advance(1000);
  assert.deepEqual(times, [0, 100, 200]);
  stop.abort();
});
