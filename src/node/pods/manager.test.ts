import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FakeClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import { FakeClient } from '../../kube/fake-client.ts';
import { Informer } from '../../kube/informer.ts';
import { isNotFound } from '../../kube/status.ts';
import type { Pod, PodSpec } from '../../kube/types.ts';
import { CriError } from './cri/errors.ts';
import { FakeRuntime } from './cri/fake-runtime.ts';
import { PodManager, type PodManagerOptions } from './manager.ts';
import type { VolumeMounts } from './volumes/mounts.ts';

/** A node in memory: the manager over the fake runtime and the fake API, with a clock that the test moves. */
class Lab {
  readonly clock = new FakeClock();
  readonly client = new FakeClient();
  readonly runtime = new FakeRuntime({ clock: this.clock });
  readonly events: string[] = [];
  readonly mounted: string[] = [];
  readonly folder: string;
  manager!: PodManager;
  #controller = new AbortController();
  #options: Partial<PodManagerOptions>;

  private constructor(folder: string, options: Partial<PodManagerOptions>) {
    this.folder = folder;
    this.#options = options;
  }

  static async start(t: TestContext, options: Partial<PodManagerOptions> = {}): Promise<Lab> {
    const lab = new Lab(await mkdtemp(join(tmpdir(), 'podwire-lab-')), options);
    t.after(async () => {
      lab.#controller.abort();
      await rm(lab.folder, { recursive: true, force: true });
    });
    await lab.startAgent();
    return lab;
  }

  async startAgent(): Promise<void> {
    this.#controller = new AbortController();
    const { client, clock, runtime, folder } = this;
    const mounts: VolumeMounts = {
      tmpfs: async (target) => void this.mounted.push(target),
      unmount: async (target) => void this.mounted.splice(this.mounted.indexOf(target), 1),
    };
    const common = { client, log: silentLogger };
    this.manager = new PodManager({
      nodeName: 'n',
      nodeIPs: ['172.18.0.2', 'fd00:18::2'],
      client,
      podInformer: new Informer('Pod', { ...common, fieldSelector: 'spec.nodeName=n' }),
      serviceInformer: new Informer('Service', common),
      log: silentLogger,
      runtime,
      runtimeEvents: runtime,
      events: { event: (about, _type, reason, message) => this.events.push(`${about.name} ${reason}: ${message}`) },
      resources: { memoryBytes: 1 << 30, capacity: { cpu: '2', memory: '1Gi' } },
      dirs: { pods: join(folder, 'pods'), logs: join(folder, 'logs') },
      mounts,
      clusterDns: ['10.96.0.10'],
      clusterDomain: 'cluster.local',
      networkReady: () => true,
      clock,
      ...this.#options,
    });
    await this.manager.start(this.#controller.signal);
  }

  /** The agent is gone from one moment to the next; pods run on. */
  killAgent(): void {
    this.#controller.abort();
  }

  async create(name: string, spec: Partial<PodSpec> = {}, uid?: string): Promise<void> {
    const containers = spec.containers ?? [container('main')];
    const metadata = { name, namespace: 'default', ...(uid ? { uid } : {}) };
    await this.client.create('Pod', { metadata, spec: { nodeName: 'n', ...spec, containers } });
  }

  get(name: string): Promise<Pod> {
    return this.client.get('Pod', { namespace: 'default', name });
  }

  delete(name: string, gracePeriodSeconds?: number): Promise<void> {
    const options = gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds };
    return this.client.delete('Pod', { namespace: 'default', name }, options);
  }

  async eventually(name: string, wanted: (pod: Pod) => boolean): Promise<Pod> {
    let pod: Pod | undefined;
    await until(
      async () => {
        await this.clock.advance(0);
        pod = await this.get(name);
        return wanted(pod);
      },
      () => JSON.stringify(pod?.status, null, 1),
    );
    return pod!;
  }

  async gone(name: string): Promise<void> {
    await until(async () => {
      await this.clock.advance(0);
      const found = await this.get(name).catch((error: unknown) => {
        if (isNotFound(error)) return undefined;
        throw error;
      });
      return found === undefined && this.runtime.sandboxes.size === 0;
    });
  }

  /** What was called, in order, since the last time. */
  calls(): string[] {
    return this.runtime.calls.splice(0);
  }
}

