import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conditionOf } from '../../kube/conditions.ts';
import { keyOf } from '../../kube/names.ts';
import { statusError } from '../../kube/status.ts';
import type { Deployment, Draft, Pod } from '../../kube/types.ts';
import { draft, eventually, fakeContext, pod, replicaSetDraft, running, settle, withSignal } from '../fixtures.ts';
import { controllerOf } from '../owners.ts';
import { DeploymentController } from './deployment-controller.ts';
import { ReplicaSetController } from './replicaset-controller.ts';

type Context = ReturnType<typeof fakeContext>;

const labels = { app: 'web' };
const at = { namespace: 'default', name: 'web' };

function web(replicas: number, spec: Partial<Deployment['spec']> = {}): Draft<Deployment> {
  return {
    metadata: { ...at, labels },
    spec: { replicas, selector: { matchLabels: labels }, template: templateOf('nginx:1'), ...spec },
  };
}

function templateOf(image: string) {
  return { metadata: { labels }, spec: { containers: [{ name: 'main', image }] } };
}

/** Plays the nodes: new pods become ready, deleted ones go. */
function playNodes({ client, informers }: Context, broken: (pod: Pod) => boolean = () => false): void {
  let serial = 1;
  const touch = async (one: Pod) => {
    try {
      if (one.metadata.deletionTimestamp) await client.delete('Pod', one.metadata, { gracePeriodSeconds: 0 });
      else if (!one.spec.nodeName) await client.bind(one.metadata, `n${serial % 3}`);
      else if (!one.status?.podIP && !broken(one)) {
        await client.patch('Pod', one.metadata, { status: running([`10.0.0.${serial++}`]) }, { subresource: 'status' });
      }
    } catch {
      // someone was faster
    }
  };
  informers.of('Pod').addHandler({ onAdd: (one) => void touch(one), onUpdate: (_, one) => void touch(one) });
}

async function startAll(context: Context, signal: AbortSignal): Promise<void> {
  await Promise.all([new ReplicaSetController(context).start(signal), new DeploymentController(context).start(signal)]);
}

async function images({ client }: Context): Promise<string> {
  const { items } = await client.list('Pod');
  return items
    .map((one) => one.spec.containers[0]!.image)
    .sort()
    .join();
}

const complete = (context: Context) =>
  eventually('complete', async () => {
    const one = await context.client.get('Deployment', at);
    const progressing = conditionOf(one.status?.conditions, 'Progressing');
    const done = (one.status?.observedGeneration ?? 0) >= (one.metadata.generation ?? 0);
    return done && progressing?.reason === 'NewReplicaSetAvailable' && one.status?.updatedReplicas === one.spec.replicas
      ? one
      : undefined;
  });

test('a ReplicaSet makes its pods once, replaces what goes, and shrinks', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    playNodes(context);
    await new ReplicaSetController(context).start(signal);
    await client.create('ReplicaSet', replicaSetDraft('web', 7, labels));
    await eventually('ready', async () => (await client.get('ReplicaSet', at)).status?.availableReplicas === 7);
    await settle();
    assert.equal(client.writes.filter((write) => write.startsWith('create Pod')).length, 7, 'no pod too many');
    const [first] = (await client.list('Pod')).items;
    assert.match(first!.metadata.name, /^web-/);
    assert.equal(controllerOf(first!)?.name, 'web');
    await client.delete('Pod', first!.metadata);
    await eventually('replaced', async () => (await client.list('Pod')).items.length === 7);
    await client.patch('ReplicaSet', at, { spec: { replicas: 2 } });
    await eventually('shrunk', async () => (await client.get('ReplicaSet', at)).status?.replicas === 2);
    assert.equal((await client.list('Pod')).items.filter((one) => !one.metadata.deletionTimestamp).length, 2);
    const reasons = new Set((await client.list('Event')).items.map((event) => event.reason));
    assert.ok(reasons.has('SuccessfulCreate') && reasons.has('SuccessfulDelete'));
  }));

