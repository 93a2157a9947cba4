import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../base/clock.ts';
import { conditionStatus, isReady } from '../../kube/conditions.ts';
import type { Node } from '../../kube/types.ts';
import { draft, eventually, fakeContext, node, pod, running, settle, withSignal } from '../fixtures.ts';
import { leaseNamespace, NodeLifecycle } from './controller.ts';
import { evictionTime } from './eviction.ts';
import { desiredTaints } from './health.ts';
import { TaintEviction } from './taint-eviction.ts';

const now = Date.parse('2026-01-01T01:00:00Z');

test('taints follow conditions; the user keeps his own', () => {
  const mine = { key: 'mine', value: 'x', effect: 'NoExecute' };
  const old = { key: 'node.kubernetes.io/unreachable', effect: 'NoExecute', timeAdded: '2026-01-01T00:00:00Z' };
  const view = (one: Node, mayEvict = true) =>
    desiredTaints(one, mayEvict, now).map(({ key, effect, timeAdded }) => `${key}:${effect} ${timeAdded ?? ''}`.trim());
  const fresh = '2026-01-01T01:00:00Z';
  assert.deepEqual(view(node('n', { spec: { taints: [mine, old] } })), ['mine:NoExecute']);
  assert.deepEqual(view(node('n', { ready: 'Unknown', spec: { taints: [mine, old] } })), [
    'mine:NoExecute',
    `node.kubernetes.io/unreachable:NoSchedule ${fresh}`,
    `node.kubernetes.io/unreachable:NoExecute ${old.timeAdded}`,
  ]);
  assert.deepEqual(view(node('n', { ready: 'Unknown', spec: { taints: [old] } }), false), [
    `node.kubernetes.io/unreachable:NoSchedule ${fresh}`,
  ]);
  assert.deepEqual(view(node('n', { ready: 'False', spec: { unschedulable: true } })), [
    `node.kubernetes.io/not-ready:NoSchedule ${fresh}`,
    `node.kubernetes.io/unschedulable:NoSchedule ${fresh}`,
    `node.kubernetes.io/not-ready:NoExecute ${fresh}`,
  ]);
});

test('when a pod must go', () => {
  const taint = { key: 'node.kubernetes.io/unreachable', effect: 'NoExecute', timeAdded: '2026-01-01T00:59:00Z' };
  const tolerant = (tolerationSeconds?: number) =>
    pod('p', {
      spec: {
        tolerations: [
          { key: taint.key, operator: 'Exists', ...(tolerationSeconds === undefined ? {} : { tolerationSeconds }) },
        ],
      },
    });
  const at = (one: ReturnType<typeof pod>, taints = [taint], notBefore = 0) => {
    const time = evictionTime(one, node('n', { spec: { taints } }), notBefore, now);
    return time.type === 'never' ? 'never' : (time.at - now) / 1000;
  };
  assert.equal(at(pod('p')), -60);
  assert.equal(at(tolerant(300)), 240);
  assert.equal(at(tolerant()), 'never');
  assert.equal(at(tolerant(-5)), -60);
  assert.equal(at(pod('p'), []), 'never');
  assert.equal(at(pod('p'), [taint], now + 40_000), 40, 'after a restart the node may be about to report');
  assert.equal(at(pod('p'), [{ ...taint, key: 'mine' }], now + 40_000), -60);
});

type Context = ReturnType<typeof fakeContext>;

/** Renews the leases of the nodes that are alive, until the signal aborts. */
async function playLeases({ client }: Context, alive: Set<string>, signal: AbortSignal): Promise<void> {
  let serial = 0;
  while (!signal.aborted) {
    const renewTime = new Date(Date.UTC(2020, 0, 1) + serial++).toISOString();
    for (const name of alive) {
      const at = { namespace: leaseNamespace, name };
      await client
        .patch('Lease', at, { spec: { renewTime } })
        .catch(() => client.create('Lease', { metadata: at, spec: { renewTime } }));
    }
    await settle(20);
  }
}

const ready = async ({ client }: Context, name: string) => conditionStatus(await client.get('Node', { name }), 'Ready');

