/** What dies comes back, and what it carried goes on: agents, containerd, the server, sandboxes; and rubbish on every port. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect, Socket } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, test } from 'node:test';
import { startTimeOf } from '../../src/cluster/process-table.ts';
import type { Pod } from '../../src/kube/types.ts';
import { bindUdp, connectTcp } from '../../src/linux/sockets.ts';
import {
  addressOf,
  allReady,
  applyAll,
  curl,
  eventually,
  inBackground,
  pod,
  runIn,
  kubectl as runKubectl,
  service,
  sleeper,
  startCluster,
  url,
  whoAmI,
} from './fixture.ts';

const cluster = await startCluster('survival', { nodes: 2, nodeGracePeriodMs: 10_000 });
const kubectl = (args: readonly string[]) => runKubectl(cluster.kubeconfig, args);
/** Answers each line that it gets with itself, on one long connection. */
const echo = (name: string, node: string) =>
  pod(name, {
    node,
    labels: { app: 'echo' },
    container: {
      image: 'busybox',
      command: ['nc', '-ll', '-p', '7', '-e', 'cat'],
      readinessProbe: { tcpSocket: { port: 7 }, periodSeconds: 1 },
    },
  });
await applyAll(cluster, [
  service('echo', { ports: [{ port: 7 }] }),
  service('web', {}),
  echo('echo', 'node-2'),
  whoAmI('web-1', { node: 'node-1', labels: { app: 'web' } }),
  whoAmI('web-2', { node: 'node-2', labels: { app: 'web' } }),
  sleeper('client', { node: 'node-1' }),
]);
const NAMES = ['echo', 'web-1', 'web-2', 'client'];
const before = await allReady(cluster, NAMES);
const containersOf = (pods: readonly Pod[]) =>
  pods.map((one) => [
    one.metadata.name,
    one.status?.podIP,
    one.status?.containerStatuses?.map((c) => [c.containerID, c.restartCount]),
  ]);
const untouched = containersOf(before);

async function assertPodsUntouched(): Promise<void> {
  const now = await Promise.all(NAMES.map((name) => cluster.client.get('Pod', { namespace: 'default', name })));
  assert.deepEqual(containersOf(now), untouched);
}

const processNamed = (name: string) => cluster.processes.find((one) => one.name === name)!;

/** Kills one of the cluster's processes and waits until its successor runs. */
async function kill(name: string): Promise<void> {
  const old = processNamed(name).pid!;
  process.kill(old, 'SIGKILL');
  await eventually(
    `${name} is started again`,
    () => processNamed(name).pid,
    (pid) => pid !== undefined && pid !== old,
  );
}

const ready = async (node: string) =>
  (await cluster.client.get('Node', { name: node })).status?.conditions?.find((one) => one.type === 'Ready')?.status;
async function readyPods(service: string): Promise<string[]> {
  const labelSelector = `kubernetes.io/service-name=${service}`;
  const { items } = await cluster.client.list('EndpointSlice', { namespace: 'default', labelSelector });
  const ready = items.flatMap((slice) => slice.endpoints ?? []).filter((one) => one.conditions?.ready);
  return ready.map((one) => one.targetRef?.name ?? '');
}
const readyEndpoints = async (name: string) => (await readyPods(name)).length;
const readyWebPods = () => readyPods('web');

/** Nothing is left of what the test before did: on a slow machine a new agent may take longer than its node's grace. */
async function settled(): Promise<void> {
  const state = async () => [
    await ready('node-1'),
    await ready('node-2'),
    await readyEndpoints('web'),
    await readyEndpoints('echo'),
  ];
  await eventually('all is well', state, (now) => now.join() === 'True,True,2,1', 60_000);
  await eventually(
    'the Service works',
    () => cluster.connect('client', 'service/echo:7'),
    ({ outcome }) => outcome === 'connected',
  );
  await eventually(
    'the other as well',
    () => cluster.connect('client', 'service/web:80'),
    ({ outcome }) => outcome === 'connected',
  );
}
beforeEach(settled);

