/** A pod's interface through the real shim: what ADD makes, CHECK sees and DEL takes away. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import type { AttachedPod } from '../../src/node/cni/hook.ts';
import { reservationsFromKernel } from '../../src/node/cni/pod-adoption.ts';
import { hostInterfaceName } from '../../src/node/cni/pod-link.ts';
import { executeShim, Lab, type LabNode, type LabPod, runInside, talk } from './cni-lab.ts';

const podLinks = (node: LabNode) => node.rtnl.links({ kind: 'veth' }).filter(({ name }) => name.startsWith('pw'));

function assertNothingLeft(node: LabNode): void {
  assert.deepEqual(podLinks(node), []);
  assert.deepEqual(node.rtnl.routes({ protocol: 113 }), []);
  assert.deepEqual(node.ipam.list(), []);
}

test('ADD, whole; then CHECK and DEL', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  const pod = node.newPod('a');
  const { exitCode, json } = await pod.cni('ADD', { dns: { nameservers: ['10.96.0.10'] } });
  assert.equal(exitCode, 0);
  const mtu = 1450;
  const hostInterface = hostInterfaceName(pod.containerId, 'eth0');
  assert.deepEqual(json, {
    cniVersion: '1.1.0',
    interfaces: [
      { name: hostInterface, mac: 'ee:ee:ee:ee:ee:ee', mtu },
      { name: 'eth0', mac: '0a:58:0a:f4:00:02', mtu, sandbox: pod.netnsPath },
    ],
    ips: [
      { address: '10.244.0.2/32', gateway: '169.254.1.1', interface: 1 },
      { address: 'fd00:10:244::2/128', gateway: 'fe80::1', interface: 1 },
    ],
    routes: [
      { dst: '0.0.0.0/0', gw: '169.254.1.1' },
      { dst: '::/0', gw: 'fe80::1' },
    ],
    dns: { nameservers: ['10.96.0.10'] },
  });
  using podRtnl = Rtnetlink.open(pod.ns);
  assert.equal(podRtnl.link('eth0')?.mtu, mtu);
  assert.equal(node.rtnl.link(hostInterface)?.mtu, mtu);
  assert.deepEqual(await pod.cni('CHECK', { prevResult: json }), { exitCode: 0, json: {} });
  assert.deepEqual(await pod.cni('DEL', { prevResult: json }), { exitCode: 0, json: {} });
  assertNothingLeft(node);
  assert.equal(podRtnl.link('eth0'), undefined);
  assert.deepEqual(await pod.cni('DEL'), { exitCode: 0, json: {} });
  assert.equal((await pod.cni('CHECK')).json.code, 3);
});

test('pods of one node talk with their own addresses, to each other, to the node and to its gateway', {
  timeout: 30_000,
}, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  const [a, b] = [await node.addPod('a'), await node.addPod('b')];
  const data = randomBytes(2 << 20);
  for (const [i, address] of b.addresses.entries()) {
    await b.echo(address);
    assert.deepEqual(await talk(a.ns, address, data), { seen: a.addresses[i], intact: true });
    assert.deepEqual(await talk(node.ns, address, data), { seen: node.addresses[i], intact: true });
    assert.deepEqual(await talk(b.ns, address, data), { seen: address, intact: true });
  }
  for (const address of ['169.254.1.1', ...node.addresses]) {
    assert.match(await runInside(a.ns, ['busybox', 'ping', '-c', '1', '-W', '2', address]), /1 packets received/);
  }
});

test('an address of the node that the kernel does not take as a source is done without', {
  timeout: 30_000,
}, async () => {
  await using lab = await Lab.create({ nodeAddresses: ['172.18.0.99', 'fd00:18::99'] });
  const [node] = lab.nodes as [LabNode];
  const pod = await node.addPod('a');
  for (const [i, address] of pod.addresses.entries()) {
    await pod.echo(address);
    assert.deepEqual(await talk(node.ns, address, Buffer.from('x')), { seen: node.addresses[i], intact: true });
  }
});

test('a pod cannot send from an address that is not its own', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  const [a, b] = [await node.addPod('a'), await node.addPod('b')];
  const ping = ['busybox', 'ping', '-c', '1', '-W', '1'] as const;
  for (const [i, own] of a.addresses.entries()) {
    const forged = own.includes(':') ? own.replace(/[0-9a-f]+$/, '77') : own.replace(/\d+$/, '77');
    const prefix = own.includes(':') ? '128' : '32';
    await runInside(a.ns, ['ip', 'addr', 'add', `${forged}/${prefix}`, 'dev', 'eth0', ...(i ? ['nodad'] : [])]);
    await assert.rejects(runInside(a.ns, [...ping, '-I', forged, b.addresses[i]!]), /0 packets received/);
    assert.match(await runInside(a.ns, [...ping, '-I', own, b.addresses[i]!]), /1 packets received/);
  }
});

test('the policy is in force before the first packet, and goes after the last', { timeout: 30_000 }, async () => {
  const log: string[] = [];
  const gate = Promise.withResolvers<void>();
  const called = Promise.withResolvers<AttachedPod>();
  const hooks = [
    {
      attached: async (pod: AttachedPod) => {
        log.push(`attached ${pod.namespace}/${pod.name} ${pod.uid} ${pod.ips.join()}`);
        called.resolve(pod);
        await gate.promise;
      },
      detached: async (pod: AttachedPod) => void log.push(`detached ${pod.name}`),
    },
    { attached: async () => void log.push('second'), detached: async () => void log.push('second detached') },
  ];
  await using lab = await Lab.create({ hooks });
  const [node] = lab.nodes as [LabNode];
  const pod = node.newPod('a');
  const answer = pod.cni('ADD');
  const { hostInterface } = await called.promise;
  using podRtnl = Rtnetlink.open(pod.ns);
  assert.equal(node.rtnl.link(hostInterface)?.up, false);
  assert.equal(podRtnl.link('eth0')?.carrier, false);
  assert.equal(podRtnl.addresses({ device: 'eth0' }).length, 2);
  assert.deepEqual(node.rtnl.routes({ protocol: 113 }), []);
  gate.resolve();
  assert.equal((await answer).exitCode, 0);
  assert.equal(node.rtnl.link(hostInterface)?.up, true);
  await pod.cni('DEL');
  assert.deepEqual(log, [
    'attached default/a uid-a 10.244.0.2,fd00:10:244::2',
    'second',
    'second detached',
    'detached a',
  ]);
});

test('a hook that fails undoes everything; one that fails at the end keeps nobody', { timeout: 30_000 }, async () => {
  let fail = true;
  const attached = async () => {
    if (fail) throw new Error('no policy today');
  };
  const detached = () => Promise.reject(new Error('no policy ever'));
  await using lab = await Lab.create({ hooks: [{ attached, detached }] });
  const [node] = lab.nodes as [LabNode];
  const pod = node.newPod('a');
  const { exitCode, json } = await pod.cni('ADD');
  assert.deepEqual([exitCode, json.code, json.msg], [1, 100, 'no policy today']);
  assertNothingLeft(node);
  fail = false;
  assert.equal((await pod.cni('ADD')).exitCode, 0);
  assert.equal((await pod.cni('DEL')).exitCode, 0);
  assertNothingLeft(node);
});

const refusals: [string, (pod: LabPod) => ReturnType<LabPod['cni']>, number, RegExp][] = [
  [
    "the node's own namespace",
    (pod) => pod.cni('ADD', {}, { CNI_NETNS: join(pod.node.folder, 'netns') }),
    4,
    /own network/,
  ],
  ['a file that is no namespace', (pod) => pod.cni('ADD', {}, { CNI_NETNS: '/etc/passwd' }), 4, /cannot be opened/],
  ['a namespace that is gone', (pod) => pod.cni('ADD', {}, { CNI_NETNS: '/run/nowhere' }), 4, /cannot be opened/],
  [
    'an interface that is there',
    async (pod) => {
      await runInside(pod.ns, ['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'x']);
      return await pod.cni('ADD');
    },
    100,
    /has an interface eth0 already/,
  ],
  ['an unknown version', (pod) => pod.cni('ADD', { cniVersion: '2.0.0' }), 1, /2\.0\.0/],
];
test('what cannot be added is refused, and nothing is left', { timeout: 30_000 }, async (context) => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  for (const [what, add, code, message] of refusals) {
    await context.test(what, async () => {
      const { exitCode, json } = await add(node.newPod(what.replaceAll(/[^a-z]/g, '')));
      assert.deepEqual([exitCode, json.code], [1, code]);
      assert.match(json.msg ?? '', message);
      assertNothingLeft(node);
    });
  }
});

test('a full podCIDR says so, in ADD and in STATUS', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create({ podCidrs: () => ['10.244.9.0/30'] });
  const [node] = lab.nodes as [LabNode];
  const first = await node.addPod('a');
  const message = 'no free address in 10.244.9.0/30 (1 of 1 in use)';
  const { json } = await node.newPod('b').cni('ADD');
  assert.deepEqual([json.code, json.msg], [100, message]);
  assert.equal((await first.cni('STATUS')).json.msg, message);
  await first.cni('DEL');
  assert.deepEqual(await first.cni('STATUS'), { exitCode: 0, json: {} });
});

const damages: [string, readonly string[] | 'node', (host: string) => string, RegExp][] = [
  ['no interface', [], () => 'ip link del eth0', /no interface/],
  ['interface down', [], () => 'ip link set eth0 down', /eth0 is down/],
  ['no address', [], () => 'ip addr del 10.244.0.2/32 dev eth0', /lost its address 10\.244\.0\.2/],
  ['no IPv6 address', [], () => 'ip addr del fd00:10:244::2/128 dev eth0', /lost its address fd00/],
  ['another MAC', [], () => 'ip link set eth0 address 02:00:00:00:00:01', /another MAC/],
  ['no default route', [], () => 'ip route del default', /no default route via 169/],
  ['no gateway neighbour', [], () => 'ip neigh del fe80::1 dev eth0', /no neighbour entry for fe80::1/],
  ['host end down', 'node', (host) => `ip link set ${host} down`, /is down/],
  [
    'no neighbour on the node',
    'node',
    (host) => `ip neigh del 10.244.0.2 dev ${host}`,
    /no neighbour entry for 10\.244/,
  ],
];
for (const [what, where, damage, message] of damages) {
  test(`CHECK sees: ${what}`, { timeout: 30_000 }, async () => {
    await using lab = await Lab.create();
    const [node] = lab.nodes as [LabNode];
    const pod = await node.addPod('a');
    const command = damage(hostInterfaceName(pod.containerId, 'eth0')).split(' ') as [string, ...string[]];
    await runInside(where === 'node' ? node.ns : pod.ns, command);
    const { exitCode, json } = await pod.cni('CHECK');
    assert.deepEqual([exitCode, json.code], [1, 101]);
    assert.match(json.msg ?? '', message);
    assert.equal((await pod.cni('DEL')).exitCode, 0);
    assertNothingLeft(node);
  });
}

test("CHECK sees an address that is another container's", { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const pod = await lab.nodes[0]!.addPod('a');
  const prevResult = {
    interfaces: [{ name: 'eth0', mac: '', sandbox: '/x' }],
    ips: [{ address: '10.244.0.99/32', interface: 0 }],
  };
  assert.match((await pod.cni('CHECK', { prevResult })).json.msg ?? '', /10\.244\.0\.99\/32 is not reserved/);
});

test('a route to a pod that something else deletes comes back', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  await node.addPod('a');
  await runInside(node.ns, ['ip', 'route', 'del', '10.244.0.2/32']);
  await runInside(node.ns, ['ip', '-6', 'route', 'del', 'fd00:10:244::2/128']);
  for (let i = 0; i < 300 && node.rtnl.routes({ protocol: 113 }).length < 2; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.equal(node.rtnl.routes({ protocol: 113 }).length, 2);
});

test('GC keeps what is listed and removes the rest', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  const pods = [await node.addPod('a'), await node.addPod('b'), await node.addPod('c')] as const;
  const valid = [{ containerID: pods[1].containerId, ifname: 'eth0' }];
  const answer = await pods[0].cni(
    'GC',
    { 'cni.dev/valid-attachments': valid },
    { CNI_CONTAINERID: '', CNI_NETNS: '' },
  );
  assert.deepEqual(answer, { exitCode: 0, json: {} });
  assert.deepEqual(
    node.ipam.list().map(({ podName }) => podName),
    ['b'],
  );
  assert.equal(podLinks(node).length, 1);
  assert.equal((await pods[1].cni('CHECK')).exitCode, 0);
});

test('reconcile frees what the runtime does not know any more', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  const [a, b] = [await node.addPod('a'), await node.addPod('b')];
  assert.equal(await node.network.reconcile([b.containerId]), 0);
  assert.equal(await node.network.reconcile([b.containerId], 0), 1);
  assert.deepEqual(
    node.ipam.list().map(({ podName }) => podName),
    ['b'],
  );
  assert.equal((await a.cni('DEL')).exitCode, 0);
});

test('DEL works when the namespace is gone, and frees the address', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  const pod = await node.addPod('a');
  pod.ns.close();
  NetworkNamespace.delete(pod.netnsPath);
  assert.deepEqual(await pod.cni('DEL'), { exitCode: 0, json: {} });
  assert.deepEqual(await pod.cni('DEL', {}, { CNI_NETNS: '' }), { exitCode: 0, json: {} });
  assertNothingLeft(node);
});

test('ADD again gives the same again, and mends what is broken', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  const pod = node.newPod('a');
  const first = await pod.cni('ADD');
  const ifindex = podLinks(node)[0]!.ifindex;
  assert.deepEqual(await pod.cni('ADD'), first);
  assert.equal(podLinks(node)[0]!.ifindex, ifindex);
  await runInside(pod.ns, ['ip', 'route', 'del', 'default']);
  assert.deepEqual(await pod.cni('ADD'), first);
  assert.equal((await pod.cni('CHECK')).exitCode, 0);
  await pod.cni('DEL');
  assertNothingLeft(node);
});

test('two interfaces in one pod', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create({ families: [4] });
  const [node] = lab.nodes as [LabNode];
  const pod = await node.addPod('a');
  // A second default route would collide, as with any plugin: what fails leaves the first interface alone.
  const second = await pod.cni('ADD', {}, { CNI_IFNAME: 'net1' });
  assert.equal(second.exitCode, 1);
  assert.equal(node.ipam.list().length, 1);
  assert.equal((await pod.cni('CHECK')).exitCode, 0);
});

test('a hundred at once: distinct addresses, all of them work; a hundred gone at once', {
  timeout: 60_000,
}, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  const pods = Array.from({ length: 100 }, (_, i) => node.newPod(`p${i}`));
  const answers = await Promise.all(pods.map((pod) => pod.cni('ADD')));
  for (const { exitCode, json } of answers) assert.equal(exitCode, 0, JSON.stringify(json));
  const addresses = answers.flatMap(({ json }) => json.ips!.map(({ address }) => address));
  assert.equal(new Set(addresses).size, 200);
  assert.equal(podLinks(node).length, 100);
  const checks = await Promise.all(pods.map((pod) => pod.cni('CHECK')));
  assert.ok(checks.every(({ exitCode }) => exitCode === 0));
  const target = addresses[199 - 1]!.split('/')[0]!;
  await pods[99]!.echo(target);
  for (const pod of pods.slice(0, 99)) assert.ok((await talk(pod.ns, target, Buffer.from('hello'))).intact);
  const removals = await Promise.all(pods.map((pod) => pod.cni('DEL')));
  assert.ok(removals.every(({ exitCode }) => exitCode === 0));
  assertNothingLeft(node);
});

test('ADD, DEL and CHECK of one container at once are done one after the other', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  const pod = node.newPod('a');
  for (let round = 0; round < 3; round++) {
    const answers = await Promise.all([pod.cni('ADD'), pod.cni('DEL'), pod.cni('DEL'), pod.cni('CHECK')]);
    assert.ok(
      answers.every(({ json }) => json.code === undefined || [3, 101].includes(json.code)),
      JSON.stringify(answers),
    );
    assert.equal((await pod.cni('DEL')).exitCode, 0);
    assertNothingLeft(node);
  }
});

test('what runs can be told from the kernel alone', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create();
  const [node] = lab.nodes as [LabNode];
  await node.addPod('a');
  await node.addPod('b');
  const strip = (list: readonly { containerId: string; addresses: readonly string[]; podName: string }[]) =>
    list.map(({ containerId, addresses, podName }) => ({ containerId, addresses, podName }));
  assert.deepEqual(strip(reservationsFromKernel(node.rtnl)), strip(node.ipam.list()));
});

test('older versions of the protocol are spoken', { timeout: 30_000 }, async () => {
  await using lab = await Lab.create({ families: [4] });
  const [node] = lab.nodes as [LabNode];
  for (const cniVersion of ['0.3.0', '0.3.1', '0.4.0', '1.0.0'] as const) {
    const pod = node.newPod(`v${cniVersion}`);
    const { json } = await pod.cni('ADD', { cniVersion });
    assert.equal(json.cniVersion, cniVersion);
    assert.equal(json.ips?.[0]?.version, cniVersion.startsWith('0.') ? '4' : undefined);
    assert.equal((await pod.cni('DEL', { cniVersion })).exitCode, 0);
  }
  const path = join(lab.binDir, 'podwire');
  const check = await executeShim(path, {
    config: { cniVersion: '0.3.1', name: 'n', socket: node.socketPath },
    environment: { CNI_COMMAND: 'CHECK', CNI_CONTAINERID: 'c', CNI_IFNAME: 'eth0', CNI_NETNS: '/proc/self/ns/net' },
  });
  assert.equal(check.json.code, 1);
});
