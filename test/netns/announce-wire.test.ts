/**
 * Announcing on a real wire: three nodes and a client on a bridge, each in its own namespace. The client's kernel asks by
 * ARP and NDP; its neighbour table says who answered.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type IpAddress, parseIp } from '../../src/base/ip.ts';
import { silentLogger } from '../../src/base/log.ts';
import { FakeClient } from '../../src/kube/fake-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import type { NetworkNamespace } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { connectTcp } from '../../src/linux/sockets.ts';
import { writeSysctl } from '../../src/linux/sysctl.ts';
import { AnnounceController } from '../../src/node/announce/controller.ts';
import { UnusedPorts } from '../../src/node/announce/unused-ports.ts';
import { namespaces, skip } from './linux-fixture.ts';

const VIRTUAL = ['172.18.200.1', 'fd00:18::c8:1'].map(parseIp);

interface Member {
  readonly ns: NetworkNamespace;
  readonly mac: string;
  readonly name: string;
  controller?: AnnounceController;
  end: AbortController;
}

/** What nodes are known by, in clusters of either family. */
const NODE_ADDRESS = {
  4: (host: string | number) => `172.18.0.${host}`,
  6: (host: string | number) => `fd00:18::${host}`,
} as const;

function attach(bridge: NetworkNamespace, ns: NetworkNamespace, name: string, host: number): Member {
  writeSysctl(ns, 'net.ipv6.conf.all.accept_dad', 0);
  writeSysctl(ns, 'net.ipv6.conf.default.accept_dad', 0);
  // A link that goes down would lose its IPv6 addresses.
  writeSysctl(ns, 'net.ipv6.conf.all.keep_addr_on_down', 1);
  using outer = Rtnetlink.open(bridge);
  outer.createVeth({ name: `to-${name}`, up: true, master: 'br0', peer: { name: 'eth0', netns: ns } });
  using inner = Rtnetlink.open(ns);
  inner.setLink('eth0', { up: true });
  for (const address of [`${NODE_ADDRESS[4](host)}/16`, `${NODE_ADDRESS[6](host)}/64`]) {
    inner.addAddress({ device: 'eth0', address, nodad: true });
  }
  writeSysctl(ns, 'net.ipv4.ip_forward', 1);
  writeSysctl(ns, 'net.ipv6.conf.all.forwarding', 1);
  return { ns, name, mac: inner.link('eth0')!.mac!, end: new AbortController() };
}

for (const family of [4, 6] as const) {
  describe(`addresses on a wire, nodes known by IPv${family}`, { skip }, () => addressesOnAWire(family));
}