/** Connections that are open all the time: to the pod's own address and through the Service. */
async function openConnections() {
  const { spec } = await cluster.client.get('Service', { namespace: 'default', name: 'echo' });
  using ns = await cluster.openNamespace('client');
  const open = async (address: string) => {
    return new Socket({ fd: await connectTcp({ ns, address, port: 7 }), readable: true, writable: true });
  };
  const sockets = [await open(addressOf(before[0]!)), await open(spec.clusterIP!)];
  return {
    async stillEcho(): Promise<void> {
      for (const socket of sockets) {
        const text = `are you there? ${Math.random()}\n`;
        const answer = once(socket, 'data', { signal: AbortSignal.timeout(10_000) });
        socket.write(text);
        assert.equal(String((await answer)[0]), text);
      }
    },
    [Symbol.dispose]() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** A new pod, its network, its Service and its name: everything that an agent does. */
async function assertNewPodsWork(name: string, node: string): Promise<void> {
  await applyAll(cluster, [service(name, { selector: { name } }), whoAmI(name, { node })]);
  const ready = await cluster.waitForPod(name);
  const source = addressOf(before[3]!);
  assert.equal(await curl(cluster, 'client', url(addressOf(ready))), `${source} ${name}`);
  await eventually(
    'by its name',
    () => cluster.exec('client', `curl -sS --max-time 2 http://${name}`),
    ({ stdout }) => stdout === `${source} ${name}\n`,
  );
  assert.equal((await kubectl(['delete', 'pod,service', name, '--now'])).exitCode, 0);
}

describe('kill -9 of an agent', () => {
  for (const node of ['node-1', 'node-2']) {
    test(`of ${node}: connections go on, pods are adopted, new ones work`, async () => {
      using connections = await openConnections();
      await connections.stillEcho();
      await kill(`${node}-agent`);
      await connections.stillEcho();
      await assertNewPodsWork(`after-${node}`, node);
      await connections.stillEcho();
      await assertPodsUntouched();
    });
  }
  test('while nobody is there packets and Services go on', async () => {
    const old = processNamed('node-1-agent').pid!;
    process.kill(old, 'SIGSTOP');
    try {
      assert.equal((await cluster.connect('client', 'service/web:80')).outcome, 'connected');
      assert.equal((await cluster.connect('client', `${addressOf(before[2]!)}:80`)).outcome, 'connected');
    } finally {
      process.kill(old, 'SIGCONT');
    }
  });
  test('of all agents at once', async () => {
    using connections = await openConnections();
    await Promise.all([kill('node-1-agent'), kill('node-2-agent')]);
    await connections.stillEcho();
    await assertNewPodsWork('after-all', 'node-2');
    await assertPodsUntouched();
  });
});

test('kill -9 of containerd: pods live on, exec works again, pods can be made and deleted', async () => {
  using connections = await openConnections();
  await kill('node-1-containerd');
  await connections.stillEcho();
  await eventually(
    'exec works',
    () => cluster.exec('client', ['echo', 'hello']),
    ({ stdout }) => stdout === 'hello\n',
  );
  await assertPodsUntouched();
  await assertNewPodsWork('after-containerd', 'node-1');
  const links = async () => (await runIn(cluster, 'node-1', ['ip', '-o', 'link', 'show'])).stdout.split('\n').length;
  const count = await links();
  await applyAll(cluster, [sleeper('short-lived', { node: 'node-1' })]);
  await cluster.waitForPod('short-lived');
  await kill('node-1-containerd');
  assert.equal((await kubectl(['delete', 'pod', 'short-lived', '--now', '--timeout=30s'])).exitCode, 0);
  await eventually('its interface is gone', links, (now) => now === count);
});

test('kill -9 of the server: nothing acknowledged is lost, watches go on, pods are not touched', async () => {
  using connections = await openConnections();
  const watch = inBackground(['kubectl', 'get', 'configmaps', '--watch', '-o', 'name'], {
    KUBECONFIG: cluster.kubeconfig,
  });
  const acknowledged: string[] = [];
  let writing = true;
  const writer = (async () => {
    for (let i = 0; writing; i++) {
      const made = await applyAll(cluster, [
        { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: `kept-${i}` } },
      ]).catch(() => undefined);
      if (made) acknowledged.push(`kept-${i}`);
    }
  })();
  await eventually(
    'some are written',
    () => acknowledged.length,
    (length) => length > 20,
  );
  await kill('server');
  await eventually(
    'kubectl works again',
    () => kubectl(['get', 'nodes']),
    ({ stdout }) => /node-1\s+Ready/.test(stdout),
  );
  const written = acknowledged.length;
  await eventually(
    'more are written',
    () => acknowledged.length,
    (length) => length > written + 20,
  );
  writing = false;
  await writer;
  const { items } = await cluster.client.list('ConfigMap', { namespace: 'default' });
  const stored = new Set(items.map((one) => one.metadata.name));
  assert.deepEqual(
    acknowledged.filter((name) => !stored.has(name)),
    [],
    `lost of ${acknowledged.length}`,
  );
  watch.child.kill('SIGTERM');
  await watch.ended;
  await connections.stillEcho();
  await assertPodsUntouched();
  await assertNewPodsWork('after-server', 'node-1');
});

test('the pause process of a sandbox is killed: the pod is built anew', async () => {
  await applyAll(cluster, [whoAmI('rebuilt', { node: 'node-2', labels: { app: 'rebuilt' } }), service('rebuilt', {})]);
  const first = await cluster.waitForPod('rebuilt');
  process.kill(pauseProcess(first), 'SIGKILL');
  const again = await cluster.waitFor('Pod', { namespace: 'default', name: 'rebuilt' }, (one) => {
    const [container] = one.status?.containerStatuses ?? [];
    return container?.ready === true && container.containerID !== first.status?.containerStatuses?.[0]?.containerID;
  });
  assert.equal(again.metadata.uid, first.metadata.uid);
  assert.match(await curl(cluster, 'client', url(addressOf(again))), / rebuilt$/);
  await eventually(
    'its Service',
    () => cluster.exec('client', 'curl -sS --max-time 2 http://rebuilt'),
    ({ stdout }) => stdout.endsWith(' rebuilt\n'),
  );
});

test('a silent agent: NotReady, its endpoints leave; back again when it speaks', async () => {
  const agent = processNamed('node-2-agent').pid!;
  process.kill(agent, 'SIGSTOP');
  try {
    await eventually(
      'NotReady',
      () => ready('node-2'),
      (status) => status === 'Unknown',
      60_000,
    );
    await eventually('its endpoint leaves', readyWebPods, (pods) => pods.join() === 'web-1', 60_000);
    assert.match((await kubectl(['get', 'node', 'node-2'])).stdout, /NotReady/);
    // A busy machine may starve the other agent as well for so long: then its endpoint comes back.
    await eventually(
      'ten requests in a row go to the other endpoint',
      async () => {
        const answers: string[] = [];
        while (answers.length < 10) answers.push(await curl(cluster, 'client', 'http://web'));
        return answers;
      },
      (answers) => answers.every((answer) => answer.endsWith(' web-1')),
      60_000,
    );
  } finally {
    process.kill(agent, 'SIGCONT');
  }
  await eventually(
    'Ready',
    () => ready('node-2'),
    (status) => status === 'True',
  );
  await eventually(
    'its endpoint is back',
    () => readyEndpoints('web'),
    (count) => count === 2,
  );
  await assertPodsUntouched();
});

describe('rubbish on', () => {
  const rubbish = [
    Buffer.alloc(0),
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.from('{"a":'),
    Buffer.alloc(70_000, 0xff),
    Buffer.from([0x16, 3, 1, 0xff, 0xff, 1]),
  ];
  const send = async (open: () => Socket | Promise<Socket>) => {
    for (let round = 0; round < 20; round++) {
      const socket = await open();
      const closed = new Promise((resolve) => socket.on('close', resolve));
      socket.on('error', () => {});
      socket.end(rubbish[round % rubbish.length]!);
      socket.resume();
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 100))]);
      socket.destroy();
    }
  };
  const inside = (where: { node: string } | 'outside', address: string, port: number) => async () => {
    using ns = await cluster.openNamespace(where);
    return new Socket({ fd: await connectTcp({ ns, address, port }), readable: true, writable: true });
  };
  const targets: Record<string, () => Socket | Promise<Socket>> = {
    'the CNI socket': () => connect(cluster.paths.node('node-1').cniSocket),
    'the kubelet port': inside('outside', '172.18.0.2', 10250),
    'the API port': inside('outside', '172.18.0.1', 6443),
    'the registry port': inside('outside', '172.18.0.1', 5000),
    'the DNS port over TCP': inside({ node: 'node-1' }, '10.96.0.10', 53),
  };
  for (const [what, open] of Object.entries(targets)) {
    test(what, async () => {
      const pids = cluster.processes.map((one) => one.pid);
      await send(open);
      assert.deepEqual(
        cluster.processes.map((one) => one.pid),
        pids,
        'nobody died of it',
      );
    });
  }
  test('the DNS port over UDP', async () => {
    using ns = await cluster.openNamespace('client');
    const socket = createSocket('udp4');
    socket.bind({ fd: bindUdp({ ns, address: '0.0.0.0', port: 0 }) });
    for (let i = 0; i < 300; i++) {
      const bytes = Buffer.from(Array.from({ length: i }, (_, at) => (at * 31 + i * 7) % 256));
      await new Promise((resolve) => socket.send(bytes, 53, '10.96.0.10', () => resolve(undefined)));
    }
    socket.close();
  });
  test('and everything works as before', async () => {
    await assertNewPodsWork('after-rubbish', 'node-1');
    assert.equal((await kubectl(['logs', 'web-1'])).exitCode, 0);
    await assertPodsUntouched();
  });
});

/** The process that holds the network namespace of a pod: the one in its control group that is called pause. */
function pauseProcess(of: Pod): number {
  const candidates = readdirSync('/proc').filter(
    (name) => /^\d+$/.test(name) && startTimeOf(Number(name)) !== undefined,
  );
  const found = candidates.find((pid) => {
    try {
      const groups = readFileSync(join('/proc', pid, 'cgroup'), 'utf8');
      return (
        groups.includes(`pod${of.metadata.uid}`) && readFileSync(join('/proc', pid, 'comm'), 'utf8').trim() === 'pause'
      );
    } catch {
      return false;
    }
  });
  return Number(found ?? assert.fail('no pause process'));
}
