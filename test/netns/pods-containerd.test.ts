/** The pod workers against a real containerd. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FakeClient } from '../../src/kube/fake-client.ts';
import type { Pod } from '../../src/kube/types.ts';
import {
  busybox,
  createPod,
  eventually,
  insideOwnNamespaces,
  isReady,
  logOf,
  phaseIs,
  TestAgent,
  TestRuntime,
  untilGone,
} from './pods-node.ts';

const outcome = await insideOwnNamespaces(fileURLToPath(import.meta.url));

if (outcome !== true) {
  test('pods on a real containerd, in namespaces of their own', () => {
    assert.equal(outcome.exitCode, 0, outcome.output);
  });
} else {
  const runtime = new TestRuntime();
  const client = new FakeClient();
  let agent: TestAgent;
  before(async () => {
    await runtime.setUp();
    agent = await TestAgent.start({ client, runtime });
  });
  after(async () => {
    await agent.stop();
    await runtime.stop();
  });

  const at = (name: string) => ({ namespace: 'default', name });
  const status = (pod: Pod, name = 'main') => pod.status?.containerStatuses?.find((one) => one.name === name);
  const remove = async (name: string) => {
    await client.delete('Pod', at(name), { gracePeriodSeconds: 0 });
  };

  test('a pod runs, is ready, has an address, and goes without a trace', async () => {
    await createPod(client, 'web', {}, { app: 'web' });
    const pod = await eventually(client, 'web', isReady);
    assert.equal(pod.status?.phase, 'Running');
    assert.match(pod.status?.podIP ?? '', /^10\.244\.7\./);
    assert.equal(pod.status?.hostIP, '127.0.0.1');
    assert.match(status(pod)?.containerID ?? '', /^containerd:\/\//);
    const folder = join(runtime.folder, 'pods', pod.metadata.uid);
    assert.ok(existsSync(folder));
    await client.delete('Pod', at('web'));
    await untilGone(client, 'web');
    await until(() => !existsSync(folder) && readdirSync(join(runtime.folder, 'logs')).length === 0);
    assert.deepEqual(await agent.cri.listPodSandbox(), []);
    assert.ok(!existsSync(`/sys/fs/cgroup/memory/${process.env['PODWIRE_TEST_CGROUP']}/pod${pod.metadata.uid}`));
    const reasons = agent.events.filter((event) => event.startsWith('web ')).map((event) => event.split(' ')[2]);
    assert.deepEqual(reasons, ['Pulled:', 'Created:', 'Started:', 'Killing:']);
  });

  test('environment, files and names inside', async () => {
    await client.create('Service', {
      metadata: { name: 'my-svc', namespace: 'default' },
      spec: { clusterIP: '10.96.0.77', ports: [{ port: 80 }] },
    });
    await client.create('ConfigMap', { metadata: { name: 'cm' }, data: { 'a.txt': 'one', KEY: 'value' } });
    await client.create('Secret', {
      metadata: { name: 's' },
      data: { token: Buffer.from('hidden').toString('base64') },
    });
    await createPod(client, 'inside', {
      hostAliases: [{ ip: '10.1.2.3', hostnames: ['foo.local'] }],
      subdomain: 'sub',
      securityContext: { fsGroup: 2000, sysctls: [{ name: 'net.ipv4.ip_unprivileged_port_start', value: '80' }] },
      containers: [
        busybox(
          `env | sort; cat /etc/hosts; cat /etc/resolv.conf; hostname; ls -ln /mem /all; cat /cm/a.txt /all/cm/KEY /all/s /all/name; echo;
           cat /sub.txt; id; df /mem; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; touch /empty/x && echo written; sleep 1000000`,
          {
            env: [
              { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
              { name: 'URL', value: 'http://$(MY_SVC_SERVICE_HOST)' },
              { name: 'FROM_CM', valueFrom: { configMapKeyRef: { name: 'cm', key: 'KEY' } } },
            ],
            envFrom: [{ secretRef: { name: 's' } }],
            securityContext: { runAsUser: 1000, runAsGroup: 1001 },
            volumeMounts: [
              { name: 'cm', mountPath: '/cm' },
              { name: 'cm', mountPath: '/sub.txt', subPath: 'a.txt' },
              { name: 'mem', mountPath: '/mem' },
              { name: 'empty', mountPath: '/empty' },
              { name: 'all', mountPath: '/all' },
            ],
          },
        ),
      ],
      volumes: [
        { name: 'cm', configMap: { name: 'cm' } },
        { name: 'mem', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
        { name: 'empty', emptyDir: {} },
        {
          name: 'all',
          projected: {
            sources: [
              { configMap: { name: 'cm', items: [{ key: 'KEY', path: 'cm/KEY' }] } },
              { secret: { name: 's', items: [{ key: 'token', path: 's' }] } },
              { downwardAPI: { items: [{ path: 'name', fieldRef: { fieldPath: 'metadata.name' } }] } },
            ],
          },
        },
      ],
    });
    const pod = await eventually(client, 'inside', isReady);
    await until(async () => (await logOf(agent, 'inside')).includes('written'));
    const log = await logOf(agent, 'inside');
    const ip = pod.status!.podIP!;
    for (const line of [
      `IP=${ip}`,
      'URL=http://10.96.0.77',
      'FROM_CM=value',
      'token=hidden',
      'MY_SVC_PORT_80_TCP_ADDR=10.96.0.77',
      `${ip}\tinside.sub.default.svc.cluster.local\tinside`,
      '10.1.2.3\tfoo.local',
      'nameserver 10.96.0.10',
      'search default.svc.cluster.local svc.cluster.local cluster.local',
      'options ndots:5',
      'onevaluehiddeninside',
      'uid=1000 gid=1001',
      '2000',
      'one',
    ])
      assert.ok(log.includes(line), `${line} is missing in:\n${log}`);
    assert.match(log, /tmpfs +1024 /);

    // A change of the ConfigMap reaches the mounted file.
    await client.patch('ConfigMap', at('cm'), { data: { 'a.txt': 'two' } });
    const { id } = await only(agent, 'inside');
    await until(
      async () => Buffer.from((await agent.cri.execSync(id, ['cat', '/cm/a.txt'], 5)).stdout).toString() === 'two',
    );
    await remove('inside');
    await until(async () => (await agent.cri.listPodSandbox()).length === 0);
    await until(() => readdirSync(join(runtime.folder, 'pods')).length === 0);
  });

  test('init containers in order, then two containers that share the network', async () => {
    const shared = [{ name: 'v', mountPath: '/v' }];
    await createPod(client, 'multi', {
      initContainers: [
        busybox('echo one > /v/log', { name: 'i1', volumeMounts: shared }),
        busybox('echo two >> /v/log', { name: 'i2', volumeMounts: shared }),
      ],
      containers: [
        busybox('cat /v/log; nc -l -p 8080 -e cat', { name: 'server', volumeMounts: shared }),
        busybox('until echo hello | nc -w 2 127.0.0.1 8080; do sleep 0.1; done; sleep 1000000', { name: 'client' }),
      ],
      volumes: [{ name: 'v', emptyDir: {} }],
      restartPolicy: 'Never',
    });
    await eventually(client, 'multi', phaseIs('Running'));
    assert.equal(await logOf(agent, 'multi', 'server'), 'one\ntwo');
    await until(async () => (await logOf(agent, 'multi', 'client')).includes('hello'));
    await remove('multi');
  });

  test('ends: succeeded, failed, crash loop with back-off, termination message', async () => {
    await createPod(client, 'good', {
      restartPolicy: 'Never',
      containers: [busybox('echo done > /dev/termination-log')],
    });
    await createPod(client, 'bad', { restartPolicy: 'Never', containers: [busybox('exit 3')] });
    await createPod(client, 'loop', {
      containers: [busybox('echo try; exit 1', { terminationMessagePolicy: 'FallbackToLogsOnError' })],
    });
    const good = await eventually(client, 'good', phaseIs('Succeeded'));
    assert.equal(status(good)?.state?.terminated?.message, 'done\n');
    assert.equal(status(good)?.state?.terminated?.reason, 'Completed');
    const bad = await eventually(client, 'bad', phaseIs('Failed'));
    assert.equal(status(bad)?.state?.terminated?.exitCode, 3);
    const loop = await eventually(client, 'loop', (pod) => status(pod)?.state?.waiting?.reason === 'CrashLoopBackOff');
    assert.equal(status(loop)?.restartCount, 1);
    assert.equal(status(loop)?.lastState?.terminated?.message, 'try\n');
    assert.equal(await logOf(agent, 'loop', 'main', true), 'try');
    await Promise.all(['good', 'bad', 'loop'].map(remove));
  });

  test('images and commands that are not there', async () => {
    await createPod(client, 'noimage', { containers: [busybox('x', { image: 'nosuch:1', imagePullPolicy: 'Never' })] });
    await createPod(client, 'badname', { containers: [busybox('x', { image: 'Bad:Name:1' })] });
    await createPod(client, 'pull', { containers: [busybox('x', { image: '127.0.0.1:1/nosuch:1' })] });
    await createPod(client, 'nocommand', {
      restartPolicy: 'Never',
      containers: [busybox('x', { command: ['/nosuch'] })],
    });
    await createPod(client, 'noconfig', {
      containers: [busybox('x', { envFrom: [{ configMapRef: { name: 'late' } }] })],
    });
    const waits = (reason: string) => (pod: Pod) => status(pod)?.state?.waiting?.reason === reason;
    await eventually(client, 'noimage', waits('ErrImageNeverPull'));
    await eventually(client, 'badname', waits('InvalidImageName'));
    const pull = await eventually(
      client,
      'pull',
      (pod) => waits('ErrImagePull')(pod) || waits('ImagePullBackOff')(pod),
    );
    assert.match(status(pull)?.state?.waiting?.message ?? '', /connection refused/);
    const nocommand = await eventually(client, 'nocommand', phaseIs('Failed'));
    assert.equal(status(nocommand)?.state?.terminated?.exitCode, 128);
    await eventually(client, 'noconfig', waits('CreateContainerConfigError'));
    await client.create('ConfigMap', { metadata: { name: 'late' }, data: {} });
    await eventually(client, 'noconfig', (pod) => (status(pod)?.restartCount ?? 0) > 0 || isReady(pod));
    await Promise.all(['noimage', 'badname', 'pull', 'nocommand', 'noconfig'].map(remove));
  });

  test('probes: ready by HTTP from the node, restarted when liveness fails', async () => {
    await createPod(client, 'probed', {
      containers: [
        busybox('mkdir /w; echo ok > /w/index.html; sleep 0.5; httpd -p 8080 -h /w; touch /alive; sleep 1000000', {
          startupProbe: { exec: { command: ['test', '-f', '/alive'] }, periodSeconds: 1, failureThreshold: 30 },
          readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 },
          livenessProbe: { exec: { command: ['test', '-f', '/alive'] }, periodSeconds: 1, failureThreshold: 1 },
          terminationMessagePath: '/tmp/t',
        }),
      ],
    });
    await eventually(client, 'probed', isReady);
    const { id } = await only(agent, 'probed');
    await agent.cri.execSync(id, ['rm', '/alive'], 5);
    const pod = await eventually(client, 'probed', (one) => status(one)?.restartCount === 1 && isReady(one));
    assert.equal(status(pod)?.lastState?.terminated?.exitCode, 137);
    assert.ok(agent.events.some((event) => event.includes('Unhealthy: Liveness probe failed')));
    await remove('probed');
  });

  test('hooks and grace: preStop runs, SIGTERM is heard, the exit code is told', async () => {
    await createPod(client, 'graceful', {
      terminationGracePeriodSeconds: 10,
      volumes: [{ name: 'v', hostPath: { path: join(runtime.folder, 'hooks'), type: 'DirectoryOrCreate' } }],
      containers: [
        busybox('trap "echo term >> /v/log; exit 0" TERM; while :; do sleep 0.1; done', {
          volumeMounts: [{ name: 'v', mountPath: '/v' }],
          lifecycle: {
            postStart: { exec: { command: ['sh', '-c', 'echo start >> /v/log'] } },
            preStop: { exec: { command: ['sh', '-c', 'echo stop >> /v/log'] } },
          },
        }),
      ],
    });
    await eventually(client, 'graceful', isReady);
    await client.delete('Pod', at('graceful'));
    await untilGone(client, 'graceful');
    assert.equal(readFileSync(join(runtime.folder, 'hooks/log'), 'utf8'), 'start\nstop\nterm\n');
  });

  test('out of memory is told', async () => {
    await createPod(client, 'oom', {
      restartPolicy: 'Never',
      containers: [busybox('tail /dev/zero', { resources: { limits: { memory: '16Mi' } } })],
    });
    const pod = await eventually(client, 'oom', phaseIs('Failed'));
    assert.equal(status(pod)?.state?.terminated?.reason, 'OOMKilled');
    await remove('oom');
  });

  test('an agent that ends suddenly is followed by one that adopts everything', async () => {
    await createPod(client, 'stays', { containers: [busybox('echo started; sleep 1000000')] });
    await createPod(client, 'orphan');
    const before = await eventually(client, 'stays', isReady);
    await eventually(client, 'orphan', isReady);
    await agent.stop();
    await client.delete('Pod', at('orphan'), { gracePeriodSeconds: 0 });
    agent = await TestAgent.start({ client, runtime });
    await until(async () => (await agent.cri.listPodSandbox()).length === 1);
    await agent.manager.idle();
    const pod = await client.get('Pod', at('stays'));
    assert.deepEqual(pod.status, before.status);
    assert.equal(await logOf(agent, 'stays'), 'started');
    // The runtime's own end changes nothing either.
    await runtime.kill();
    await runtime.start();
    await agent.cri.execSync((await only(agent, 'stays')).id, ['kill', '1'], 5).catch(() => {});
    assert.equal((await client.get('Pod', at('stays'))).status?.containerStatuses?.[0]?.restartCount, 0);
    await remove('stays');
    await until(async () => (await agent.cri.listPodSandbox()).length === 0);
  });

  test('no address left: the pod is pending with an event, and runs once one is free', async () => {
    // 10.244.7.0/24 has 253 for pods; reservations of host-local are files named by address.
    const ipam = join(runtime.folder, 'ipam/test');
    const taken: string[] = [];
    for (let last = 2; last < 255; last++) {
      const file = join(ipam, `10.244.7.${last}`);
      if (existsSync(file)) continue;
      writeFileSync(file, 'taken\neth0');
      taken.push(file);
    }
    await createPod(client, 'full');
    await until(() =>
      agent.events.some((event) => /^full Warning FailedCreatePodSandBox: .*no IP addresses/.test(event)),
    );
    assert.equal((await client.get('Pod', at('full'))).status?.phase, 'Pending');
    for (const file of taken) rmSync(file);
    await eventually(client, 'full', isReady);
    await remove('full');
    await until(async () => (await agent.cri.listPodSandbox()).length === 0);
  });

  test('a dead sandbox is made anew', async () => {
    await createPod(client, 'sandbox');
    await eventually(client, 'sandbox', isReady);
    const [sandbox] = await agent.cri.listPodSandbox();
    await agent.cri.stopPodSandbox(sandbox!.id);
    const pod = await eventually(client, 'sandbox', (one) => (status(one)?.restartCount ?? 0) > 0 && isReady(one));
    assert.match(pod.status?.podIP ?? '', /^10\.244\.7\./);
    await remove('sandbox');
    await until(async () => (await agent.cri.listPodSandbox()).length === 0);
  });

  test("the time from a container's end to the API, and from a pod to ready, for the log", async (t) => {
    await createPod(client, 'timed', { containers: [busybox('sleep 1000000')] });
    await eventually(client, 'timed', isReady);
    const { id } = await only(agent, 'timed');
    const killed = performance.now();
    await agent.cri.stopContainer(id, 0);
    await eventually(client, 'timed', (pod) => !isReady(pod) || status(pod)?.restartCount === 1);
    t.diagnostic(`kill to status: ${(performance.now() - killed).toFixed(1)} ms`);
    await remove('timed');
    const starts: number[] = [];
    for (let i = 0; i < 5; i++) {
      const start = performance.now();
      await createPod(client, `fast-${i}`);
      await eventually(client, `fast-${i}`, isReady);
      starts.push(performance.now() - start);
      await remove(`fast-${i}`);
      await until(async () => (await agent.cri.listPodSandbox()).length === 0);
    }
    t.diagnostic(`created to ready: ${starts.map((ms) => ms.toFixed(1))} ms`);
  });
}

/** The running container of a pod. */
async function only(agent: TestAgent, pod: string) {
  const labelSelector = { 'io.kubernetes.pod.name': pod };
  const running = (await agent.cri.listContainers({ labelSelector })).filter(
    ({ state }) => state === 'CONTAINER_RUNNING',
  );
  assert.equal(running.length, 1);
  return running[0]!;
}

async function until(wanted: () => boolean | Promise<boolean>, seconds = 20): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!(await wanted())) {
    if (Date.now() > end) assert.fail(`not in ${seconds} s: ${wanted}`);
    await sleep(10);
  }
}
