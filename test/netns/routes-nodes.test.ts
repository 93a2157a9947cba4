/** Real packets between the pods of three nodes, over VXLAN and by plain routes, in both families. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { silentLogger } from '../../src/base/log.ts';
import { FakeClient } from '../../src/kube/fake-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import { setTxChecksumOffload, txChecksumOffload } from '../../src/linux/offload.ts';
import { RoutesController } from '../../src/node/routes/controller.ts';
import type { RouteMode } from '../../src/node/routes/model.ts';
import { Lab, type LabNode, type LabOptions, runInside, talk } from './cni-lab.ts';

interface Options extends LabOptions {
  readonly mode?: RouteMode;
  readonly txChecksumOffload?: 'on' | 'off';
}

/** The lab's nodes as Node objects, and a controller on each. */
class Network implements AsyncDisposable {
  readonly client = new FakeClient();
  readonly controllers: RoutesController[] = [];
  readonly lab: Lab;
  #abort = new AbortController();

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  static async create(options: Options): Promise<Network> {
    const network = new Network(await Lab.create(options));
    for (const node of network.lab.nodes) await network.register(node);
    await network.start(options);
    return network;
  }

  async register(node: LabNode): Promise<void> {
    const addresses = node.addresses.map((address) => ({ type: 'InternalIP', address }));
    await this.client.create('Node', {
      metadata: { name: node.name },
      spec: { podCIDR: node.podCidrs[0]!, podCIDRs: [...node.podCidrs] },
      status: { addresses },
    });
  }

