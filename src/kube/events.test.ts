import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { EventRecorder } from './events.ts';
import { statusError } from './status.ts';
import type { Draft, Event, KindMap } from './types.ts';

/** Keeps what was created and patched; only what a recorder needs. */
class EventSink {
  readonly events = new Map<string, Draft<Event>>();
  failing = false;

  async create(_kind: string, object: object): Promise<never> {
    if (this.failing) throw new Error('server is away');
    const event = object as Draft<Event>;
    this.events.set(event.metadata.name!, event);
    return event as never;
  }

  async patch(_kind: string, at: { name: string }, patch: object): Promise<never> {
    const event = this.events.get(at.name);
    if (!event) throw statusError('NotFound', 'gone');
    this.events.set(at.name, { ...event, ...patch });
    return event as never;
  }

  get list() {
    return [...this.events.values()];
  }
}

function setup(host?: string, lullMs?: number) {
  const sink = new EventSink();
  const clock = new FakeClock();
  const recorder = new EventRecorder({
    client: sink as never,
    component: 'test',
    log: silentLogger,
    clock,
    ...(host ? { host } : {}),
    ...(lullMs ? { lullMs } : {}),
  });
  return { sink, clock, recorder };
}

const pod = (name = 'a') =>
  ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'ns', uid: `uid-${name}`, resourceVersion: '1', creationTimestamp: '' },
  }) as KindMap['Pod'];

test('an event carries what kubectl describe shows', async () => {
  const { sink, recorder } = setup('node-1');
  recorder.event(pod(), 'Normal', 'Scheduled', 'Successfully assigned ns/a to node-1');
  await recorder.flush();
  const [event] = sink.list;
  assert.equal(event!.metadata.namespace, 'ns');
  assert.match(event!.metadata.name!, /^a\.[0-9a-f]+$/);
  assert.equal(event!.involvedObject.uid, 'uid-a');
  assert.deepEqual(event!.source, { component: 'test', host: 'node-1' });
  assert.equal(event!.firstTimestamp, '2026-01-01T00:00:00Z');
  assert.equal(event!.count, 1);
});

test('repeats raise the count; an event that expired on the server is made anew', async () => {
  const { sink, clock, recorder } = setup();
  for (let i = 0; i < 3; i++) recorder.event(pod(), 'Warning', 'Failed', 'no');
  await recorder.flush();
  assert.deepEqual(
    sink.list.map((event) => event.count),
    [3],
  );
  sink.events.clear();
  await clock.advance(60_000);
  recorder.event(pod(), 'Warning', 'Failed', 'no');
  await recorder.flush();
  assert.deepEqual(
    sink.list.map((event) => event.count),
    [1],
  );
});

test('similar events are folded after ten', async () => {
  const { sink, recorder } = setup();
  for (let i = 0; i < 15; i++) recorder.event(pod(), 'Warning', 'Failed', `try ${i}`);
  await recorder.flush();
  assert.equal(sink.list.length, 11);
  const folded = sink.list.find((event) => event.message!.startsWith('(combined'));
  assert.equal(folded!.count, 5);
  assert.equal(folded!.message, '(combined from similar events): try 14');
});

test('a flood about one object is silenced, others are heard', async () => {
  const { sink, clock, recorder } = setup();
  for (let i = 0; i < 100; i++) recorder.event(pod(), 'Warning', 'Failed', 'no');
  recorder.event(pod('b'), 'Normal', 'Fine', 'yes');
  await recorder.flush();
  assert.deepEqual(sink.list.map((event) => event.count).sort(), [1, 25]);
  await clock.advance(300_000);
  recorder.event(pod(), 'Warning', 'Failed', 'no');
  recorder.event(pod(), 'Warning', 'Failed', 'no');
  await recorder.flush();
  assert.equal(sink.list.find((event) => event.reason === 'Failed')!.count, 26);
});

test('a server that is away costs events, never an exception', async () => {
  const { sink, recorder } = setup();
  sink.failing = true;
  recorder.event(pod(), 'Normal', 'Lost', 'x');
  await recorder.flush();
  sink.failing = false;
  recorder.event({ kind: 'Node', name: 'node-1', uid: 'node-1' }, 'Normal', 'NodeReady', 'y');
  await recorder.flush();
  assert.deepEqual(
    sink.list.map((event) => [event.reason, event.metadata.namespace]),
    [['NodeReady', 'default']],
  );
});

test('a name of the longest length still gives a valid event name', async () => {
  const { sink, recorder } = setup();
  recorder.event(pod('x'.repeat(253)), 'Normal', 'Long', 'x');
  await recorder.flush();
  assert.equal(sink.list[0]!.metadata.name!.length, 253);
});

test('events wait for a lull, but not for ever, and warnings do not wait', async () => {
  const { sink, clock, recorder } = setup(undefined, 100);
  const record = (reason: string) => recorder.event(pod(), 'Normal', reason, reason);
  record('First');
  for (let i = 0; i < 4; i++) {
    await clock.advance(80);
    record(`More${i}`);
  }
  assert.equal(sink.list.length, 0);
  await clock.advance(99);
  assert.equal(sink.list.length, 0);
  await clock.advance(1);
  assert.equal(sink.list.length, 5);

  for (let i = 0; i < 8; i++) {
    record(`Never${i}`);
    await clock.advance(80);
  }
  assert.ok(sink.list.length > 5, 'the longest wait is five lulls');
  await clock.advance(1000);

  const before = sink.list.length;
  recorder.event(pod(), 'Warning', 'Bad', 'Bad');
  await clock.advance(0);
  assert.equal(sink.list.length, before + 1);
});
