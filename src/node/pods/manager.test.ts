import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CriError } from './cri/errors.ts';
import { container, Lab, ready, restarted, status, until, waiting } from './manager-lab.ts';

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
