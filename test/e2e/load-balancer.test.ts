/** Services of type LoadBalancer as a client on the underlay meets them: addresses, who answers for them, and its death. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { IpAddress } from '../../src/base/ip.ts';
import { recordedProcesses } from '../../src/cluster/process-table.ts';
import type { Service } from '../../src/kube/types.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { connectTcp } from '../../src/linux/sockets.ts';
import {
  allReady,
  applyAll,
  eventually,
  hostPort,
  kubectl,
  runIn,
  service,
  startCluster,
  url,
  whoAmI,
} from './fixture.ts';

const cluster = await startCluster('balancer', { nodes: 3, ipFamily: 'dual' });
const balancer = (name: string, rest: Record<string, unknown> = {}) =>
  service(name, { type: 'LoadBalancer', ipFamilyPolicy: 'RequireDualStack', selector: { app: 'web' }, ...rest });
await applyAll(cluster, [
  balancer('web'),
  balancer('local', { externalTrafficPolicy: 'Local', selector: { app: 'local' } }),
  balancer('no-ports', { allocateLoadBalancerNodePorts: false }),
  balancer('asked', { loadBalancerIP: '172.18.200.77' }),
  balancer('foreign', { loadBalancerClass: 'example.com/other' }),
  whoAmI('web-1', { node: 'node-1', labels: { app: 'web' } }),
  whoAmI('web-2', { node: 'node-2', labels: { app: 'web' } }),
  whoAmI('local-2', { node: 'node-2', labels: { app: 'local' } }),
]);
await allReady(cluster, ['web-1', 'web-2', 'local-2']);

const at = (name: string) => ({ namespace: 'default', name });
const ingressOf = ({ status }: Service) => (status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip as IpAddress);
async function addresses(name: string, count = 2): Promise<readonly IpAddress[]> {
  return ingressOf(await cluster.waitFor('Service', at(name), (one) => ingressOf(one).length === count));
}

/** What a client outside gets. */
async function ask(address: string): Promise<string> {
  const { stdout, stderr } = await runIn(cluster, 'outside', ['curl', '-sS', '--max-time', '2', url(address)]);
  return stdout.trim() || stderr.trim();
}

/** The node whose MAC a client's kernel learns for the address when it asks anew; undefined when none answers. */
async function whoAnswers(address: IpAddress): Promise<string | undefined> {
  using outside = await cluster.openNamespace('outside');
  using netlink = Rtnetlink.open(outside);
  const entry = () => netlink.neighbours({ device: 'eth0' }).find((one) => one.address === address);
  if (entry()) netlink.deleteNeighbour({ device: 'eth0', address });
  await cluster.connect('outside', hostPort(address), { timeoutMs: 200 });
  const mac = entry()?.mac;
  for (const name of cluster.nodes) {
    using ns = await cluster.openNamespace({ node: name });
    using inside = Rtnetlink.open(ns);
    if (mac !== undefined && inside.link('eth0')?.mac === mac) return name;
  }
  return undefined;
}

test('kubectl shows the addresses; every pod of the Service is reached from outside, over both families', async () => {
  const shown = await kubectl(cluster.kubeconfig, ['get', 'service', 'web']);
  for (const address of await addresses('web')) {
    assert.ok(shown.stdout.includes(address), shown.stdout);
    await eventually(
      `${address} answers`,
      () => ask(address),
      (text) => /web-[12]$/.test(text),
    );
    const names = new Set<string>();
    await eventually(
      'both pods',
      async () => names.add((await ask(address)).split(' ')[1]!).size,
      (size) => size === 2,
    );
  }
});

test('a port that the Service does not have is refused', async () => {
  for (const address of await addresses('web')) {
    assert.equal((await cluster.connect('outside', hostPort(address, 81))).outcome, 'refused');
  }
});

test('pods and nodes reach it too', async () => {
  for (const address of await addresses('web')) {
    for (const from of ['web-1', { node: 'node-3' }] as const) {
      assert.equal((await cluster.connect(from, hostPort(address))).outcome, 'connected');
    }
  }
});

test('without node ports, with an address that was asked for, of another class', async () => {
  const noPorts = await cluster.client.get('Service', at('no-ports'));
  assert.deepEqual(
    noPorts.spec.ports?.map(({ nodePort }) => nodePort),
    [undefined],
  );
  for (const address of await addresses('no-ports')) {
    await eventually(
      `${address} answers`,
      () => ask(address),
      (text) => /web-[12]$/.test(text),
    );
  }
  assert.ok((await addresses('asked')).includes('172.18.200.77' as IpAddress));
  assert.deepEqual(ingressOf(await cluster.client.get('Service', at('foreign'))), []);
});

describe('externalTrafficPolicy Local', () => {
  test('the node with the endpoint answers, and the pod sees the client', async () => {
    const { addresses: own } = { addresses: await runIn(cluster, 'outside', ['ip', '-o', 'addr', 'show', 'eth0']) };
    for (const address of await addresses('local')) {
      await eventually(
        'node-2 answers',
        () => whoAnswers(address),
        (name) => name === 'node-2',
      );
      const [source, name] = (await ask(address)).split(' ');
      assert.equal(name, 'local-2');
      assert.ok(own.stdout.includes(` ${source}/`), `${source} is the client's own address`);
    }
  });

  test('it moves with the endpoint', async () => {
    await cluster.client.delete('Pod', at('local-2'));
    await applyAll(cluster, [whoAmI('local-3', { node: 'node-3', labels: { app: 'local' } })]);
    for (const address of await addresses('local')) {
      await eventually(
        'node-3 answers',
        () => whoAnswers(address),
        (name) => name === 'node-3',
      );
      await eventually(
        'the pod answers',
        () => ask(address),
        (text) => text.endsWith(' local-3'),
      );
    }
  });
});

