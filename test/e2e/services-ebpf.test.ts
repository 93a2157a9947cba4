/** `podwire up --proxy ebpf`: real pods whose sockets are translated, and that all of it goes with the cluster. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Cluster } from '../../src/cluster/cluster.ts';
import { recordedProcesses } from '../../src/cluster/process-table.ts';
import type { Service } from '../../src/kube/types.ts';
import { AttachType, attachedPrograms, programExists } from '../../src/linux/bpf/attach.ts';
import { cgroup2Root } from '../../src/linux/cgroup.ts';
import { Conntrack } from '../../src/linux/conntrack.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import {
  addressOf,
  allReady,
  applyAll,
  assertNothingLeft,
  clusterName,
  curl,
  eventually,
  hostPort,
  podwire,
  removeLeftovers,
  runIn,
  service,
  sleeper,
  url,
  whoAmI,
} from './fixture.ts';

after(removeLeftovers);

const cgroupOf = (cluster: Cluster, node: string) => join(cgroup2Root()!, cluster.paths.cgroup, node);

/** The programs at a node's control group. */
function programsOf(cluster: Cluster, node: string): number[] {
  const cgroup = openSync(cgroupOf(cluster, node), 'r');
  try {
    return Object.values(AttachType).flatMap((type) => attachedPrograms(cgroup, type));
  } finally {
    closeSync(cgroup);
  }
}

/** Flows of the source, pod or node, that a node has translated. */
function translated(cluster: Cluster, node: string, source: string): string[] {
  using namespace = NetworkNamespace.open(cluster.paths.namespace(node));
  using conntrack = Conntrack.open(namespace);
  return conntrack
    .list({ family: 4 })
    .filter(({ orig, reply }) => orig.source === source && orig.destination !== reply.source)
    .map(({ protocol, orig }) => `${protocol} ${orig.destination} ${orig.destinationPort}`);
}