async function until(wanted: () => boolean | Promise<boolean>, say: () => string = () => ''): Promise<void> {
  for (let i = 0; i < 700; i++) {
    if (await wanted()) return;
    await sleep(1);
  }
  assert.fail(`has not come to be: ${wanted} ${say()}`);
}

const container = (name: string, more: Partial<PodSpec['containers'][number]> = {}) => ({
  name,
  image: 'busybox',
  imagePullPolicy: 'IfNotPresent',
  ...more,
});

const condition =
  (type: string, value = 'True') =>
  (pod: Pod) =>
    pod.status?.conditions?.some((one) => one.type === type && one.status === value) ?? false;
const ready = condition('Ready');
const status = (pod: Pod, name = 'main') =>
  [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])].find(
    (one) => one.name === name,
  );
const waiting =
  (reason: string, name = 'main') =>
  (pod: Pod) =>
    status(pod, name)?.state?.waiting?.reason === reason;
const restarted =
  (times: number, name = 'main') =>
  (pod: Pod) => {
    const one = status(pod, name);
    return one?.restartCount === times && one.state?.running !== undefined;
  };

test('a pod runs with the least of calls and goes without a trace', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('web');
  const pod = await lab.eventually('web', ready);
  assert.deepEqual(lab.calls(), ['RunPodSandbox web', 'CreateContainer main', 'StartContainer main']);
  assert.equal(pod.status?.phase, 'Running');
  assert.equal(pod.status?.podIPs?.length, 2);
  assert.deepEqual(pod.status?.hostIPs, [{ ip: '172.18.0.2' }, { ip: 'fd00:18::2' }]);
  assert.equal(pod.status?.qosClass, 'BestEffort');
  const hosts = await readFile(join(lab.folder, 'pods', pod.metadata.uid, 'etc-hosts'), 'utf8');
  assert.ok(hosts.includes(`${pod.status?.podIP}\tweb`));
  await lab.delete('web');
  await lab.gone('web');
  assert.deepEqual(lab.calls(), ['StopContainer main 30', 'StopPodSandbox web', 'RemovePodSandbox web']);
  await until(async () => (await readdir(join(lab.folder, 'pods'))).length === 0);
  await until(() => lab.manager.pods().length === 0);
  assert.equal(lab.client.writes.filter((write) => write.startsWith('delete Pod')).length, 2);
});

test('a crash: first restart at once, then with back-off; the last state is told', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('web');
  await lab.eventually('web', ready);
  lab.runtime.exit('main', 1);
  await lab.eventually('web', restarted(1));
  lab.runtime.exit('main', 2);
  const pod = await lab.eventually('web', waiting('CrashLoopBackOff'));
  assert.equal(status(pod)?.lastState?.terminated?.exitCode, 2);
  assert.match(status(pod)?.state?.waiting?.message ?? '', /^back-off 10s restarting failed container=main/);
  assert.equal(pod.status?.phase, 'Running');
  await lab.clock.advance(9_000);
  assert.ok(waiting('CrashLoopBackOff')(await lab.get('web')));
  await lab.clock.advance(1_500);
  await lab.eventually('web', restarted(2));
  lab.runtime.exit('main', 2);
  const again = await lab.eventually('web', waiting('CrashLoopBackOff'));
  assert.match(status(again)?.state?.waiting?.message ?? '', /^back-off 20s/);
  // Long health is rewarded: after ten minutes the next restart is immediate.
  await lab.clock.advance(21_000);
  await lab.eventually('web', restarted(3));
  await lab.clock.advance(601_000);
  lab.runtime.exit('main', 2);
  await lab.eventually('web', restarted(4));
  // Only this run and the one before are kept.
  await until(() => lab.runtime.containers.size === 2);
});

test('an end that no event tells is found by the listing', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('web');
  await lab.eventually('web', ready);
  await lab.manager.idle();
  lab.runtime.exit('main', 1, { events: 'lost' });
  await lab.clock.advance(10_500);
  await lab.eventually('web', restarted(1));
});

