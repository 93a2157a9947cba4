import assert from 'node:assert/strict';
import { test } from 'node:test';
import { statusError } from '../../kube/status.ts';
import { draft, eventually, fakeContext, node, pod, settle, withSignal } from '../fixtures.ts';
import { Scheduler } from './controller.ts';

const nodeOf = async (context: ReturnType<typeof fakeContext>, name: string) =>
  (await context.client.get('Pod', { namespace: 'default', name })).spec.nodeName;

test('pods that exist before the start and after it are bound, spread', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    for (const name of ['n1', 'n2', 'n3']) await client.create('Node', draft(node(name)));
    await client.create('Pod', draft(pod('a')));
    await new Scheduler(context).start(signal);
    await client.create('Pod', draft(pod('b')));
    await client.create('Pod', draft(pod('c')));
    const places = await eventually('all bound', async () => {
      const found = await Promise.all(['a', 'b', 'c'].map((name) => nodeOf(context, name)));
      return found.every(Boolean) ? found : undefined;
    });
    assert.equal(new Set(places).size, 3);
    const events = await eventually('events', async () => {
      const { items } = await client.list('Event');
      return items.length === 3 ? items : undefined;
    });
    const event = events.find((one) => one.involvedObject.name === 'a')!;
    assert.equal(event.reason, 'Scheduled');
    assert.match(event.message!, /^Successfully assigned default\/a to n[123]$/);
  }));

test('a burst is spread although the watch lags behind', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    for (const name of ['n1', 'n2', 'n3']) await client.create('Node', draft(node(name)));
    await new Scheduler(context).start(signal);
    client.onRequest = (verb) => (verb === 'bind' ? new Promise((resolve) => setTimeout(resolve, 5)) : undefined);
    await Promise.all(Array.from({ length: 30 }, (_, i) => client.create('Pod', draft(pod(`p${i}`)))));
    const counts = await eventually('all bound', async () => {
      const { items } = await client.list('Pod');
      const names = items.map((one) => one.spec.nodeName);
      return names.every(Boolean) ? Map.groupBy(names, (name) => name!) : undefined;
    });
    assert.deepEqual(
      [...counts.values()].map((names) => names.length),
      [10, 10, 10],
    );
  }));

test('an unschedulable pod says why, once, and is bound when a node comes', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Node', draft(node('n1', { ready: 'False' })));
    await new Scheduler(context).start(signal);
    await client.create('Pod', draft(pod('a')));
    const waiting = await eventually('condition', async () => {
      const one = await client.get('Pod', { namespace: 'default', name: 'a' });
      return one.status?.conditions ? one : undefined;
    });
    const [condition] = waiting.status!.conditions!;
    assert.equal(condition!.reason, 'Unschedulable');
    assert.match(condition!.message!, /^0\/1 nodes are available: 1 node\(s\) had untolerated taint/);
    await settle();
    assert.equal(client.writes.filter((write) => write === 'updateStatus Pod default/a status').length, 1);
    await client.create('Node', draft(node('n2')));
    await eventually('bound', async () => (await nodeOf(context, 'a')) === 'n2');
    const { items } = await client.list('Event');
    assert.ok(items.some((event) => event.reason === 'FailedScheduling' && event.type === 'Warning'));
  }));

test('a node that becomes full takes nobody; room that is freed is used', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Node', draft(node('n1', { allocatable: { pods: '1' } })));
    await new Scheduler(context).start(signal);
    await client.create('Pod', draft(pod('a')));
    await eventually('bound', () => nodeOf(context, 'a'));
    await client.create('Pod', draft(pod('b')));
    await settle();
    assert.equal(await nodeOf(context, 'b'), undefined);
    await client.delete('Pod', { namespace: 'default', name: 'a' }, { gracePeriodSeconds: 0 });
    await eventually('bound', () => nodeOf(context, 'b'));
  }));

test('a failed binding is tried again, and its room is not lost', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Node', draft(node('n1', { allocatable: { pods: '1' } })));
    await new Scheduler(context).start(signal);
    let failures = 2;
    client.onRequest = (verb) => {
      if (verb === 'bind' && failures-- > 0) throw statusError('InternalError', 'no');
    };
    await client.create('Pod', draft(pod('a')));
    await eventually('bound', () => nodeOf(context, 'a'));
  }));

test('pods of other schedulers and gated pods are left alone', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Node', draft(node('n1')));
    await new Scheduler(context).start(signal);
    await client.create('Pod', draft(pod('a', { spec: { schedulerName: 'mine' } })));
    await client.create('Pod', draft(pod('b', { spec: { schedulingGates: [{ name: 'wait' }] } })));
    await eventually('gated', async () => {
      const one = await client.get('Pod', { namespace: 'default', name: 'b' });
      return one.status?.conditions?.[0]?.reason === 'SchedulingGated';
    });
    await settle();
    assert.deepEqual([await nodeOf(context, 'a'), await nodeOf(context, 'b')], [undefined, undefined]);
    await client.patch('Pod', { namespace: 'default', name: 'b' }, { spec: { schedulingGates: null } });
    await eventually('bound', () => nodeOf(context, 'b'));
  }));