test('orphans that match are adopted, pods that no longer match are released', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    await client.create('Pod', draft(pod('mine', { labels })));
    await client.create('ReplicaSet', replicaSetDraft('web', 2, labels));
    await new ReplicaSetController(context).start(signal);
    await eventually('two', async () => (await client.get('ReplicaSet', at)).status?.replicas === 2);
    assert.equal(controllerOf(await client.get('Pod', { ...at, name: 'mine' }))?.name, 'web');
    await client.patch('Pod', { ...at, name: 'mine' }, { metadata: { labels: { app: 'other' } } });
    await eventually('three', async () => (await client.list('Pod')).items.length === 3);
    assert.equal(controllerOf(await client.get('Pod', { ...at, name: 'mine' })), undefined);
  }));

test('refused pods: an event, a condition, a few requests only; later it works', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    let refused = 0;
    client.onRequest = (verb, kind) => {
      if (verb === 'create' && kind === 'Pod' && refused < 3) {
        refused++;
        throw statusError('Forbidden', 'exceeded quota');
      }
    };
    await new ReplicaSetController(context).start(signal);
    await client.create('ReplicaSet', replicaSetDraft('web', 50, labels));
    await eventually('condition', async () => {
      const one = await client.get('ReplicaSet', at);
      return conditionOf(one.status?.conditions, 'ReplicaFailure')?.reason === 'FailedCreate';
    });
    assert.ok(refused <= 3, 'the first batch is one pod');
    await eventually('all', async () => (await client.get('ReplicaSet', at)).status?.replicas === 50);
    const one = await client.get('ReplicaSet', at);
    assert.equal(conditionOf(one.status?.conditions, 'ReplicaFailure'), undefined);
    assert.equal((await client.list('Pod')).items.length, 50);
  }));

test('minReadySeconds delays availability', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    const set = replicaSetDraft('web', 1, labels);
    await client.create('ReplicaSet', { ...set, spec: { ...set.spec, minReadySeconds: 1 } });
    await new ReplicaSetController(context).start(signal);
    const [one] = await eventually('pod', async () => {
      const { items } = await client.list('Pod');
      return items.length ? items : undefined;
    });
    const now = new Date().toISOString();
    await client.patch('Pod', one!.metadata, { status: running(['10.0.0.1'], true, now) }, { subresource: 'status' });
    await eventually('ready', async () => (await client.get('ReplicaSet', at)).status?.readyReplicas === 1);
    assert.equal((await client.get('ReplicaSet', at)).status?.availableReplicas, 0);
    await eventually('available', async () => (await client.get('ReplicaSet', at)).status?.availableReplicas === 1);
  }));

test('a Deployment rolls out, rolls on, rolls back, and keeps history', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    playNodes(context);
    await client.create('Deployment', web(3, { revisionHistoryLimit: 1 }));
    await startAll(context, signal);
    const first = await complete(context);
    assert.equal(first.metadata.annotations!['deployment.kubernetes.io/revision'], '1');
    assert.equal(conditionOf(first.status?.conditions, 'Available')?.status, 'True');
    assert.equal(await images(context), 'nginx:1,nginx:1,nginx:1');
    const [set] = (await client.list('ReplicaSet')).items;
    const hash = set!.metadata.labels!['pod-template-hash'];
    assert.equal(set!.metadata.name, `web-${hash}`);
    assert.equal((await client.list('Pod')).items[0]!.metadata.labels!['pod-template-hash'], hash);

    for (const [revision, image] of [
      ['2', 'nginx:2'],
      ['3', 'nginx:3'],
      ['4', 'nginx:2'],
    ] as const) {
      await client.patch('Deployment', at, { spec: { template: templateOf(image) } });
      const done = await complete(context);
      await eventually(image, async () => (await images(context)) === [image, image, image].join());
      assert.equal(done.metadata.annotations!['deployment.kubernetes.io/revision'], revision);
    }
    const sets = await eventually('history', async () => {
      const { items } = await client.list('ReplicaSet');
      return items.length === 2 ? items : undefined;
    });
    const back = sets.find((one) => one.spec.replicas === 3)!;
    assert.equal(back.metadata.annotations!['deployment.kubernetes.io/revision'], '4');
    assert.equal(back.metadata.annotations!['deployment.kubernetes.io/revision-history'], '2');
  }));