test('restart policies: what ends a pod', async (t) => {
  const lab = await Lab.start(t);
  const table = [
    { policy: 'Never', exit: 0, phase: 'Succeeded' },
    { policy: 'Never', exit: 1, phase: 'Failed' },
    { policy: 'OnFailure', exit: 0, phase: 'Succeeded' },
  ];
  for (const { policy, exit, phase } of table) {
    const name = `pod-${policy.toLowerCase()}-${exit}`;
    await lab.create(name, { restartPolicy: policy, containers: [container(name)] });
    await lab.eventually(name, ready);
    lab.runtime.exit(name, exit);
    const pod = await lab.eventually(name, (one) => one.status?.phase === phase);
    assert.equal(status(pod, name)?.state?.terminated?.exitCode, exit);
    assert.equal(pod.status?.conditions?.find(({ type }) => type === 'Ready')?.status, 'False');
    assert.ok(pod.status?.podIP);
  }
  await lab.create('again', { restartPolicy: 'OnFailure', containers: [container('again')] });
  await lab.eventually('again', ready);
  lab.runtime.exit('again', 1);
  await lab.eventually('again', restarted(1, 'again'));
  // What has ended lets its network go and is left alone.
  await until(() => [...lab.runtime.sandboxes.values()].filter((sandbox) => sandbox.ready).length === 1);
});

test('init containers run in order, a sidecar beside the main ones and ends last', async (t) => {
  const lab = await Lab.start(t);
  const initContainers = [container('one'), container('side', { restartPolicy: 'Always' }), container('two')];
  await lab.create('web', { initContainers, restartPolicy: 'Never' });
  await until(() => lab.runtime.calls.includes('StartContainer one'));
  const early = await lab.eventually('web', (pod) => status(pod, 'one')?.state?.running !== undefined);
  assert.equal(early.status?.phase, 'Pending');
  assert.ok(waiting('PodInitializing')(early));
  lab.runtime.exit('one', 0);
  await until(() => lab.runtime.calls.includes('StartContainer two'));
  lab.runtime.exit('two', 0);
  await lab.eventually('web', ready);
  const started = lab.calls().filter((call) => call.startsWith('Start'));
  assert.deepEqual(
    started,
    ['one', 'side', 'two', 'main'].map((name) => `StartContainer ${name}`),
  );
  lab.runtime.exit('side', 1);
  await lab.eventually('web', restarted(1, 'side'));
  lab.runtime.exit('main', 0);
  await lab.eventually('web', (pod) => pod.status?.phase === 'Succeeded');
  assert.ok(lab.calls().includes('StopContainer side 30'));
});

test('an init container that fails: again with policy Always, the end with Never', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('always', { initContainers: [container('init')] });
  await lab.eventually('always', (pod) => status(pod, 'init')?.state?.running !== undefined);
  lab.runtime.exit('init', 1);
  await lab.eventually('always', restarted(1, 'init'));
  await lab.create('never', { initContainers: [container('init2')], restartPolicy: 'Never' });
  await lab.eventually('never', (pod) => status(pod, 'init2')?.state?.running !== undefined);
  lab.runtime.exit('init2', 1);
  await lab.eventually('never', (pod) => pod.status?.phase === 'Failed');
  assert.ok(!lab.runtime.calls.includes('StartContainer main'));
});

test('images: never present, pulled, failing with back-off', async (t) => {
  const lab = await Lab.start(t);
  lab.runtime.registry.add('new:1');
  await lab.create('pulled', { containers: [container('main', { image: 'new:1' })] });
  await lab.eventually('pulled', ready);
  await lab.create('never', { containers: [container('main', { image: 'none:1', imagePullPolicy: 'Never' })] });
  await lab.eventually('never', waiting('ErrImageNeverPull'));
  await lab.create('fails', { containers: [container('main', { image: 'none:2' })] });
  const pod = await lab.eventually('fails', (one) => status(one)?.state?.waiting?.reason?.includes('Pull') ?? false);
  assert.match(status(pod)?.state?.waiting?.message ?? '', /none:2.*not found/);
  lab.runtime.registry.add('none:2');
  await lab.clock.advance(10_500);
  await lab.eventually('fails', ready);
});

test('a missing ConfigMap holds the container until it is there; a changed one reaches the volume', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('env', {
    containers: [container('main', { envFrom: [{ configMapRef: { name: 'cm' } }] })],
  });
  await lab.eventually('env', waiting('CreateContainerConfigError'));
  await lab.create('vol', {
    containers: [container('vol', { volumeMounts: [{ name: 'v', mountPath: '/v' }] })],
    volumes: [{ name: 'v', configMap: { name: 'cm' } }],
  });
  await until(() => lab.events.some((event) => event.includes('MountVolume.SetUp failed for volume "v"')));
  await lab.client.create('ConfigMap', { metadata: { name: 'cm', namespace: 'default' }, data: { a: '1' } });
  await lab.eventually('env', ready);
  const pod = await lab.eventually('vol', ready);
  const file = join(lab.folder, 'pods', pod.metadata.uid, 'volumes/kubernetes.io~configmap/v/a');
  assert.equal(await readFile(file, 'utf8'), '1');
  await lab.client.patch('ConfigMap', { namespace: 'default', name: 'cm' }, { data: { a: '2' } });
  await until(async () => (await readFile(file, 'utf8')) === '2');
});

