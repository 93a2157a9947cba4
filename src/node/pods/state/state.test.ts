import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { corev1, Pod, PodSpec } from '../../../kube/types.ts';
import { containerHash } from '../config/labels.ts';
import { computeActions } from './actions.ts';
import { type ContainerRecord, garbage, type PodRuntime, type SandboxRecord, withContainer } from './pod-runtime.ts';
import { FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS, RestartBackoff } from './restart-backoff.ts';
import { buildPodStatus } from './status.ts';

const c = (name: string, more: Partial<corev1.Container> = {}): corev1.Container => ({ name, image: 'i', ...more });

const pod = (spec: Partial<PodSpec> = {}, status?: Pod['status']): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web', namespace: 'ns', uid: 'u', resourceVersion: '1', creationTimestamp: '' },
  spec: { containers: [c('a'), c('b')], ...spec },
  ...(status ? { status } : {}),
});

const sandbox = (ready = true, id = 's'): SandboxRecord => ({ id, attempt: 0, ready, createdAt: 0, ips: ['10.0.0.1'] });

function record(name: string, state: ContainerRecord['state'], exitCode = 0, more: Partial<ContainerRecord> = {}) {
  return {
    id: `${name}-${more.attempt ?? 0}`,
    sandboxId: 's',
    name,
    attempt: 0,
    state,
    createdAt: 1000,
    startedAt: state === 'created' ? 0 : 2000,
    finishedAt: state === 'exited' ? 3000 : 0,
    exitCode,
    reason: '',
    message: '',
    image: 'i',
    imageRef: 'sha256:i',
    hash: containerHash(c(name)),
    terminationPath: '',
    terminationPolicy: 'File',
    logPath: '',
    ...more,
  } satisfies ContainerRecord;
}

interface Case {
  readonly name: string;
  readonly pod?: Pod;
  readonly sandboxes?: SandboxRecord[];
  readonly containers?: ContainerRecord[];
  readonly unstarted?: string[];
  readonly unhealthy?: string;
  readonly kill?: string[];
  readonly start?: string[];
  readonly sandbox?: true;
  readonly finished?: true;
}

const inits = [c('i1'), c('side', { restartPolicy: 'Always' }), c('i2')];
const never = { restartPolicy: 'Never' };
const onFailure = { restartPolicy: 'OnFailure' };

