import assert from 'node:assert/strict';
import { test } from 'node:test';
import { draft, eventually, fakeContext, node, pod, running, settle, withSignal } from '../fixtures.ts';
import { PodCollector } from './controller.ts';

const names = async ({ client }: ReturnType<typeof fakeContext>) =>
  (await client.list('Pod')).items.map((one) => one.metadata.name).join();

test('pods of absent nodes go after the quarantine, pods that never had one at once', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Node', draft(node('n1')));
    await client.create('Pod', draft(pod('stays', { spec: { nodeName: 'n1' }, status: running(['10.0.0.1']) })));
    await client.create('Pod', draft(pod('orphan', { spec: { nodeName: 'n2' }, status: running(['10.0.0.2']) })));
    await client.create('Pod', draft(pod('waiting')));
    const deletionTimestamp = '2026-01-01T00:00:00Z';
    await client.create('Pod', draft(pod('unplaced', { metadata: { deletionTimestamp } })));
    await new PodCollector(context, { quarantineMs: 300 }).start(signal);
    await eventually('unplaced', async () => (await names(context)) === 'stays,orphan,waiting');
    await eventually('orphan', async () => (await names(context)) === 'stays,waiting');
    assert.ok(client.writes.includes('updateStatus Pod default/orphan status'), 'it failed first');
  }));

test('a node that the copy does not know but the server does keeps its pods', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Pod', draft(pod('a', { spec: { nodeName: 'n1' } })));
    const held = Promise.withResolvers<void>();
    client.onRequest = (verb, kind) => (verb === 'watch' && kind === 'Node' ? held.promise : undefined);
    await new PodCollector(context, { quarantineMs: 100 }).start(signal);
    await client.create('Node', draft(node('n1')));
    let asked = false;
    client.onRequest = (verb, kind) => {
      if (verb === 'get' && kind === 'Node') asked = true;
    };
    await eventually('the server is asked', () => asked);
    await settle();
    assert.equal(await names(context), 'a');
    held.resolve();
  }));

test('the oldest ended pods go when there are too many', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Node', draft(node('n1')));
    for (const name of ['a', 'b', 'c', 'd']) {
      await client.create(
        'Pod',
        draft(pod(name, { spec: { nodeName: 'n1' }, status: { phase: name === 'a' ? 'Running' : 'Succeeded' } })),
      );
    }
    await new PodCollector(context, { terminatedThreshold: 1 }).start(signal);
    await eventually('two', async () => (await client.list('Pod')).items.length === 2);
    assert.match(await names(context), /^a,/);
  }));