test('a volume that this node cannot make leaves the pod pending, with an event', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('claim', { volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'x' } }] });
  await until(() => lab.events.some((event) => /FailedMount: volume "v".*persistentVolumeClaim/.test(event)));
  assert.equal((await lab.eventually('claim', (pod) => pod.status?.phase !== undefined)).status?.phase, 'Pending');
  assert.deepEqual(lab.calls(), []);
});

test('memory volumes are mounted, and unmounted with the pod', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('mem', {
    containers: [container('main', { volumeMounts: [{ name: 'm', mountPath: '/m' }] })],
    volumes: [{ name: 'm', emptyDir: { medium: 'Memory' } }],
  });
  await lab.eventually('mem', ready);
  assert.equal(lab.mounted.length, 1);
  await lab.delete('mem');
  await lab.gone('mem');
  await until(() => lab.mounted.length === 0);
});

test('a sandbox that cannot be made is told by an event and tried again', async (t) => {
  const lab = await Lab.start(t);
  let full = true;
  lab.runtime.onCall = (operation) => {
    if (operation === 'RunPodSandbox' && full)
      throw new CriError(operation, 'UNKNOWN', 'failed to setup network: no addresses are left in 10.244.1.0/24');
  };
  await lab.create('web');
  await until(() => lab.events.some((event) => /FailedCreatePodSandBox: .*no addresses are left/.test(event)));
  assert.equal((await lab.eventually('web', (pod) => pod.status?.phase !== undefined)).status?.phase, 'Pending');
  full = false;
  await lab.clock.advance(2_000);
  await lab.eventually('web', ready);
});

test('a start is told in one request; one that takes long is told meanwhile', async (t) => {
  const lab = await Lab.start(t);
  const writes = () => lab.client.writes.filter((write) => write === 'patch Pod default/web status').length;
  await lab.create('web');
  await lab.eventually('web', ready);
  assert.equal(writes(), 1);

  const held = Promise.withResolvers<void>();
  lab.runtime.onCall = (operation) => (operation === 'RunPodSandbox' ? held.promise : undefined);
  await lab.create('slow');
  await until(() => lab.runtime.calls.filter((call) => call.startsWith('RunPodSandbox')).length > 1);
  await lab.clock.advance(999);
  assert.equal((await lab.get('slow')).status?.containerStatuses, undefined);
  await lab.clock.advance(1);
  const { status } = await lab.eventually('slow', (pod) => pod.status?.containerStatuses !== undefined);
  assert.equal(status?.containerStatuses?.[0]?.state?.waiting?.reason, 'ContainerCreating');
  held.resolve();
  await lab.eventually('slow', ready);
});

test('a sandbox that dies is made anew', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('web');
  const before = await lab.eventually('web', ready);
  lab.runtime.killSandbox('web');
  const after = await lab.eventually('web', (pod) => restarted(1)(pod) && ready(pod));
  assert.notEqual(after.status?.podIP, before.status?.podIP);
  assert.ok(lab.events.some((event) => event.startsWith('web SandboxChanged')));
});

test('a new agent adopts: nothing is started or stopped, orphans are removed', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('stays');
  await lab.create('leaves', { containers: [container('other')] });
  await lab.create('ended', { restartPolicy: 'Never', containers: [container('third')] });
  for (const name of ['stays', 'leaves', 'ended']) await lab.eventually(name, ready);
  lab.runtime.exit('third', 0);
  await lab.eventually('ended', (pod) => pod.status?.phase === 'Succeeded');
  await lab.manager.idle();
  const before = await lab.get('stays');
  lab.killAgent();
  await lab.delete('leaves', 0);
  lab.calls();
  await lab.startAgent();
  await until(() => lab.runtime.sandboxes.size === 2);
  await lab.manager.idle();
  assert.deepEqual(lab.calls(), ['StopContainer other 2', 'StopPodSandbox leaves', 'RemovePodSandbox leaves']);
  assert.deepEqual((await lab.get('stays')).status, before.status);
  assert.equal((await lab.get('ended')).status?.phase, 'Succeeded');
  // And goes on: a crash is mended by the new agent.
  lab.runtime.exit('main', 1);
  await lab.eventually('stays', restarted(1));
});

