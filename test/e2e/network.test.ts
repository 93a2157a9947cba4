/** The flat network: every pod reaches every other on any node with its own address, and nothing leaves the machine. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, test } from 'node:test';
import type { Pod } from '../../src/kube/types.ts';
import { bindUdp, listenTcp } from '../../src/linux/sockets.ts';
import {
  addressOf,
  allReady,
  applyAll,
  curl,
  eventually,
  runIn,
  sleeper,
  startCluster,
  url,
  whoAmI,
} from './fixture.ts';

const cluster = await startCluster('network', { nodes: 3 });
const NAMES = ['one', 'two', 'three', 'three-b'];
await applyAll(cluster, [
  ...NAMES.map((name, i) => whoAmI(name, { node: cluster.nodes[Math.min(i, 2)] })),
  whoAmI('on-host', { node: 'node-2', port: 8088, spec: { hostNetwork: true } }),
  sleeper('host-client', { node: 'node-1', spec: { hostNetwork: true } }),
]);
const pods = await allReady(cluster, [...NAMES, 'on-host', 'host-client']);
const ip = new Map(pods.map((pod) => [pod.metadata.name, addressOf(pod)]));
const nodeIp = new Map(cluster.description.nodes.map((node) => [node.name, node.addresses[0]!]));

test('every pod has its own address out of the range of its node', async () => {
  const { items: nodes } = await cluster.client.list('Node');
  assert.equal(new Set(nodes.map((node) => node.spec.podCIDR)).size, 3);
  for (const pod of pods.filter((one) => !one.spec.hostNetwork)) {
    const [network] = nodes.find((node) => node.metadata.name === pod.spec.nodeName)!.spec.podCIDR!.split('.0/24');
    assert.ok(addressOf(pod).startsWith(`${network}.`), `${addressOf(pod)} in ${network}.0/24`);
  }
  assert.equal(ip.get('on-host'), nodeIp.get('node-2'), 'a pod with hostNetwork has the address of its node');
});

describe('without NAT: the server sees the address of its client', () => {
  for (const from of NAMES) {
    for (const to of NAMES) {
      test(`${from} -> ${to}`, async () => {
        assert.equal(await curl(cluster, from, url(ip.get(to)!)), `${ip.get(from)} ${to}`);
      });
    }
  }
  test('a pod -> a node', async () => {
    const answer = await curl(cluster, 'one', url(nodeIp.get('node-2')!, 8088));
    assert.equal(answer.split(' ')[0], ip.get('one'));
  });
  for (const to of NAMES) {
    test(`a node -> ${to}`, async () => {
      const { stdout, stderr } = await runIn(cluster, 'node-1', ['curl', '-sS', '--max-time', '5', url(ip.get(to)!)]);
      const [source, name] = stdout.trim().split(' ');
      assert.equal(name, to, stderr);
      const { items: nodes } = await cluster.client.list('Node');
      const own = nodes.find((node) => node.metadata.name === 'node-1')!.spec.podCIDR!.replace('.0/24', '.');
      assert.ok(source === nodeIp.get('node-1') || source!.startsWith(own), `node-1 came as ${source}`);
    });
  }
  test('out of the cluster a pod goes with the address of its node: nobody there has a route to pods', async () => {
    using outside = await cluster.openNamespace('outside');
    const server = createServer((socket) => void socket.end(`${socket.remoteAddress}`));
    server.listen({ fd: listenTcp({ ns: outside, address: '0.0.0.0', port: 8080 }) });
    try {
      const { stdout: own } = await runIn(cluster, 'outside', ['hostname', '-I']);
      const { stdout } = await cluster.exec('two', `echo | nc -w 3 ${own.trim()} 8080`);
      assert.equal(stdout, nodeIp.get('node-2'));
    } finally {
      server.close();
    }
  });
  test('a pod with hostNetwork -> a pod on another node', async () => {
    assert.match(await curl(cluster, 'host-client', url(ip.get('three')!)), / three$/);
  });
});

describe('10 MB arrive whole', () => {
  for (const [from, to] of [
    ['three', 'three-b'],
    ['one', 'three'],
  ] as const) {
    test(`${from} -> ${to}`, async () => {
      const file = '/usr/share/nginx/html/big';
      const made = await cluster.exec(
        to,
        `dd if=/dev/urandom of=${file} bs=1M count=10 2>/dev/null; sha256sum < ${file}`,
      );
      const got = await cluster.exec(from, `curl -sS --max-time 20 ${url(ip.get(to)!)}big | sha256sum`);
      assert.equal(got.stdout, made.stdout);
    });
  }
});

describe('MTU: 50 bytes of the underlay are for VXLAN', () => {
  test('of the device', async () => {
    assert.match((await cluster.exec('one', 'ip link show eth0')).stdout, /mtu 1450/);
  });
  test('the largest packet passes, and a larger one in fragments', async () => {
    // 8 bytes of ICMP and 20 of IP
    const ping = (size: number) =>
      cluster.exec('one', `ping -c 1 -W 2 -s ${size} ${ip.get('three')}`, { timeoutMs: 10_000 });
    const largest = await ping(1450 - 28);
    assert.equal(largest.exitCode, 0, `${largest.stdout} ${largest.stderr}`);
    assert.equal((await ping(8000)).exitCode, 0);
  });
});

describe('UDP', () => {
  for (const [from, to] of [
    ['three', 'three-b'],
    ['one', 'two'],
  ] as const) {
    test(`${from} -> ${to}: there and back, small and broken up`, async () => {
      using clientSide = await cluster.openNamespace(from);
      using serverSide = await cluster.openNamespace(to);
      const server = createSocket('udp4');
      const client = createSocket('udp4');
      try {
        server.on('message', (message, peer) =>
          server.send(`${peer.address} ${message.length}`, peer.port, peer.address),
        );
        server.bind({ fd: bindUdp({ ns: serverSide, address: '0.0.0.0', port: 5353 }) });
        client.bind({ fd: bindUdp({ ns: clientSide, address: '0.0.0.0', port: 0 }) });
        for (const size of [1, 1422, 9000]) {
          const answer = once(client, 'message', { signal: AbortSignal.timeout(5000) });
          client.send(Buffer.alloc(size, 'x'), 5353, ip.get(to)!);
          assert.equal(String((await answer)[0]), `${ip.get(from)} ${size}`);
        }
      } finally {
        server.close();
        client.close();
      }
    });
  }
});

describe('isolation: at once, there is no way out of the cluster', () => {
  // Addresses that documentation is written with (RFC 5737): nobody has them.
  for (const from of ['one', { node: 'node-1' }, 'outside'] as const) {
    for (const to of ['192.0.2.1:80', '198.51.100.1:443']) {
      test(`${JSON.stringify(from)} -> ${to}`, async () => {
        const result = await cluster.connect(from, to, { timeoutMs: 3000 });
        assert.equal(result.outcome, 'unreachable');
      });
    }
  }
  test('the name of a machine elsewhere is not resolved', async () => {
    const result = await cluster.exec('one', ['curl', '-sS', '--max-time', '5', 'http://registry.example.org']);
    assert.notEqual(result.exitCode, 0);
    assert.match(result.stderr, /Could not resolve|Resolving timed out/);
  });
});

describe('what something else changed is put right again', () => {
  const works = async () => (await cluster.connect('one', `${ip.get('three')}:80`)).outcome;
  const broken: Record<string, (three: Pod) => string[]> = {
    'the route to another node is deleted': (three) => [
      'ip',
      'route',
      'del',
      addressOf(three).replace(/\.\d+$/, '.0/24'),
    ],
    'the VXLAN device is set down': () => ['sh', '-c', 'ip link set $(ip -o link show type vxlan | cut -d: -f2) down'],
    'the VXLAN device is deleted': () => ['sh', '-c', 'ip link del $(ip -o link show type vxlan | cut -d: -f2)'],
  };
  for (const [what, command] of Object.entries(broken)) {
    test(what, async () => {
      const done = await runIn(cluster, 'node-1', command(pods[2]!));
      assert.equal(done.exitCode, 0, done.stderr);
      await eventually('packets pass again', works, (outcome) => outcome === 'connected', 30_000);
      assert.equal(await curl(cluster, 'one', url(ip.get('three')!)), `${ip.get('one')} three`);
    });
  }
});