describe('podwire up --proxy ebpf', async () => {
  const name = clusterName('ebpf');
  const cluster = await Cluster.start({ name, nodes: 2, proxy: 'ebpf', ipFamily: 'dual' });
  after(async () => {
    const programs = cluster.nodes.flatMap((node) => programsOf(cluster, node));
    assert.ok(programs.length > 0);
    await cluster.stop();
    assertNothingLeft(name);
    await eventually(
      'the programs are gone',
      () => programs.filter(programExists),
      (left) => left.length === 0,
    );
  });
  const [node1, node2] = cluster.nodes as [string, string];
  await applyAll(cluster, [
    service('web', { type: 'NodePort', ipFamilyPolicy: 'RequireDualStack', ports: [{ port: 8000, targetPort: 80 }] }),
    service('empty', {}),
    whoAmI('web-1', { node: node1, labels: { app: 'web' } }),
    whoAmI('web-2', { node: node2, labels: { app: 'web' } }),
    sleeper('client', { node: node1 }),
    sleeper('on-node', { node: node1, spec: { hostNetwork: true } }),
  ]);
  const [, , client] = await allReady(cluster, ['web-1', 'web-2', 'client', 'on-node']);
  const specOf = async (of: string): Promise<Service['spec']> =>
    (await cluster.client.get('Service', { namespace: 'default', name: of })).spec;
  const web = await specOf('web');

  /** The different answers that a pod gets of some requests in a row. */
  async function answers(from: string, target: string, requests = 12): Promise<string[]> {
    const script = `for i in $(seq ${requests}); do curl -g -sS --max-time 3 ${target} || echo FAILED; done | sort -u`;
    return (await cluster.exec(from, script)).stdout.trim().split('\n');
  }

  test('a ClusterIP reaches every pod in both families, with the client’s address kept', async () => {
    for (const [i, family] of ([4, 6] as const).entries()) {
      const from = addressOf(client!, family);
      await eventually(
        `both pods answer by IPv${family}`,
        () => answers('client', url(web.clusterIPs![i]!, 8000)),
        (met) => met.join() === `${from} web-1,${from} web-2`,
      );
    }
  });

  test('names are resolved, and clients see the ClusterIP as their peer', async () => {
    const peer = await curl(cluster, 'client', 'http://web:8000/', [
      '-4',
      '-o',
      '/dev/null',
      '-w',
      '%{remote_ip}:%{remote_port}',
    ]);
    assert.equal(peer, `${web.clusterIP}:8000`);
    const onNode = await answers('on-node', url(web.clusterIP!, 8000));
    assert.deepEqual(onNode.map((line) => line.split(' ')[1]).sort(), ['web-1', 'web-2']);
  });

  test('no packet of a pod is translated, neither to Services nor to the DNS', async () => {
    await curl(cluster, 'client', 'http://web.default.svc.cluster.local:8000/');
    assert.deepEqual(translated(cluster, node1, addressOf(client!, 4)), []);
  });

  test('a NodePort answers from outside, and a ClusterIP whoever is not in the node’s control group', async () => {
    for (const node of cluster.description.nodes) {
      const target = `http://${hostPort(node.addresses[0]!, web.ports![0]!.nodePort!)}/`;
      const result = await runIn(cluster, 'outside', ['curl', '-sS', '--max-time', '5', target]);
      assert.match(result.stdout, /web-[12]\n$/, result.stderr);
    }
    const inside = await runIn(cluster, node1, ['curl', '-sS', '--max-time', '5', url(web.clusterIP!, 8000)]);
    assert.match(inside.stdout, /web-[12]\n$/, inside.stderr);
  });

  test('a Service without endpoints and an unused port are refused at once', async () => {
    const { clusterIP } = await specOf('empty');
    for (const target of [`${clusterIP}:80`, `${web.clusterIP}:81`]) {
      const { exitCode, stderr } = await cluster.exec('client', [
        'curl',
        '-sS',
        '--max-time',
        '5',
        `http://${target}/`,
      ]);
      assert.equal(exitCode, 7, stderr);
      assert.equal((await cluster.connect('client', target)).outcome, 'refused', target);
    }
  });

  test('requests go on while agents are killed, and pods come and go', async () => {
    // A pod's own command: what is run in a pod by exec ends with the agent.
    const script = `for i in $(seq 150); do curl -sS --max-time 3 ${url(web.clusterIP!, 8000)} || echo FAILED; done; echo END`;
    const command = ['sh', '-c', script];
    const once = { restartPolicy: 'Never' };
    await applyAll(cluster, [sleeper('loader', { node: node1, spec: once, container: { command } })]);
    await eventually(
      'requests are sent',
      () => cluster.logs('loader'),
      (text) => text.includes('web-'),
    );
    const before = programsOf(cluster, node1);
    const agent = cluster.processes.find((one) => one.name === `${node1}-agent`)!;
    const old = agent.pid!;
    process.kill(old, 'SIGKILL');
    await eventually(
      'a new agent has put its programs in the place of the old one’s',
      () => programsOf(cluster, node1),
      (now) => now.length === before.length && !now.some((id) => before.includes(id)),
    );
    await applyAll(cluster, [whoAmI('web-3', { node: node2, labels: { app: 'web' } })]);
    await allReady(cluster, ['web-3']);
    await cluster.client.delete('Pod', { namespace: 'default', name: 'web-1' });
    const text = await eventually(
      'all requests are sent',
      () => cluster.logs('loader'),
      (lines) => lines.includes('END'),
      60_000,
    );
    const lines = text.trim().split('\n');
    assert.equal(lines.length, 151);
    assert.deepEqual(
      lines.filter((line) => line.includes('FAILED')),
      [],
    );
    await eventually(
      'web-3 serves in the place of web-1',
      () => answers('client', url(web.clusterIP!, 8000)),
      (met) => met.map((line) => line.split(' ')[1]).join() === 'web-2,web-3',
    );
    assert.deepEqual(translated(cluster, node1, addressOf(client!, 4)), []);
  });

  test('pods of a containerd that was started again are translated too', async () => {
    const containerd = cluster.processes.find((one) => one.name === `${node1}-containerd`)!;
    const old = containerd.pid!;
    process.kill(old, 'SIGKILL');
    await eventually(
      'containerd is started again',
      () => containerd.pid,
      (pid) => pid !== undefined && pid !== old,
    );
    await applyAll(cluster, [sleeper('late', { node: node1 })]);
    const [late] = await allReady(cluster, ['late']);
    assert.match(await curl(cluster, 'late', 'http://web:8000/'), /web-[23]$/);
    assert.deepEqual(translated(cluster, node1, addressOf(late!, 4)), []);
  });
});

test('a cluster whose supervisor and agent were killed leaves nothing after down', async () => {
  const name = clusterName('ebpf-down');
  const up = await podwire(['up', '--name', name, '--nodes', '1', '--proxy', 'ebpf', '--detach', '--no-merge']);
  assert.equal(up.exitCode, 0, up.stderr);
  const cluster = Cluster.open(name);
  const programs = programsOf(cluster, 'node-1');
  assert.equal(programs.length, Object.keys(AttachType).length);
  cluster.client.close();
  for (const { name: one, pid } of recordedProcesses(cluster.paths))
    if (one === 'supervisor' || one === 'node-1-agent') process.kill(pid, 'SIGKILL');
  const down = await podwire(['down', '--name', name]);
  assert.equal(down.exitCode, 0, down.stderr);
  assertNothingLeft(name);
  assert.equal(existsSync(cgroupOf(cluster, 'node-1')), false);
  await eventually(
    'the programs are gone',
    () => programs.filter(programExists),
    (left) => left.length === 0,
  );
});