test('a pod of the same name is another pod', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('web', {}, 'uid-1');
  await lab.eventually('web', ready);
  await lab.delete('web', 0);
  await lab.create('web', { containers: [container('fresh')] }, 'uid-2');
  await lab.eventually('web', ready);
  await until(() => lab.runtime.sandboxes.size === 1);
  assert.equal((await lab.get('web')).metadata.uid, 'uid-2');
});

test('grace: preStop runs first, SIGKILL comes at the end, and less grace cuts it short', async (t) => {
  const lab = await Lab.start(t);
  lab.runtime.endsOnTerm = () => false;
  const ran: string[] = [];
  lab.runtime.onExec = (_, command) => {
    ran.push(command.join(' '));
    return { exitCode: 0, stdout: new Uint8Array(), stderr: new Uint8Array() };
  };
  await lab.create('web', {
    terminationGracePeriodSeconds: 60,
    containers: [container('main', { lifecycle: { preStop: { exec: { command: ['bye'] } } } })],
  });
  await lab.eventually('web', ready);
  await lab.delete('web');
  await until(() => lab.runtime.calls.includes('StopContainer main 60'));
  assert.deepEqual(ran, ['bye']);
  await lab.clock.advance(10_000);
  assert.equal((await lab.get('web')).metadata.deletionGracePeriodSeconds, 60);
  await lab.delete('web', 5);
  await until(() => lab.runtime.calls.includes('StopContainer main 5'));
  await lab.clock.advance(5_500);
  await lab.gone('web');
});

test('a pod that is deleted while its image is pulled goes at once', async (t) => {
  const lab = await Lab.start(t);
  lab.runtime.onCall = (operation) => (operation === 'PullImage' ? new Promise(() => {}) : undefined);
  await lab.create('web', { containers: [container('main', { image: 'slow:1' })] });
  await until(() => lab.runtime.calls.includes('PullImage slow:1') && lab.runtime.sandboxes.size === 1);
  await lab.delete('web');
  await lab.gone('web');
});

test('beforeStop is awaited, but not beyond the grace period', async (t) => {
  const hook = Promise.withResolvers<void>();
  const lab = await Lab.start(t, { beforeStop: () => hook.promise });
  await lab.create('web');
  await lab.eventually('web', ready);
  await lab.delete('web', 10);
  await sleep(20);
  assert.ok(!lab.runtime.calls.some((call) => call.startsWith('StopContainer')));
  await lab.clock.advance(11_000);
  await lab.gone('web');
});

test('probes: readiness, liveness with restart, and started by a startup probe', async (t) => {
  const lab = await Lab.start(t);
  const answers = new Map([
    ['started', 1],
    ['ready', 1],
    ['alive', 0],
  ]);
  const bytes = new Uint8Array();
  lab.runtime.onExec = (_, [what]) => ({ exitCode: answers.get(what!) ?? 0, stdout: bytes, stderr: bytes });
  const probe = (what: string) => ({ exec: { command: [what] }, periodSeconds: 1, failureThreshold: 2 });
  await lab.create('web', {
    containers: [
      container('main', {
        startupProbe: { ...probe('started'), failureThreshold: 100 },
        readinessProbe: probe('ready'),
        livenessProbe: probe('alive'),
      }),
    ],
  });
  const pod = await lab.eventually('web', (one) => status(one)?.state?.running !== undefined);
  assert.equal(status(pod)?.started, false);
  answers.set('started', 0);
  await lab.clock.advance(1_100);
  await lab.eventually('web', (one) => status(one)?.started === true && !ready(one));
  answers.set('ready', 0);
  await lab.clock.advance(1_100);
  await lab.eventually('web', ready);
  answers.set('ready', 1);
  await lab.clock.advance(2_100);
  await lab.eventually('web', condition('Ready', 'False'));
  answers.set('alive', 1);
  await lab.clock.advance(2_100);
  await lab.eventually('web', (one) => status(one)?.restartCount === 1);
  assert.ok(lab.events.some((event) => /Killing: Container main failed liveness probe, will be restarted/.test(event)));
});