test('a silent node: Unknown, tainted, its pods not ready; when it returns the taints go', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    const alive = new Set(['n1', 'n2']);
    for (const name of alive) await client.create('Node', draft(node(name)));
    for (const name of alive)
      await client.create('Pod', draft(pod(`on-${name}`, { spec: { nodeName: name }, status: running(['10.0.0.1']) })));
    void playLeases(context, alive, signal);
    await new NodeLifecycle(context, { gracePeriodMs: 400 }).start(signal);
    await settle(700);
    assert.deepEqual([await ready(context, 'n1'), await ready(context, 'n2')], ['True', 'True']);
    alive.delete('n2');
    await eventually('unknown', async () => (await ready(context, 'n2')) === 'Unknown');
    const tainted = await eventually('taints', async () => {
      const one = await client.get('Node', { name: 'n2' });
      return one.spec.taints?.length === 2 ? one : undefined;
    });
    assert.deepEqual(tainted.spec.taints!.map(({ key, effect }) => `${key}:${effect}`).sort(), [
      'node.kubernetes.io/unreachable:NoExecute',
      'node.kubernetes.io/unreachable:NoSchedule',
    ]);
    await eventually(
      'pod not ready',
      async () => !isReady(await client.get('Pod', { namespace: 'default', name: 'on-n2' })),
    );
    assert.ok(isReady(await client.get('Pod', { namespace: 'default', name: 'on-n1' })));
    assert.equal(await ready(context, 'n1'), 'True');
    alive.add('n2');
    const back = await client.get('Node', { name: 'n2' });
    await client.updateStatus('Node', { ...back, status: node('n2').status });
    await eventually('clean', async () => ((await client.get('Node', { name: 'n2' })).spec.taints ?? []).length === 0);
  }));

test('a machine that slept, or whose clock was set, blames no node', () =>
  withSignal(async (signal) => {
    let set = 0;
    const clock = { ...systemClock, now: () => Date.now() + set };
    const context = { ...fakeContext(), clock };
    const { client } = context;
    await client.create('Node', draft(node('n1')));
    await new NodeLifecycle(context, { gracePeriodMs: 800 }).start(signal);
    for (const step of [3_600_000, -7_200_000]) {
      await client.patch('Node', { name: 'n1' }, { metadata: { annotations: { step: `${step}` } } });
      set += step;
      // Looked at before anybody could be heard again.
      await client.patch('Node', { name: 'n1' }, { spec: { unschedulable: step > 0 } });
      await settle(200);
      assert.equal(await ready(context, 'n1'), 'True', `the clock went on by ${step} ms`);
    }
    await eventually('its own silence counts', async () => (await ready(context, 'n1')) === 'Unknown', 2000);
  }));

test('when all nodes are silent nothing is evicted', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    for (const name of ['n1', 'n2']) await client.create('Node', draft(node(name)));
    await client.create('Pod', draft(pod('a', { spec: { nodeName: 'n1' } })));
    await new NodeLifecycle(context, { gracePeriodMs: 100 }).start(signal);
    await new TaintEviction(context, { restartGraceMs: 0 }).start(signal);
    await eventually(
      'both unknown',
      async () => (await ready(context, 'n1')) === 'Unknown' && (await ready(context, 'n2')) === 'Unknown',
    );
    await eventually('no NoExecute', async () => {
      const { items } = await client.list('Node');
      return items.every(
        (one) => one.spec.taints?.every((taint) => taint.effect === 'NoSchedule') && one.spec.taints.length === 1,
      );
    });
  }));

test('pods leave by their tolerations', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    const key = 'broken';
    await client.create('Node', draft(node('n1')));
    const tolerating = (tolerationSeconds?: number) => ({
      nodeName: 'n1',
      tolerations: [{ key, operator: 'Exists', ...(tolerationSeconds === undefined ? {} : { tolerationSeconds }) }],
    });
    await client.create('Pod', draft(pod('plain', { spec: { nodeName: 'n1' } })));
    await client.create('Pod', draft(pod('short', { spec: tolerating(1) })));
    await client.create('Pod', draft(pod('forever', { spec: tolerating() })));
    await new TaintEviction(context, { restartGraceMs: 0 }).start(signal);
    const going = async () =>
      (await client.list('Pod')).items
        .filter((one) => one.metadata.deletionTimestamp)
        .map((one) => one.metadata.name)
        .join();
    await settle();
    assert.equal(await going(), '');
    const timeAdded = new Date().toISOString();
    await client.patch('Node', { name: 'n1' }, { spec: { taints: [{ key, effect: 'NoExecute', timeAdded }] } });
    await eventually('plain', async () => (await going()) === 'plain');
    await eventually('short', async () => (await going()) === 'plain,short');
    const { status } = await client.get('Pod', { namespace: 'default', name: 'plain' });
    assert.equal(status?.conditions?.find((one) => one.type === 'DisruptionTarget')?.reason, 'DeletionByTaintManager');
  }));