const cases: readonly Case[] = [
  { name: 'nothing there', sandboxes: [], sandbox: true },
  { name: 'a sandbox only', start: ['a', 'b'] },
  { name: 'one runs', containers: [record('a', 'running')], start: ['b'] },
  { name: 'all run', containers: [record('a', 'running'), record('b', 'running')] },
  { name: 'created, never started', containers: [record('a', 'created'), record('b', 'running')], start: ['a'] },
  { name: 'Always: ended well', containers: [record('a', 'exited'), record('b', 'running')], start: ['a'] },
  {
    name: 'OnFailure: one ended well, one badly',
    pod: pod(onFailure),
    containers: [record('a', 'exited'), record('b', 'exited', 1)],
    start: ['b'],
  },
  {
    name: 'OnFailure: all ended well',
    pod: pod(onFailure),
    containers: [record('a', 'exited'), record('b', 'exited')],
    finished: true,
  },
  {
    name: 'Never: all ended',
    pod: pod(never),
    containers: [record('a', 'exited', 1), record('b', 'exited')],
    finished: true,
  },
  { name: 'Never: one still runs', pod: pod(never), containers: [record('a', 'exited', 1), record('b', 'running')] },
  { name: 'dead sandbox', sandboxes: [sandbox(false)], containers: [record('a', 'exited', 137)], sandbox: true },
  {
    name: 'dead sandbox, Never: given up',
    pod: pod(never),
    sandboxes: [sandbox(false)],
    containers: [record('a', 'exited', 137)],
    finished: true,
  },
  {
    name: 'dead sandbox of a pod that was done',
    pod: pod(onFailure),
    sandboxes: [sandbox(false)],
    containers: [record('a', 'exited'), record('b', 'exited')],
    finished: true,
  },
  {
    name: 'unhealthy',
    containers: [record('a', 'running'), record('b', 'running')],
    unhealthy: 'a-0',
    kill: ['a'],
  },
  {
    name: 'another image',
    containers: [record('a', 'running', 0, { hash: 'old' }), record('b', 'running')],
    kill: ['a'],
  },
  { name: 'init: the first', pod: pod({ initContainers: inits }), start: ['i1'] },
  { name: 'init: runs', pod: pod({ initContainers: inits }), containers: [record('i1', 'running')] },
  { name: 'init: failed', pod: pod({ initContainers: inits }), containers: [record('i1', 'exited', 1)], start: ['i1'] },
  {
    name: 'init: failed, Never',
    pod: pod({ initContainers: inits, ...never }),
    containers: [record('i1', 'exited', 1)],
    finished: true,
  },
  {
    name: 'init: the sidecar',
    pod: pod({ initContainers: inits }),
    containers: [record('i1', 'exited')],
    start: ['side'],
  },
  {
    name: 'init: the sidecar has not started up',
    pod: pod({ initContainers: inits }),
    containers: [record('i1', 'exited'), record('side', 'running')],
    unstarted: ['side-0'],
  },
  {
    name: 'init: after the sidecar',
    pod: pod({ initContainers: inits }),
    containers: [record('i1', 'exited'), record('side', 'running')],
    start: ['i2'],
  },
  {
    name: 'main after init',
    pod: pod({ initContainers: inits }),
    containers: [record('i1', 'exited'), record('side', 'running'), record('i2', 'exited')],
    start: ['a', 'b'],
  },
  {
    name: 'a sidecar that ends beside main containers is started again, init containers are not',
    pod: pod({ initContainers: inits }),
    containers: [record('side', 'exited', 1), record('a', 'running'), record('b', 'running')],
    start: ['side'],
  },
  {
    name: 'all main ended: sidecars are killed',
    pod: pod({ initContainers: inits, ...never }),
    containers: [
      record('i1', 'exited'),
      record('side', 'running'),
      record('i2', 'exited'),
      record('a', 'exited'),
      record('b', 'exited'),
    ],
    kill: ['side'],
    finished: true,
  },
  {
    name: 'a new sandbox repeats init containers',
    pod: pod({ initContainers: [c('i1')] }),
    sandboxes: [sandbox(true, 's2'), sandbox(false)],
    containers: [record('i1', 'exited'), record('a', 'exited', 137), record('b', 'exited', 137)],
    start: ['i1'],
  },
];

for (const one of cases) {
  test(`actions: ${one.name}`, () => {
    const runtime: PodRuntime = { sandboxes: one.sandboxes ?? [sandbox()], containers: one.containers ?? [] };
    const actions = computeActions({
      pod: one.pod ?? pod(),
      runtime,
      hasStarted: (id) => !one.unstarted?.includes(id),
      unhealthy: (id) => (id === one.unhealthy ? 'unhealthy' : undefined),
    });
    assert.deepEqual(
      {
        kill: actions.kill.map(({ container }) => container.name),
        start: actions.start.map(({ name }) => name),
        sandbox: actions.createSandbox,
        finished: actions.finished,
      },
      { kill: one.kill ?? [], start: one.start ?? [], sandbox: one.sandbox ?? false, finished: one.finished ?? false },
    );
  });
}

function statusOf(one: Pod, containers: ContainerRecord[], waiting: Record<string, string> = {}) {
  return buildPodStatus({
    pod: one,
    runtime: { sandboxes: [sandbox()], containers },
    now: Date.UTC(2026, 0, 1),
    hostIPs: ['172.18.0.2'],
    waiting: new Map(Object.entries(waiting).map(([name, reason]) => [name, { reason }])),
    hasStarted: () => true,
    isReady: () => true,
  });
}