function addressesOnAWire(family: 4 | 6): void {
  const make = namespaces();
  const client = new FakeClient();
  let nodes: Member[] = [];
  let asker!: Member;

  before(async () => {
    const bridge = make('wire');
    using netlink = Rtnetlink.open(bridge);
    netlink.createBridge({ name: 'br0', up: true, multicastSnooping: false });
    nodes = [1, 2, 3].map((i) => attach(bridge, make(`node-${i}`), `node-${i}`, i));
    asker = attach(bridge, make('asker'), 'asker', 99);
    await client.create('Namespace', { metadata: { name: 'kube-system' }, spec: {} });
    for (const { name } of nodes) {
      const addresses = [{ type: 'InternalIP', address: nodeAddress(name) }];
      const status = { conditions: [{ type: 'Ready', status: 'True' }], addresses };
      await client.create('Node', { metadata: { name }, spec: {}, status });
    }
    await Promise.all(nodes.map(start));
    await client.create('Service', {
      metadata: { name: 'web', namespace: 'default' },
      spec: { type: 'LoadBalancer', ports: [{ port: 80 }] },
      status: { loadBalancer: { ingress: VIRTUAL.map((ip) => ({ ip })) } },
    });
  });
  after(() => {
    for (const { end } of [...nodes, asker]) end.abort();
  });

  const nodeAddress = (name: string) => NODE_ADDRESS[family](name.at(-1)!);

  async function start(node: Member): Promise<void> {
    const options = { client, log: silentLogger };
    const controller = new AnnounceController({
      nodeName: node.name,
      nodeAddresses: [nodeAddress(node.name)],
      ns: node.ns,
      informers: {
        services: new Informer('Service', options),
        endpointSlices: new Informer('EndpointSlice', options),
        nodes: new Informer('Node', options),
        namespaces: new Informer('Namespace', options),
      },
      unusedPorts: new UnusedPorts({ nft: Nftables.open(node.ns), log: silentLogger }),
      log: silentLogger,
    });
    node.controller = controller;
    await controller.start(node.end.signal);
  }

  /** Makes the client's kernel resolve the address; the name of the node whose MAC it learned. */
  async function whoAnswers(address: string, forget = true): Promise<string | undefined> {
    using netlink = Rtnetlink.open(asker.ns);
    const entry = () => netlink.neighbours({ device: 'eth0' }).find((one) => one.address === address);
    if (forget && entry()) netlink.deleteNeighbour({ device: 'eth0', address });
    await connectTcp({ ns: asker.ns, address, port: 81, timeoutMs: 150 }).catch(() => {});
    const mac = entry()?.mac;
    return nodes.find((node) => node.mac === mac)?.name;
  }

  const ownersOf = (address: string) =>
    nodes.filter(({ controller }) => controller?.owned.some((one) => one === address)).map(({ name }) => name);

  async function eventually(what: string, holds: () => Promise<boolean> | boolean, timeoutMs = 10_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!(await holds())) {
      assert.ok(Date.now() < deadline, `${what}: not after ${timeoutMs} ms`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  for (const address of VIRTUAL) {
    test(`${address}: the kernel of a client learns the elected node, and no other answers`, async () => {
      await eventually('one owner', () => ownersOf(address).length === 1);
      const [owner] = ownersOf(address);
      for (let i = 0; i < 5; i++) assert.equal(await whoAnswers(address), owner);
    });

    test(`${address}: a port that no Service has is refused, not lost`, async () => {
      await eventually('one owner', () => ownersOf(address).length === 1);
      const refused = connectTcp({ ns: asker.ns, address, port: 81, timeoutMs: 1000 });
      await assert.rejects(refused, { code: 'ECONNREFUSED' });
    });
  }

  test('the owner’s link is cut: another answers, and clients that know the old one are told', async () => {
    const address = VIRTUAL[0]!;
    const first = await whoAnswers(address);
    const owner = nodes.find(({ name }) => name === first)!;
    using bridge = Rtnetlink.open(owner.ns);
    bridge.setLink('eth0', { up: false });
    // The entry is kept: only an announcement can change it.
    await eventually('the client’s entry moves', async () => {
      const now = await whoAnswers(address, false);
      return now !== undefined && now !== first;
    });
    bridge.setLink('eth0', { up: true });
    await eventually('it comes back', async () => (await whoAnswers(address, false)) === first);
    await eventually('one owner', () => ownersOf(address).length === 1);
  });

  test('an agent ends and its kernel goes on: another says where the address is, until the agent is back', async () => {
    const [address, address6] = VIRTUAL as [IpAddress, IpAddress];
    for (const one of [address, address6]) {
      const first = await whoAnswers(one);
      const owner = nodes.find(({ name }) => name === first)!;
      owner.end.abort();
      owner.controller = undefined;
      await eventually('somebody answers', async () => (await whoAnswers(one)) !== undefined, 1000);
      assert.equal(await whoAnswers(one), first);
      assert.deepEqual(ownersOf(one), [], 'nobody took it over');
      assert.ok(nodes.reduce((sum, { controller }) => sum + (controller?.metrics.vouched ?? 0), 0) > 0);
      owner.end = new AbortController();
      await start(owner);
      await eventually('its own agent answers again', () => ownersOf(one).length === 1);
      assert.equal(await whoAnswers(one), first);
      assert.deepEqual(ownersOf(one), [first]);
    }
  });

  test('an agent ends with its node: another takes its addresses over', async () => {
    const address = VIRTUAL[0]!;
    const first = await whoAnswers(address);
    const owner = nodes.find(({ name }) => name === first)!;
    owner.end.abort();
    owner.controller = undefined;
    using netlink = Rtnetlink.open(owner.ns);
    netlink.setLink('eth0', { up: false });
    await eventually('another takes it', () => ownersOf(address).length === 1, 2000);
    assert.notEqual(await whoAnswers(address), first);
    assert.notEqual(await whoAnswers(address), undefined);
  });

  test('a Service that is deleted: nobody answers any more', async () => {
    const address = VIRTUAL[0]!;
    await client.delete('Service', { namespace: 'default', name: 'web' });
    await eventually('no owner', () => ownersOf(address).length === 0);
    assert.equal(await whoAnswers(address), undefined);
  });
}
