import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { condition, container, Lab, ready, restarted, status, until } from './manager-lab.ts';

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