  async start(options: Options): Promise<void> {
    for (const node of this.lab.nodes) {
      const nodes = new Informer('Node', { client: this.client, log: silentLogger });
      await nodes.start(this.#abort.signal);
      const { mode, txChecksumOffload } = options;
      const controller = new RoutesController({
        ...{ nodes, nodeName: node.name, netns: node.ns, log: silentLogger },
        ...(mode && { mode }),
        ...(txChecksumOffload && { txChecksumOffload }),
      });
      await controller.start(this.#abort.signal);
      this.controllers.push(controller);
    }
  }

  /** As when every agent restarts with other settings. */
  async restart(options: Options): Promise<void> {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.controllers.length = 0;
    await this.start(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.lab[Symbol.asyncDispose]();
  }
}

/** Waits for what a controller does on its own. */
async function eventually(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 300; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`never: ${what}`);
}

const big = randomBytes(4 << 20);

/** Every pod reaches every other one with all of its addresses, unchanged. */
async function assertMesh(network: Network): Promise<void> {
  const pods = network.lab.nodes.flatMap(({ pods }) => pods);
  for (const from of pods) {
    for (const to of pods.filter((pod) => pod !== from)) {
      for (const [i, address] of to.addresses.entries()) {
        const { seen, intact } = await talk(from.ns, address, big.subarray(0, 256 << 10));
        assert.equal(seen, from.addresses[i], `${from.name} -> ${to.name}: the source address`);
        assert.ok(intact, `${from.name} -> ${to.name} ${address}: the data`);
      }
    }
  }
}

async function addPods(network: Network): Promise<void> {
  for (const [i, node] of network.lab.nodes.entries()) {
    const pod = await node.addPod(`pod-${i}`);
    for (const address of pod.addresses) await pod.echo(address);
  }
}

const kinds: [string, Options][] = [
  ['VXLAN, dual-stack', {}],
  ['VXLAN, IPv4', { families: [4] }],
  ['VXLAN, IPv6', { families: [6] }],
  ['host-gw, dual-stack', { mode: 'host-gw' }],
  ['host-gw, IPv6', { mode: 'host-gw', families: [6] }],
];
for (const [name, options] of kinds) {
  test(`pods of three nodes reach each other: ${name}`, { timeout: 60_000 }, async () => {
    await using network = await Network.create({ ...options, nodes: 3 });
    await addPods(network);
    await assertMesh(network);
    // From a node itself: replies find their way, whatever address the kernel chose.
    const target = network.lab.nodes[1]!.pods[0]!;
    for (const address of target.addresses) {
      assert.ok((await talk(network.lab.nodes[0]!.ns, address, big)).intact);
    }
  });
}

test('large packets pass with the MTU that is told, and no larger ones are sent', { timeout: 60_000 }, async () => {
  await using network = await Network.create({ nodes: 2, mtu: 1450 });
  assert.deepEqual(
    network.controllers.map(({ podMtu }) => podMtu),
    [1450, 1450],
  );
  await addPods(network);
  const [from, to] = network.lab.nodes.map(({ pods }) => pods[0]!) as [LabNode['pods'][0], LabNode['pods'][0]];
  for (const address of to.addresses) {
    const { intact } = await talk(from.ns, address, big);
    assert.ok(intact);
    const header = address.includes(':') ? 48 : 28;
    const output = await runInside(from.ns, [
      'busybox',
      'ping',
      '-c',
      '1',
      '-W',
      '3',
      '-s',
      String(1450 - header),
      address,
    ]);
    assert.match(output, /1 packets received/);
  }
});

test('TCP passes real data with checksum offload on and off', { timeout: 60_000 }, async () => {
  for (const txChecksumOffloadWanted of ['on', 'off'] as const) {
    await using network = await Network.create({ nodes: 2, txChecksumOffload: txChecksumOffloadWanted });
    assert.equal(txChecksumOffload(network.lab.nodes[0]!.ns, 'podwire.1'), txChecksumOffloadWanted);
    await addPods(network);
    await assertMesh(network);
  }
});

test('what something else changes is put back', { timeout: 60_000 }, async () => {
  await using network = await Network.create({ nodes: 2 });
  const { rtnl, ns } = network.lab.nodes[0]!;
  const routes = () =>
    rtnl
      .routes({ protocol: 112 })
      .map(({ destination }) => destination)
      .sort();
  const expected = ['10.244.0.0/24', '10.244.1.0/24', 'fd00:10:244:1::/64', 'fd00:10:244::/64'];
  assert.deepEqual(routes(), expected);

  await runInside(ns, ['ip', 'route', 'del', '10.244.1.0/24']);
  await runInside(ns, ['ip', '-6', 'route', 'del', 'fd00:10:244:1::/64']);
  await runInside(ns, ['ip', 'route', 'del', 'unreachable', '10.244.0.0/24']);
  await eventually(() => routes().join() === expected.join(), 'the routes come back');

  await runInside(ns, ['bridge', 'fdb', 'del', '0e:57:0a:f4:01:00', 'dev', 'podwire.1', 'dst', '172.18.0.3']);
  await eventually(() => rtnl.fdb({ device: 'podwire.1' }).length === 1, 'the forwarding entry comes back');

  await runInside(ns, ['ip', 'neigh', 'del', '10.244.1.0', 'dev', 'podwire.1']);
  const neighbours = () => rtnl.neighbours({ device: 'podwire.1' }).filter(({ state }) => state === 'permanent').length;
  await eventually(() => neighbours() === 2, 'the neighbour comes back');

  await runInside(ns, ['ip', 'link', 'set', 'podwire.1', 'down']);
  await eventually(() => rtnl.link('podwire.1')?.up === true && routes().length === 4, 'the device is up again');

  await runInside(ns, ['ip', 'link', 'del', 'podwire.1']);
  await eventually(() => rtnl.link('podwire.1') !== undefined && routes().length === 4, 'the device comes back');

  await addPods(network);
  await assertMesh(network);
  for (const node of network.lab.nodes) {
    await runInside(node.ns, ['ip', 'link', 'set', 'eth0', 'mtu', '1400']);
    await eventually(() => node.rtnl.link('podwire.1')?.mtu === 1350, 'the MTU follows the underlay');
  }
  assert.deepEqual(
    network.controllers.map(({ podMtu }) => podMtu),
    [1350, 1350],
  );
  // Pods from before have 1450 still: their packets that are too big are told so (RFC 1191, RFC 8201).
  await assertMesh(network);
});

test('routes of others are left alone', { timeout: 60_000 }, async () => {
  await using network = await Network.create({ nodes: 2 });
  const { ns } = network.lab.nodes[0]!;
  await runInside(ns, ['ip', 'route', 'add', '192.0.2.0/24', 'via', '172.18.0.3']);
  network.controllers[0]!.reconcileNow();
  network.controllers[0]!.removeAll();
  // Neither what the kernel tells of that nor a change of the cluster brings them back.
  await network.client.patch(
    'Node',
    { name: network.lab.nodes[1]!.name },
    { metadata: { labels: { changed: 'yes' } } },
  );
  network.controllers[0]!.reconcileNow();
  await new Promise((resolve) => setTimeout(resolve, 200));
  const left = await runInside(ns, ['ip', 'route']);
  assert.match(left, /192\.0\.2\.0\/24 via 172\.18\.0\.3/);
  assert.doesNotMatch(left, /10\.244/);
});

test('nodes come and go', { timeout: 60_000 }, async () => {
  await using network = await Network.create({ nodes: 3 });
  const { rtnl } = network.lab.nodes[0]!;
  const destinations = () =>
    rtnl
      .routes({ protocol: 112, family: 4 })
      .map(({ destination }) => destination)
      .sort();
  await network.client.delete('Node', { name: 'node-2' });
  await eventually(() => destinations().join() === '10.244.0.0/24,10.244.1.0/24', 'the route to a gone node goes');
  assert.equal(rtnl.fdb({ device: 'podwire.1' }).length, 1);
  assert.equal(rtnl.neighbours({ device: 'podwire.1' }).filter(({ state }) => state === 'permanent').length, 2);
  await network.register(network.lab.nodes[2]!);
  await eventually(() => destinations().length === 3, 'the route to a new node comes');
  await addPods(network);
  await assertMesh(network);
});

test('a change of mode cleans the other one up, there and back', { timeout: 60_000 }, async () => {
  await using network = await Network.create({ nodes: 2 });
  await addPods(network);
  const { rtnl } = network.lab.nodes[0]!;
  await network.restart({ mode: 'host-gw' });
  assert.equal(rtnl.link('podwire.1'), undefined);
  await assertMesh(network);
  await network.restart({ mode: 'vxlan' });
  assert.equal(rtnl.routes({ protocol: 112 }).filter(({ type }) => type === 'unicast').length, 2);
  await assertMesh(network);
});

test('a device of another make under the same name is replaced', { timeout: 60_000 }, async () => {
  await using network = await Network.create({ nodes: 2 });
  const { rtnl } = network.lab.nodes[0]!;
  rtnl.deleteLink('podwire.1');
  rtnl.createVxlan({ name: 'podwire.1', vni: 77, port: 4789, device: 'eth0' });
  await eventually(() => rtnl.link('podwire.1')?.vxlan?.vni === 1, 'the right device is there');
  setTxChecksumOffload(network.lab.nodes[0]!.ns, 'podwire.1', 'off');
  await addPods(network);
  await assertMesh(network);
});

test('packets for a pod that is gone are refused, not sent elsewhere', { timeout: 60_000 }, async () => {
  await using network = await Network.create({ nodes: 2 });
  await addPods(network);
  const [pod] = network.lab.nodes[0]!.pods;
  for (const address of ['10.244.0.99', '10.244.1.99', 'fd00:10:244:1::99']) {
    await assert.rejects(pod!.connect(address, 7), /E(HOST|NET)UNREACH/, address);
  }
});