/** The node that answers for the Service "web", and the processes that make it a node. */
async function announcer() {
  const [address] = (await addresses('web')) as [IpAddress];
  const name = await eventually(
    'one node answers',
    () => whoAnswers(address),
    (one) => one !== undefined,
  );
  const processes = recordedProcesses(cluster.paths).filter((one) => one.name.startsWith(`${name}-`));
  assert.equal(processes.length, 2, 'agent and containerd');
  return { address, name: name!, processes };
}

const OK = 'HTTP/1.1 200 OK';

/** A connection from outside that is kept open, over which requests are sent one by one. */
async function openConnection(address: IpAddress) {
  using outside = await cluster.openNamespace('outside');
  const socket = new Socket({
    fd: await connectTcp({ ns: outside, address, port: 80 }),
    readable: true,
    writable: true,
  });
  return {
    /** The first line of the answer to a request. */
    async exchange(): Promise<string> {
      const answer = once(socket, 'data', { signal: AbortSignal.timeout(10_000) });
      socket.write('GET / HTTP/1.1\r\nHost: web\r\n\r\n');
      return String((await answer)[0]).split('\r\n')[0]!;
    },
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

const isServed = (address: IpAddress) =>
  eventually(
    'requests are served',
    () => ask(address),
    (text) => /web-[12]$/.test(text),
  );

for (const [how, stop, resume] of [
  ['stopped', 'SIGSTOP', 'SIGCONT'],
  ['killed', 'SIGKILL', undefined],
] as const) {
  test(`the agent of the announcing node is ${how}: new clients find the node, and connections live on`, async () => {
    const { address, name, processes } = await announcer();
    using client = await openConnection(address);
    for (const { pid } of processes) process.kill(pid, stop);
    try {
      const until = performance.now() + 4000;
      // At once nobody may answer, for the moment that it takes to know that the agent is silent.
      await isServed(address);
      while (performance.now() < until) {
        assert.equal(await client.exchange(), OK);
        const found = await eventually(
          'somebody answers',
          () => whoAnswers(address),
          (one) => one !== undefined,
        );
        assert.equal(found, name);
        await isServed(address);
      }
    } finally {
      if (resume) for (const { pid } of processes) process.kill(pid, resume);
    }
    await eventually(
      'its own agent answers',
      () => whoAnswers(address),
      (one) => one === name,
    );
    assert.equal(await client.exchange(), OK);
  });
}

test('the announcing node dies: another answers within two seconds, and one alone when it is back', async (t) => {
  const { address, name } = await announcer();
  const began = performance.now();
  {
    using _cut = await cluster.unplug(name);
    const moved = await eventually(
      'another answers',
      () => whoAnswers(address),
      (one) => one !== undefined && one !== name,
    );
    t.diagnostic(`${moved} answers after ${Math.round(performance.now() - began)} ms`);
    await isServed(address);
  }
  await eventually(
    'it is back',
    () => whoAnswers(address),
    (one) => one === name,
  );
  await isServed(address);
});

test('pools of the ConfigMap; what is wrong in it becomes an event', async () => {
  const config = (pools: string) => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'kube-system', name: 'podwire-load-balancer' },
    data: { pools },
  });
  await applyAll(cluster, [config('[{name: more, addresses: [172.18.201.5-172.18.201.6], autoAssign: false}]')]);
  await applyAll(cluster, [balancer('more', { loadBalancerIP: '172.18.201.5' })]);
  const [address] = await addresses('more');
  assert.equal(address, '172.18.201.5');
  await eventually(
    'it answers',
    () => ask(address!),
    (text) => /web-[12]$/.test(text),
  );
  await applyAll(cluster, [config('[{name: more, addresses: [172.18.201.300]}]')]);
  await eventually(
    'an event',
    async () => (await cluster.client.list('Event', { namespace: 'kube-system' })).items.map(({ message }) => message),
    (messages) => messages.some((message) => message?.includes('pools[0].addresses[0]')),
  );
  assert.deepEqual(await addresses('more'), [address, (await addresses('more'))[1]], 'nothing is taken away');
});

test('a Service that is deleted, or no load balancer any more, is silent and its address free', async () => {
  const [address] = (await addresses('asked')) as [IpAddress];
  await cluster.client.patch('Service', at('asked'), { spec: { type: 'ClusterIP', loadBalancerIP: null } });
  assert.deepEqual(await addresses('asked', 0), []);
  await eventually(
    'nobody answers',
    () => whoAnswers(address),
    (name) => name === undefined,
  );
  const [other] = (await addresses('no-ports')) as [IpAddress];
  await cluster.client.delete('Service', at('no-ports'));
  await eventually(
    'nobody answers',
    () => whoAnswers(other),
    (name) => name === undefined,
  );
  await applyAll(cluster, [balancer('again', { loadBalancerIP: other })]);
  assert.equal((await addresses('again'))[0], other);
});