test('phases', () => {
  const running = record('a', 'running');
  const failed = record('b', 'exited', 1);
  const table: readonly (readonly [Partial<PodSpec>, ContainerRecord[], string])[] = [
    [{}, [], 'Pending'],
    [{}, [running], 'Pending'],
    [{}, [running, record('b', 'running')], 'Running'],
    [{}, [running, failed], 'Running'],
    [{}, [record('a', 'exited'), record('b', 'exited')], 'Running'],
    [never, [record('a', 'exited'), record('b', 'exited')], 'Succeeded'],
    [never, [record('a', 'exited'), failed], 'Failed'],
    [onFailure, [record('a', 'exited'), failed], 'Running'],
    [{ initContainers: [c('i1')] }, [record('i1', 'running')], 'Pending'],
    [{ initContainers: [c('i1')], ...never }, [record('i1', 'exited', 1)], 'Failed'],
  ];
  for (const [spec, containers, phase] of table) assert.equal(statusOf(pod(spec), containers).phase, phase);
});

test('a phase that is an end is kept', () => {
  const ended = pod({}, { phase: 'Failed', reason: 'DeadlineExceeded', message: 'm' });
  const { phase, reason } = statusOf(ended, [record('a', 'running'), record('b', 'running')]);
  assert.deepEqual({ phase, reason }, { phase: 'Failed', reason: 'DeadlineExceeded' });
});

test('readiness gates: others decide, and their conditions are kept', () => {
  const gates = { readinessGates: [{ conditionType: 'lb' }] };
  const both = [record('a', 'running'), record('b', 'running')];
  const ready = (status?: Pod['status']) =>
    statusOf(pod(gates, status), both).conditions?.find(({ type }) => type === 'Ready');
  assert.equal(ready()?.reason, 'ReadinessGatesNotReady');
  const lb = { type: 'lb', status: 'True' };
  assert.equal(ready({ conditions: [lb] })?.status, 'True');
  assert.ok(statusOf(pod(gates, { conditions: [lb] }), both).conditions?.includes(lb));
});

test('transition times stay while the condition stays', () => {
  const since = '2025-01-01T00:00:00Z';
  const before = { conditions: [{ type: 'PodScheduled', status: 'True', lastTransitionTime: since }] };
  const { conditions = [] } = statusOf(pod({}, before), []);
  assert.equal(conditions.find(({ type }) => type === 'PodScheduled')?.lastTransitionTime, since);
  assert.notEqual(conditions.find(({ type }) => type === 'Ready')?.lastTransitionTime, since);
});

test('garbage: two runs of each container stay', () => {
  let runtime: PodRuntime = { sandboxes: [sandbox(true, 's2'), sandbox(false, 's')], containers: [] };
  for (let attempt = 0; attempt < 4; attempt++) {
    const sandboxId = attempt === 0 ? 's' : 's2';
    runtime = withContainer(runtime, record('a', attempt === 3 ? 'running' : 'exited', 1, { attempt, sandboxId }));
  }
  assert.deepEqual(garbage(runtime), { containers: ['a-1', 'a-0'], sandboxes: ['s'] });
});

test('back-off: doubles to its limit, is forgotten after ten minutes', () => {
  const backoff = new RestartBackoff();
  let now = 0;
  assert.equal(backoff.remaining('k', now, now), 0);
  for (const delay of [10, 20, 40, 80, 160, 300, 300]) {
    backoff.retried('k', now, now);
    assert.equal(backoff.remaining('k', now, now), delay * 1000);
    assert.equal(backoff.remaining('k', now, now + delay * 1000), 0);
    now += delay * 1000;
  }
  assert.equal(backoff.remaining('k', now + 600_001, now + 600_001), 0);
  backoff.retried('k', now + 600_001, now + 600_001);
  assert.equal(backoff.delay('k'), FIRST_BACKOFF_MS);
  fc.assert(
    fc.property(fc.array(fc.nat(700_000), { maxLength: 30 }), (gaps) => {
      const one = new RestartBackoff();
      let at = 0;
      for (const gap of gaps) {
        at += gap;
        one.retried('k', at, at);
        assert.ok(one.delay('k') >= FIRST_BACKOFF_MS && one.delay('k') <= LONGEST_BACKOFF_MS);
      }
    }),
  );
});