test('activeDeadlineSeconds ends the pod for good', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('web', { activeDeadlineSeconds: 30 });
  await lab.eventually('web', ready);
  await lab.manager.idle();
  await lab.clock.advance(31_000);
  const pod = await lab.eventually('web', (one) => one.status?.phase === 'Failed');
  assert.equal(pod.status?.reason, 'DeadlineExceeded');
  await lab.manager.idle();
  lab.killAgent();
  await lab.startAgent();
  await lab.manager.idle();
  assert.equal((await lab.get('web')).status?.reason, 'DeadlineExceeded');
});

test('hostNetwork pods have the addresses of the node', async (t) => {
  const lab = await Lab.start(t, { networkReady: () => false });
  await lab.create('own');
  await lab.create('host', { hostNetwork: true, containers: [container('main')] });
  const pod = await lab.eventually('host', ready);
  assert.deepEqual(pod.status?.podIPs, [{ ip: '172.18.0.2' }, { ip: 'fd00:18::2' }]);
  await until(() => lab.events.some((event) => event.startsWith('own NetworkNotReady')));
});

test('streams: URLs of what runs, plain refusals of the rest, logs by attempt', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('web');
  const pod = await lab.eventually('web', ready);
  const at = { namespace: 'default', pod: 'web', container: 'main' };
  const streams = { stdin: false, stdout: true, stderr: true, tty: false };
  assert.match(await lab.manager.execUrl({ ...at, ...streams, command: ['ls'] }), /^http:\/\/127.0.0.1\/exec/);
  assert.match(await lab.manager.portForwardUrl({ ...at, ports: [] }), /portforward/);
  const log = await lab.manager.logFile({ ...at, previous: false });
  assert.deepEqual(log, { path: join(lab.folder, `logs/default_web_${pod.metadata.uid}/main/0.log`), running: true });
  await assert.rejects(lab.manager.logFile({ ...at, previous: true }), /previous terminated container "main"/);
  await assert.rejects(lab.manager.logFile({ ...at, container: 'x', previous: false }), /container x is not valid/);
  await assert.rejects(
    lab.manager.execUrl({ ...at, ...streams, pod: 'none', command: ['ls'] }),
    /pod "none" not found/,
  );
  await assert.rejects(
    lab.manager.execUrl({ ...at, ...streams, container: 'x', command: ['ls'] }),
    /container not found/,
  );
  await assert.rejects(lab.manager.attachUrl({ ...at, ...streams, uid: 'other' }), /pod "web" not found/);
  lab.runtime.exit('main', 1);
  await lab.eventually('web', restarted(1));
  assert.match((await lab.manager.logFile({ ...at, previous: true })).path, /main\/0.log$/);
  assert.match((await lab.manager.logFile({ ...at, previous: false })).path, /main\/1.log$/);
});

test('readiness gates: a condition that somebody else writes at the same time is not lost', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('web', { readinessGates: [{ conditionType: 'lb' }] });
  await lab.eventually('web', condition('ContainersReady'));
  const { status: current, metadata } = await lab.get('web');
  assert.ok(condition('Ready', 'False')(await lab.get('web')));
  const conditions = [...(current?.conditions ?? []), { type: 'lb', status: 'True' }];
  await lab.client.patch('Pod', metadata, { status: { conditions } }, { subresource: 'status' });
  lab.runtime.exit('main', 1);
  const pod = await lab.eventually('web', (one) => restarted(1)(one) && ready(one));
  assert.ok(condition('lb')(pod));
});

test('a pod that a controller marked as not ready is told right again, but not without end', async (t) => {
  const lab = await Lab.start(t);
  await lab.create('web');
  await lab.eventually('web', ready);
  const mark = async () => {
    const pod = await lab.get('web');
    const conditions = pod.status!.conditions!.map((one) => (one.type === 'Ready' ? { ...one, status: 'False' } : one));
    await lab.client.updateStatus('Pod', { ...pod, status: { ...pod.status, conditions } });
  };
  await mark();
  await lab.eventually('web', ready);
  await mark();
  for (let i = 0; i < 20; i++) {
    await lab.clock.advance(10);
    await sleep(1);
  }
  assert.equal(ready(await lab.get('web')), false, 'at most one answer a second');
  await lab.clock.advance(1000);
  await lab.eventually('web', ready);
});
