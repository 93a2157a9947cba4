/** Pods on a node: their containers, files and limits, how they start, fail, are looked into, and end. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Pod } from '../../src/kube/types.ts';
import { currentKubectlMissing } from '../kubectl-version.ts';
import {
  addressOf,
  allReady,
  applyAll,
  eventually,
  inBackground,
  pod,
  kubectl as runKubectl,
  service,
  sleeper,
  startCluster,
  whoAmI,
} from './fixture.ts';

const cluster = await startCluster('pods', { nodes: 1 });
const kubectl = (args: readonly string[], input?: string) =>
  runKubectl(cluster.kubeconfig, args, input === undefined ? {} : { input });
const folder = mkdtempSync(join(tmpdir(), 'podwire-pods-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const podNow = (name: string): Promise<Pod> => cluster.client.get('Pod', { namespace: 'default', name });
const until = (name: string, what: string, holds: (one: Pod) => boolean, timeoutMs = 30_000) =>
  eventually(`${name}: ${what}`, () => podNow(name), holds, timeoutMs);
const status = (one: Pod, index = 0) => one.status?.containerStatuses?.[index];
async function eventsOf(name: string) {
  const { items } = await cluster.client.list('Event', { namespace: 'default' });
  return items.filter((event) => event.involvedObject.name === name);
}
const shell = (script: string) => ({ image: 'busybox', command: ['sh', '-c', script] });
const container = (name: string, script: string, more: object = {}) => ({ name, ...shell(script), ...more });

describe('containers', () => {
  test('init containers run one after the other, then all containers, in one network and with shared files', async () => {
    const mount = { volumeMounts: [{ name: 'shared', mountPath: '/shared' }] };
    await applyAll(cluster, [
      pod('several', {
        spec: {
          volumes: [{ name: 'shared', emptyDir: {} }],
          initContainers: [
            container('first', 'sleep 0.3; echo first >> /shared/order', mount),
            container('second', 'echo second >> /shared/order', mount),
          ],
          containers: [
            container('server', 'echo server >> /shared/order; while :; do echo hello | nc -l -p 7000; done', mount),
            container('client', 'sleep 3600', mount),
          ],
        },
      }),
    ]);
    const ready = await cluster.waitForPod('several');
    assert.deepEqual(
      ready.status?.initContainerStatuses?.map((one) => one.state?.terminated?.reason),
      ['Completed', 'Completed'],
    );
    const order = await cluster.exec('several', ['cat', '/shared/order'], { container: 'client' });
    assert.equal(order.stdout, 'first\nsecond\nserver\n');
    const said = await cluster.exec('several', 'nc 127.0.0.1 7000 </dev/null', { container: 'client' });
    assert.equal(said.stdout, 'hello\n');
    const names = await cluster.exec('several', 'hostname; cat /etc/hosts /etc/resolv.conf', { container: 'client' });
    assert.match(names.stdout, /^several\n/);
    assert.match(names.stdout, new RegExp(`^${addressOf(ready)}\\s+several$`, 'm'));
    assert.match(names.stdout, /^nameserver 10\.96\.0\.10$/m);
    assert.match(names.stdout, /^search default\.svc\.cluster\.local svc\.cluster\.local cluster\.local$/m);
    assert.match(names.stdout, /^options ndots:5$/m);
  });

  test('an init container that fails keeps the others from starting', async () => {
    await applyAll(cluster, [
      pod('held', {
        spec: {
          restartPolicy: 'Never',
          initContainers: [container('fails', 'exit 3')],
          containers: [container('main', 'true')],
        },
      }),
    ]);
    const failed = await until('held', 'failed', (one) => one.status?.phase === 'Failed');
    assert.equal(failed.status?.initContainerStatuses?.[0]?.state?.terminated?.exitCode, 3);
    assert.equal(status(failed)?.state?.waiting?.reason, 'PodInitializing');
    assert.match((await kubectl(['get', 'pod', 'held'])).stdout, /Init:(Error|ExitCode:3)/);
  });

  test('restartPolicy: Always backs off, OnFailure ends with success, Never ends', async () => {
    await applyAll(cluster, [
      pod('crashes', { container: shell('echo run; exit 1') }),
      pod('completes', { container: shell('exit 0'), spec: { restartPolicy: 'OnFailure' } }),
      pod('fails', { container: shell('echo gone wrong; exit 7'), spec: { restartPolicy: 'Never' } }),
      pod('second-try', {
        container: {
          ...shell('test -e /data/tried && exit 0; touch /data/tried; exit 1'),
          volumeMounts: [{ name: 'data', mountPath: '/data' }],
        },
        spec: { restartPolicy: 'OnFailure', volumes: [{ name: 'data', emptyDir: {} }] },
      }),
    ]);
    const crashing = await until(
      'crashes',
      'backs off',
      (one) => status(one)?.state?.waiting?.reason === 'CrashLoopBackOff',
    );
    assert.ok(status(crashing)!.restartCount >= 1);
    assert.equal(status(crashing)!.lastState?.terminated?.exitCode, 1);
    assert.match((await kubectl(['get', 'pod', 'crashes'])).stdout, /CrashLoopBackOff/);
    await until('completes', 'done', (one) => one.status?.phase === 'Succeeded');
    assert.match((await kubectl(['get', 'pod', 'completes'])).stdout, /0\/1\s+Completed\s+0/);
    const failed = await until('fails', 'failed', (one) => one.status?.phase === 'Failed');
    assert.equal(status(failed)!.state?.terminated?.exitCode, 7);
    assert.equal(await cluster.logs('fails'), 'gone wrong\n', 'its log can still be read');
    const second = await until('second-try', 'done', (one) => one.status?.phase === 'Succeeded');
    assert.equal(status(second)!.restartCount, 1);
    await kubectl(['delete', 'pod', 'crashes', '--now']);
  });

  test('the log of the run before', async () => {
    await applyAll(cluster, [
      pod('twice', {
        container: {
          ...shell(
            'if test -e /data/tried; then echo second; exec sleep 3600; fi; touch /data/tried; echo first; exit 1',
          ),
          volumeMounts: [{ name: 'data', mountPath: '/data' }],
        },
        spec: { volumes: [{ name: 'data', emptyDir: {} }] },
      }),
    ]);
    await until(
      'twice',
      'runs again',
      (one) => status(one)?.restartCount === 1 && status(one)?.state?.running !== undefined,
    );
    assert.equal((await kubectl(['logs', 'twice'])).stdout, 'second\n');
    assert.equal((await kubectl(['logs', 'twice', '--previous'])).stdout, 'first\n');
  });
});

describe('probes', () => {
  test('liveness (exec) starts the container again; a startup probe holds the others back', async () => {
    await applyAll(cluster, [
      pod('lives', {
        container: {
          ...shell('touch /tmp/alive; sleep 3600'),
          startupProbe: { exec: { command: ['test', '-e', '/tmp/alive'] }, periodSeconds: 1, failureThreshold: 30 },
          livenessProbe: { exec: { command: ['test', '-e', '/tmp/alive'] }, periodSeconds: 1, failureThreshold: 1 },
        },
        spec: { terminationGracePeriodSeconds: 0 },
      }),
    ]);
    const ready = await cluster.waitForPod('lives');
    assert.equal(status(ready)?.restartCount, 0);
    await cluster.exec('lives', ['rm', '/tmp/alive']);
    await until('lives', 'is started again', (one) => status(one)?.restartCount === 1 && status(one)?.ready === true);
    await eventually(
      'the events',
      () => eventsOf('lives'),
      (events) =>
        events.some((event) => event.reason === 'Unhealthy' && /Liveness probe failed/.test(event.message ?? '')) &&
        events.some((event) => event.reason === 'Killing'),
    );
  });

  test('readiness by HTTP and TCP', async () => {
    const nginx = (probe: object) => ({
      image: 'nginx',
      readinessProbe: { ...probe, periodSeconds: 1, failureThreshold: 1 },
    });
    await applyAll(cluster, [
      pod('http', { container: nginx({ httpGet: { path: '/healthy', port: 80 } }) }),
      pod('tcp', { container: nginx({ tcpSocket: { port: 80 } }) }),
      pod('tcp-closed', { container: nginx({ tcpSocket: { port: 81 } }) }),
    ]);
    await cluster.waitForPod('tcp');
    await until('http', 'is not ready: 404', (one) => status(one)?.started === true && status(one)?.ready === false);
    await eventually(
      'the event',
      () => eventsOf('http'),
      (events) =>
        events.some((event) =>
          /Readiness probe failed: HTTP probe failed with statuscode: 404/.test(event.message ?? ''),
        ),
    );
    await cluster.exec('http', 'echo ok > /usr/share/nginx/html/healthy');
    await cluster.waitForPod('http');
    await cluster.exec('http', 'rm /usr/share/nginx/html/healthy');
    await until('http', 'is not ready again', (one) => status(one)?.ready === false);
    assert.equal(status(await podNow('tcp-closed'))?.ready, false);
  });
});

test('ConfigMaps, Secrets, the downward API, projected volumes and env', async () => {
  await applyAll(cluster, [
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'config' },
      data: { colour: 'blue', 'file.txt': 'line 1\nline 2\n' },
    },
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'secret' }, stringData: { password: 's3cr3t' } },
    pod('configured', {
      labels: { tier: 'front' },
      container: {
        ...shell('sleep 3600'),
        env: [
          { name: 'PLAIN', value: 'one' },
          { name: 'JOINED', value: '$(PLAIN)-$(COLOUR)-$$(PLAIN)' },
          { name: 'COLOUR', valueFrom: { configMapKeyRef: { name: 'config', key: 'colour' } } },
          { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 'secret', key: 'password' } } },
          { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
          { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
          { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
          { name: 'CPUS', valueFrom: { resourceFieldRef: { resource: 'limits.cpu', divisor: '1m' } } },
        ],
        envFrom: [{ configMapRef: { name: 'config' }, prefix: 'CM_' }],
        resources: { limits: { cpu: '200m', memory: '64Mi' } },
        volumeMounts: [
          { name: 'config', mountPath: '/config' },
          { name: 'secret', mountPath: '/secret', readOnly: true },
          { name: 'all', mountPath: '/all' },
          { name: 'config', mountPath: '/one/colour', subPath: 'colour' },
        ],
      },
      spec: {
        volumes: [
          { name: 'config', configMap: { name: 'config' } },
          { name: 'secret', secret: { secretName: 'secret', defaultMode: 0o400 } },
          {
            name: 'all',
            projected: {
              sources: [
                { configMap: { name: 'config', items: [{ key: 'colour', path: 'deep/colour' }] } },
                { secret: { name: 'secret' } },
                { downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
              ],
            },
          },
        ],
      },
    }),
  ]);
  const ready = await cluster.waitForPod('configured');
  const run = async (script: string) => (await cluster.exec('configured', script)).stdout;
  const env = await run('env');
  for (const line of [
    'PLAIN=one',
    'JOINED=one-$(COLOUR)-$(PLAIN)',
    'COLOUR=blue',
    'PASSWORD=s3cr3t',
    'POD=configured',
    `IP=${addressOf(ready)}`,
    'NODE=node-1',
    'CPUS=200',
    'CM_colour=blue',
  ])
    assert.ok(env.split('\n').includes(line), `${line} in\n${env}`);
  assert.equal(await run('cat /config/file.txt'), 'line 1\nline 2\n');
  assert.equal(await run('cat /secret/password; stat -Lc %a /secret/password'), 's3cr3t400\n');
  assert.equal(await run('cat /all/deep/colour /all/password'), 'blues3cr3t');
  assert.match(await run('cat /all/labels'), /tier="front"/);
  assert.equal(await run('cat /one/colour'), 'blue');
  assert.notEqual((await cluster.exec('configured', 'echo x > /secret/password')).exitCode, 0);
  for (const at of ['/secret', '/all', '/var/run/secrets/kubernetes.io/serviceaccount'])
    assert.match(await run(`grep ' ${at} ' /proc/mounts`), / tmpfs /, `${at} is in memory`);
  // Limits, as the control groups of version 1 or 2 show them inside the container.
  const cgroups = await run(
    'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; echo; cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null',
  );
  assert.match(cgroups, /^67108864$/m);
  assert.match(cgroups, /^20000\b/m);
  await applyAll(cluster, [
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'config' }, data: { colour: 'green' } },
  ]);
  await eventually(
    'the file follows its ConfigMap',
    () => run('cat /config/colour'),
    (text) => text === 'green',
    90_000,
  );
});

test('a container that uses more memory than its limit is killed, and says so', async () => {
  await applyAll(cluster, [
    pod('greedy', {
      container: { ...shell('tail /dev/zero'), resources: { limits: { memory: '16Mi' } } },
      spec: { restartPolicy: 'Never' },
    }),
  ]);
  const ended = await until('greedy', 'killed', (one) => one.status?.phase === 'Failed');
  assert.equal(status(ended)?.state?.terminated?.reason, 'OOMKilled');
});

test('hostNetwork: the address and the name of the node', async () => {
  await applyAll(cluster, [sleeper('on-host', { spec: { hostNetwork: true } })]);
  const ready = await cluster.waitForPod('on-host');
  assert.equal(addressOf(ready), '172.18.0.2');
  assert.match((await cluster.exec('on-host', 'ip addr; hostname')).stdout, /172\.18\.0\.2\/16[\s\S]*node-1/);
});

describe('the end of a pod', () => {
  test('preStop, then SIGTERM, then the grace period', async () => {
    const log = (text: string) => `echo ${text} >> /log/all`;
    await applyAll(cluster, [
      pod('graceful', {
        container: {
          ...shell(`trap '${log('TERM')}; sleep 1; ${log('done')}; exit 0' TERM; while :; do sleep 0.1; done`),
          lifecycle: { preStop: { exec: { command: ['sh', '-c', log('preStop')] } } },
          volumeMounts: [{ name: 'log', mountPath: '/log' }],
        },
        spec: {
          terminationGracePeriodSeconds: 10,
          volumes: [{ name: 'log', hostPath: { path: folder } }],
        },
      }),
    ]);
    await cluster.waitForPod('graceful');
    await kubectl(['delete', 'pod', 'graceful', '--wait=false']);
    assert.match((await kubectl(['get', 'pod', 'graceful'])).stdout, /Terminating/);
    await eventually(
      'gone',
      () => kubectl(['get', 'pod', 'graceful']),
      ({ stderr }) => /NotFound/.test(stderr),
    );
    assert.equal(readFileSync(join(folder, 'all'), 'utf8'), 'preStop\nTERM\ndone\n');
  });
  test('one that does not listen is killed after its grace period; --force at once', async () => {
    await applyAll(cluster, [
      pod('deaf', {
        container: shell("trap '' TERM; while :; do sleep 0.1; done"),
        spec: { terminationGracePeriodSeconds: 1 },
      }),
      pod('forced', {
        container: shell("trap '' TERM; while :; do sleep 0.1; done"),
        spec: { terminationGracePeriodSeconds: 300 },
      }),
    ]);
    await allReady(cluster, ['deaf', 'forced']);
    assert.equal((await kubectl(['delete', 'pod', 'deaf', '--timeout=20s'])).exitCode, 0);
    assert.equal(
      (await kubectl(['delete', 'pod', 'forced', '--force', '--grace-period=0', '--timeout=20s'])).exitCode,
      0,
    );
  });
});

describe('images', () => {
  test('one that nobody has: ErrImagePull, then ImagePullBackOff, with the reason', async () => {
    await applyAll(cluster, [pod('unknown', { container: { image: 'registry.example.org/nobody/has-this:1.0' } })]);
    const waiting = await until(
      'unknown',
      'ImagePullBackOff',
      (one) => status(one)?.state?.waiting?.reason === 'ImagePullBackOff',
    );
    assert.match(status(waiting)!.state!.waiting!.message!, /registry\.example\.org\/nobody\/has-this:1\.0/);
    const events = await eventually(
      'the event',
      () => eventsOf('unknown'),
      (events) => events.some((event) => event.reason === 'Failed' && /ErrImagePull/.test(event.message ?? '')),
    );
    assert.ok(
      events.some(
        (event) =>
          event.reason === 'Failed' && /has-this:1\.0.*: (not found|failed to resolve)/.test(event.message ?? ''),
      ),
      JSON.stringify(events.map((one) => one.message)),
    );
    assert.match((await kubectl(['describe', 'pod', 'unknown'])).stdout, /Back-off pulling image/);
  });
  test('imagePullPolicy Never: ErrImageNeverPull without it, runs with it; a bad name is InvalidImageName', async () => {
    await applyAll(cluster, [
      pod('never', { container: { image: 'nobody/has-this', imagePullPolicy: 'Never' } }),
      pod('present', { container: { ...shell('sleep 3600'), imagePullPolicy: 'Never' } }),
      pod('badly-named', { container: { image: 'Not A:Name' } }),
    ]);
    await until('never', 'ErrImageNeverPull', (one) => status(one)?.state?.waiting?.reason === 'ErrImageNeverPull');
    await cluster.waitForPod('present');
    await until('badly-named', 'InvalidImageName', (one) => status(one)?.state?.waiting?.reason === 'InvalidImageName');
  });
  test('a command that does not exist: a clear reason', async () => {
    await applyAll(cluster, [
      pod('no-command', {
        container: { image: 'busybox', command: ['/does/not/exist'] },
        spec: { restartPolicy: 'Never' },
      }),
    ]);
    const failed = await until(
      'no-command',
      'failed',
      (one) => one.status?.phase === 'Failed' || status(one)?.state?.waiting?.reason === 'RunContainerError',
    );
    assert.match(JSON.stringify(status(failed)), /StartError|RunContainerError/);
  });
});

describe('kubectl looks inside', () => {
  test('logs: --tail, --since, -f to the end, of a container by name, of all by label', async () => {
    await applyAll(cluster, [
      pod('talks', {
        container: shell('for i in $(seq 100); do echo line $i; done; sleep 1; echo last words'),
        spec: { restartPolicy: 'Never' },
      }),
    ]);
    await until('talks', 'runs', (one) => status(one) !== undefined && status(one)!.state?.waiting === undefined);
    const followed = await kubectl(['logs', '-f', 'talks']);
    assert.equal(followed.stdout.split('\n').length, 102);
    assert.match(followed.stdout, /^line 1\n[\s\S]*line 100\nlast words\n$/);
    assert.equal((await kubectl(['logs', 'talks', '--tail=2'])).stdout, 'line 100\nlast words\n');
    assert.match(
      (await kubectl(['logs', 'talks', '--tail=1', '--timestamps'])).stdout,
      /^20\d\d-\d\d-\d\dT\S+ last words\n$/,
    );
    assert.equal((await kubectl(['logs', 'talks', '--limit-bytes=6'])).stdout, 'line 1');
    assert.equal((await kubectl(['logs', '-l', 'name=talks', '--tail=1'])).stdout, 'last words\n');
    const chosen = await kubectl(['logs', 'several']);
    // Older ones leave the choice to the server, which refuses to make it.
    const text = currentKubectlMissing()
      ? /a container name must be specified|Defaulted container/
      : /Defaulted container "server"/;
    assert.match(chosen.stdout + chosen.stderr, text);
    assert.match(
      (await kubectl(['logs', 'several', '-c', 'nobody'])).stderr,
      /container nobody is not valid for pod several/,
    );
  });

  test('exec: exit codes, both streams, stdin, a terminal', async () => {
    await applyAll(cluster, [sleeper('open')]);
    await cluster.waitForPod('open');
    const run = (...args: string[]) => kubectl(['exec', 'open', '--', ...args]);
    const both = await run('sh', '-c', 'echo out; echo err >&2; exit 42');
    assert.deepEqual([both.stdout, both.exitCode], ['out\n', 42]);
    assert.match(both.stderr, /^err\n[\s\S]*exit code 42/);
    const bytes = Buffer.alloc(3_000_000, 'podwire ');
    const counted = await runKubectl(cluster.kubeconfig, ['exec', '-i', 'open', '--', 'sha256sum'], {
      input: bytes.toString(),
    });
    assert.equal(counted.stdout.split(' ')[0], createHash('sha256').update(bytes).digest('hex'));
    assert.match((await run('/does/not/exist')).stderr, /no such file|not found/i);
    assert.match((await kubectl(['exec', 'nobody', '--', 'true'])).stderr, /pods "nobody" not found/);
    // script(1) gives kubectl a terminal.
    const terminal = inBackground(['script', '-qec', 'kubectl exec -it open -- sh', '/dev/null'], {
      KUBECONFIG: cluster.kubeconfig,
    });
    terminal.child.stdin.write('stty -a | head -1; tty; exit 5\n');
    assert.equal(await terminal.ended, 5, terminal.output());
    assert.match(terminal.output(), /\/dev\/pts\/\d/);
  });

  test('port-forward', async () => {
    await applyAll(cluster, [whoAmI('forwarded')]);
    await cluster.waitForPod('forwarded');
    const forward = inBackground(['kubectl', 'port-forward', 'pod/forwarded', ':80'], {
      KUBECONFIG: cluster.kubeconfig,
    });
    try {
      const said = await eventually(
        'it listens',
        () => forward.output(),
        (text) => /Forwarding from 127\.0\.0\.1:\d+/.test(text),
      );
      const port = /127\.0\.0\.1:(\d+)/.exec(said)![1];
      for (let i = 0; i < 3; i++) assert.match(await httpGet(`http://127.0.0.1:${port}/`), /^127\.0\.0\.1 forwarded/);
    } finally {
      forward.child.kill('SIGTERM');
      await forward.ended;
    }
  });

  test('cp, there and back', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, Buffer.alloc(200_000, 'abc'));
    const there = await kubectl(['cp', file, 'open:/tmp/file']);
    assert.equal(there.exitCode, 0, there.stderr);
    const back = await kubectl(['cp', 'open:/tmp/file', `${file}.back`]);
    assert.equal(back.exitCode, 0, back.stderr);
    assert.deepEqual(readFileSync(`${file}.back`), readFileSync(file));
  });

  test('attach', async () => {
    await applyAll(cluster, [
      pod('attached', {
        container: { ...shell('while read line; do echo got $line; done'), stdin: true },
        spec: { restartPolicy: 'Never' },
      }),
    ]);
    await cluster.waitForPod('attached');
    const attach = inBackground(['kubectl', 'attach', '-i', 'attached'], { KUBECONFIG: cluster.kubeconfig });
    attach.child.stdin.write('something\n');
    await eventually(
      'the answer',
      () => attach.output(),
      (text) => text.includes('got something'),
    );
    attach.child.stdin.end();
    attach.child.kill('SIGTERM');
    await attach.ended;
  });
});

test("the service account's token lists pods at kubernetes.default.svc, and no more than it may", async () => {
  const at = '/var/run/secrets/kubernetes.io/serviceaccount';
  const ask = (path: string) =>
    cluster.exec(
      'open',
      `curl -sS --max-time 10 --cacert ${at}/ca.crt -H "Authorization: Bearer $(cat ${at}/token)" https://kubernetes.default.svc${path}`,
    );
  const { stdout, stderr } = await ask('/api/v1/namespaces/default/pods?limit=5');
  const answer = JSON.parse(stdout || '{}');
  assert.equal(answer.kind, 'PodList', stdout + stderr);
  assert.equal((await cluster.exec('open', ['cat', `${at}/namespace`])).stdout, 'default');
  const unsigned = await cluster.exec(
    'open',
    `curl -sS --max-time 10 --cacert ${at}/ca.crt -H "Authorization: Bearer rubbish" https://kubernetes.default.svc/api/v1/pods`,
  );
  assert.equal(JSON.parse(unsigned.stdout).code, 401);
});

test('a Service whose pods share a node with their client', async () => {
  await applyAll(cluster, [service('forwarded', { selector: { name: 'forwarded' } })]);
  await eventually(
    'it answers',
    () => cluster.exec('open', 'curl -sS http://forwarded'),
    ({ stdout }) => stdout.includes('forwarded'),
  );
});

function httpGet(address: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get(address, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve(text));
    }).on('error', reject);
  });
}