test('during a rolling update there are never too few nor too many pods', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client, informers } = context;
    playNodes(context);
    const strategy = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 1 } };
    await client.create('Deployment', web(6, { strategy }));
    await startAll(context, signal);
    await complete(context);
    const ready = new Set<string>();
    const alive = new Set<string>();
    let least = Number.POSITIVE_INFINITY;
    let most = 0;
    const look = (one: Pod, gone: boolean) => {
      const going = gone || one.metadata.deletionTimestamp !== undefined;
      if (going) alive.delete(keyOf(one));
      else alive.add(keyOf(one));
      if (!going && one.status?.podIP) ready.add(keyOf(one));
      else ready.delete(keyOf(one));
      if (alive.size >= 6) least = Math.min(least, ready.size);
      most = Math.max(most, alive.size);
    };
    informers.of('Pod').addHandler({
      onAdd: (one) => look(one, false),
      onUpdate: (_, one) => look(one, false),
      onDelete: (one) => look(one, true),
    });
    await client.patch('Deployment', at, { spec: { template: templateOf('nginx:2') } });
    await complete(context);
    assert.ok(least >= 5, `${least} ready at the least`);
    assert.ok(most <= 7, `${most} at the most`);
  }));

test('Recreate: no pod of the new template before the last old one is gone', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client, informers } = context;
    playNodes(context);
    await client.create('Deployment', web(3, { strategy: { type: 'Recreate' } }));
    await startAll(context, signal);
    await complete(context);
    let mixed = false;
    const look = () => {
      const present = new Set([...informers.of('Pod').list()].map((one) => one.spec.containers[0]!.image));
      if (present.size > 1) mixed = true;
    };
    informers.of('Pod').addHandler({ onAdd: look, onUpdate: look });
    await client.patch('Deployment', at, { spec: { template: templateOf('nginx:2') } });
    await eventually('new', async () => (await images(context)) === 'nginx:2,nginx:2,nginx:2');
    assert.equal(mixed, false);
  }));

test('paused: scaling works, rolling out waits', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    playNodes(context);
    await client.create('Deployment', web(2));
    await startAll(context, signal);
    await complete(context);
    await client.patch('Deployment', at, { spec: { paused: true, replicas: 4, template: templateOf('nginx:2') } });
    await eventually('scaled', async () => (await images(context)) === 'nginx:1,nginx:1,nginx:1,nginx:1');
    await eventually('says so', async () => {
      const { status } = await client.get('Deployment', at);
      return conditionOf(status?.conditions, 'Progressing')?.reason === 'DeploymentPaused';
    });
    assert.equal((await client.list('ReplicaSet')).items.length, 1);
    await client.patch('Deployment', at, { spec: { paused: false } });
    await eventually('rolled', async () => (await images(context)) === 'nginx:2,nginx:2,nginx:2,nginx:2');
  }));

test('a rollout that does not move says so after its deadline, and keeps serving', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    playNodes(context, (one) => one.spec.containers[0]!.image === 'broken');
    await client.create('Deployment', web(2, { progressDeadlineSeconds: 1 }));
    await startAll(context, signal);
    await complete(context);
    await client.patch('Deployment', at, { spec: { template: templateOf('broken') } });
    await eventually('exceeded', async () => {
      const { status } = await client.get('Deployment', at);
      return conditionOf(status?.conditions, 'Progressing')?.reason === 'ProgressDeadlineExceeded';
    });
    const { status } = await client.get('Deployment', at);
    assert.equal(conditionOf(status?.conditions, 'Available')?.status, 'True');
    assert.ok((await images(context)).includes('nginx:1,nginx:1'));
  }));

test('a restart in the middle of anything makes nothing twice', () =>
  withSignal(async (signal) => {
    const context = fakeContext();
    const { client } = context;
    playNodes(context);
    await context.informers.of('Pod').start(signal);
    await client.create('Deployment', web(5));
    for (let i = 0; i < 6; i++) {
      const life = new AbortController();
      await startAll(fakeContext(client), life.signal);
      await settle(3 + 4 * i);
      life.abort();
    }
    await startAll(fakeContext(client), signal);
    await complete(context);
    await settle();
    assert.equal((await client.list('Pod')).items.length, 5);
    assert.equal((await client.list('ReplicaSet')).items.length, 1);
  }));
