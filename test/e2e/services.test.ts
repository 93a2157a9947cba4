/** Services as pods, nodes and clients outside meet them: addresses, names, ports, and endpoints that come and go. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import type { EndpointSlice, Pod } from '../../src/kube/types.ts';
import { bindUdp } from '../../src/linux/sockets.ts';
import {
  addressOf,
  allReady,
  applyAll,
  curl,
  eventually,
  kubectl,
  pod,
  runIn,
  service,
  sleeper,
  startCluster,
  url,
  whoAmI,
} from './fixture.ts';

const cluster = await startCluster('services', { nodes: 3 });
const [node1, node2, node3] = cluster.nodes as [string, string, string];
const web = { labels: { app: 'web' } };
await applyAll(cluster, [
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'elsewhere' } },
  service('web', { type: 'NodePort', ports: [{ name: 'http', port: 8000, targetPort: 80 }] }),
  service('empty', {}),
  service('headless', { clusterIP: 'None', selector: { app: 'web' }, ports: [{ name: 'http', port: 80 }] }),
  service('gate', {}),
]);
await applyAll(cluster, [
  whoAmI('web-1', { node: node1, ...web }),
  whoAmI('web-2', { node: node2, ...web }),
  whoAmI('gated', {
    node: node2,
    labels: { app: 'gate' },
    container: {
      readinessProbe: { exec: { command: ['test', '-e', '/tmp/open'] }, periodSeconds: 1, failureThreshold: 1 },
    },
  }),
  sleeper('client', { node: node1 }),
  sleeper('client-3', { node: node3 }),
  sleeper('finder', {
    node: node3,
    container: { image: 'registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7', command: ['sleep', '3600'] },
  }),
]);
const [web1, web2, client, client3] = (await allReady(cluster, ['web-1', 'web-2', 'client', 'client-3', 'finder'])) as [
  Pod,
  Pod,
  Pod,
  Pod,
];
const serviceOf = (name: string) => cluster.client.get('Service', { namespace: 'default', name });
const { spec } = await serviceOf('web');
const clusterIp = spec.clusterIP!;
const address = url(clusterIp, 8000);

/** The different answers of some requests in a row. */
async function answers(from: string, target: string, requests = 30): Promise<string[]> {
  const script = `for i in $(seq ${requests}); do curl -sS --max-time 3 ${target} || echo FAILED; done | sort -u`;
  return (await cluster.exec(from, script)).stdout.trim().split('\n');
}

/** The ready addresses in the slices of a Service. */
async function readyAddresses(name: string): Promise<string[]> {
  const { items } = await cluster.client.list('EndpointSlice', {
    namespace: 'default',
    labelSelector: `kubernetes.io/service-name=${name}`,
  });
  return items
    .flatMap((slice: EndpointSlice) =>
      (slice.endpoints ?? []).filter((one) => one.conditions?.ready).flatMap((one) => one.addresses),
    )
    .sort();
}

describe('ClusterIP', () => {
  for (const [from, own] of [
    ['client', client],
    ['client-3', client3],
  ] as const) {
    test(`from ${from}: every endpoint answers and sees the client's own address`, async () => {
      const [source] = [addressOf(own)];
      assert.deepEqual(await answers(from, address), [`${source} web-1`, `${source} web-2`]);
    });
  }
  for (const node of cluster.nodes) {
    test(`from ${node}`, async () => {
      const seen = new Set<string>();
      await eventually(
        'both endpoints answer',
        async () => {
          const { stdout } = await runIn(cluster, node, ['curl', '-sS', '--max-time', '3', address]);
          seen.add(stdout.trim().split(' ')[1] ?? '');
          return [...seen].sort().join(' ');
        },
        (got) => got === 'web-1 web-2',
      );
    });
  }
  test('hairpin: an endpoint reaches itself through its own Service', async () => {
    const got = await answers('web-1', address);
    assert.deepEqual(got.map((line) => line.split(' ')[1]).sort(), ['web-1', 'web-2']);
  });
  test('the API server is kubernetes.default', async () => {
    const { stdout } = await cluster.exec('client', 'curl -sk --max-time 5 https://kubernetes.default.svc/version');
    assert.match(stdout, /"gitVersion"/);
  });
});

describe('without endpoints a connection is refused at once', () => {
  test('from a pod, a node, and by a NodePort from outside', async () => {
    assert.equal((await cluster.connect('client', 'service/empty:80', { timeoutMs: 3000 })).outcome, 'refused');
    assert.equal((await cluster.connect({ node: node2 }, 'service/empty:80', { timeoutMs: 3000 })).outcome, 'refused');
    await applyAll(cluster, [service('empty', { type: 'NodePort', ports: [{ port: 80, nodePort: 31999 }] })]);
    await eventually(
      'the NodePort refuses',
      async () => (await cluster.connect('outside', '172.18.0.2:31999', { timeoutMs: 3000 })).outcome,
      (outcome) => outcome === 'refused',
    );
  });
  test('a port that the Service does not have', async () => {
    assert.equal((await cluster.connect('client', `${clusterIp}:81`, { timeoutMs: 1000 })).outcome, 'refused');
  });
});

test('NodePort: through every node, to endpoints on any, from outside, from nodes and from pods', async () => {
  for (const { name, addresses } of cluster.description.nodes) {
    const target = url(addresses[0]!, spec.ports![0]!.nodePort!);
    const seen = new Set<string>();
    await eventually(
      `both endpoints answer through ${name}`,
      async () => {
        const { stdout, stderr } = await runIn(cluster, 'outside', ['curl', '-sS', '--max-time', '3', target]);
        assert.match(stdout, / web-/, stderr);
        seen.add(stdout.trim().split(' ')[1] ?? '');
        return seen.size;
      },
      (size) => size === 2,
    );
    assert.match(await curl(cluster, 'client', target), / web-/);
    assert.match((await runIn(cluster, node3, ['curl', '-sS', '--max-time', '3', target])).stdout, / web-/);
  }
});

test('readiness opens and closes the Service', async () => {
  await cluster.waitFor('Pod', { namespace: 'default', name: 'gated' }, (one) => one.status?.phase === 'Running');
  assert.deepEqual(await readyAddresses('gate'), []);
  assert.equal((await cluster.connect('client', 'service/gate:80')).outcome, 'refused');
  await cluster.exec('gated', ['touch', '/tmp/open']);
  const outcome = async () => (await cluster.connect('client', 'service/gate:80')).outcome;
  await eventually('the Service answers', outcome, (got) => got === 'connected');
  await cluster.exec('gated', ['rm', '/tmp/open']);
  await eventually('the Service refuses again', outcome, (got) => got === 'refused');
  assert.deepEqual(await readyAddresses('gate'), []);
});

describe('DNS', () => {
  const lookUp = async (args: string) =>
    (await cluster.exec('finder', `dig +short ${args}`)).stdout.trim().split('\n').sort();
  test('a Service by its short, longer and full name', async () => {
    for (const name of ['web', 'web.default', 'web.default.svc', 'web.default.svc.cluster.local']) {
      assert.match(await curl(cluster, 'client', `http://${name}:8000`), / web-/, name);
    }
  });
  test('a headless Service has the addresses of its pods', async () => {
    const both = [addressOf(web1), addressOf(web2)].sort();
    assert.deepEqual(await lookUp('headless.default.svc.cluster.local'), both);
    assert.match(await curl(cluster, 'client', 'http://headless'), / web-/);
  });
  test('SRV', async () => {
    assert.deepEqual(await lookUp('-t SRV _http._tcp.web.default.svc.cluster.local'), [
      '0 100 8000 web.default.svc.cluster.local.',
    ]);
    const headless = await lookUp('-t SRV _http._tcp.headless.default.svc.cluster.local');
    assert.equal(headless.length, 2);
    for (const line of headless) assert.match(line, /^0 \d+ 80 \S+\.headless\.default\.svc\.cluster\.local\.$/);
  });
  test('PTR', async () => {
    assert.deepEqual(await lookUp(`-x ${clusterIp}`), ['web.default.svc.cluster.local.']);
  });
  test('no such name is NXDOMAIN, no such record is an empty answer; also over TCP', async () => {
    const dig = async (args: string) => (await cluster.exec('finder', `dig ${args}`)).stdout;
    assert.match(await dig('nothing.default.svc.cluster.local'), /status: NXDOMAIN/);
    assert.match(await dig('-t AAAA web.default.svc.cluster.local'), /status: NOERROR[\s\S]*ANSWER: 0/);
    assert.match(await dig('+tcp web.default.svc.cluster.local'), new RegExp(`IN\\s+A\\s+${clusterIp}`));
  });
  test('a new Service has its name at once, a deleted one loses it', async () => {
    await applyAll(cluster, [service('passing', {})]);
    const { spec: passing } = await serviceOf('passing');
    await eventually(
      'the name',
      () => lookUp('passing.default.svc.cluster.local'),
      (got) => got[0] === passing.clusterIP,
    );
    await cluster.client.delete('Service', { namespace: 'default', name: 'passing' });
    await eventually(
      'no name',
      () => lookUp('passing.default.svc.cluster.local'),
      (got) => got[0] === '',
    );
  });
});

test('environment variables of the Services that existed when the container started', async () => {
  const env = (await cluster.exec('client', ['env'])).stdout;
  for (const line of [
    `WEB_SERVICE_HOST=${clusterIp}`,
    'WEB_SERVICE_PORT=8000',
    'WEB_SERVICE_PORT_HTTP=8000',
    `WEB_PORT=tcp://${clusterIp}:8000`,
    `WEB_PORT_8000_TCP=tcp://${clusterIp}:8000`,
    'WEB_PORT_8000_TCP_PROTO=tcp',
    'WEB_PORT_8000_TCP_PORT=8000',
    `WEB_PORT_8000_TCP_ADDR=${clusterIp}`,
    'KUBERNETES_SERVICE_HOST=10.96.0.1',
    'KUBERNETES_SERVICE_PORT=443',
  ])
    assert.ok(env.split('\n').includes(line), `${line} in\n${env}`);
  assert.doesNotMatch(env, /HEADLESS_SERVICE_HOST/, 'a headless Service has no address to tell');
});

describe('a Deployment under a client that never stops asking', () => {
  const deployment = (version: string) => ({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'app' },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: 'app' } },
      template: {
        metadata: { labels: { app: 'app' } },
        spec: {
          containers: [
            {
              name: 'main',
              image: 'nginx',
              env: [{ name: 'VERSION', value: version }],
              command: [
                'sh',
                '-c',
                "echo $VERSION-$(hostname) > /usr/share/nginx/html/index.html; exec nginx -g 'daemon off;'",
              ],
              readinessProbe: { httpGet: { port: 80 }, periodSeconds: 1 },
            },
          ],
        },
      },
    },
  });
  /** Asks until the file appears; the answers. Every request is a new connection. */
  const loop = (file: string) =>
    cluster.exec(
      'client',
      `for i in $(seq 3000); do curl -sS --max-time 3 http://app 2>&1 || echo FAILED; test -e ${file} && break; done`,
      { timeoutMs: 60_000 },
    );
  const rollout = () => kubectl(cluster.kubeconfig, ['rollout', 'status', 'deployment/app', '--timeout=60s']);

  test('a rolling update fails no request', async () => {
    await applyAll(cluster, [service('app', {}), deployment('v1')]);
    assert.equal((await rollout()).exitCode, 0);
    await eventually(
      'it answers',
      () => cluster.exec('client', 'curl -sS http://app'),
      (got) => got.stdout.startsWith('v1-'),
    );
    const asking = loop('/tmp/updated');
    await applyAll(cluster, [deployment('v2')]);
    const status = await rollout();
    assert.equal(status.exitCode, 0, status.stderr);
    await eventually(
      'only v2',
      () => answers('client', 'http://app', 20),
      (got) => got.every((one) => one.startsWith('v2-')),
    );
    await cluster.exec('client', ['touch', '/tmp/updated']);
    const lines = (await asking).stdout.trim().split('\n');
    const bad = lines.filter((line) => !/^v[12]-app-/.test(line));
    assert.deepEqual(bad, [], `of ${lines.length} requests`);
    assert.ok(lines.some((line) => line.startsWith('v1')) && lines.some((line) => line.startsWith('v2')));
  });

  test('a deleted pod is replaced and fails no request', async () => {
    const list = () => cluster.client.list('Pod', { namespace: 'default', labelSelector: 'app=app' });
    const before = (await list()).items.filter((one) => !one.metadata.deletionTimestamp);
    assert.equal(before.length, 3);
    const asking = loop('/tmp/replaced');
    await cluster.client.delete('Pod', { namespace: 'default', name: before[0]!.metadata.name });
    const after = await eventually(
      'three others are ready',
      async () => (await list()).items,
      (items) => {
        const ready = items.filter(
          (one) =>
            !one.metadata.deletionTimestamp &&
            one.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True'),
        );
        return items.length === 3 && ready.length === 3;
      },
    );
    const fresh = after.find((one) => !before.some((old) => old.metadata.uid === one.metadata.uid))!;
    await eventually(
      'it gets its share',
      () => answers('client', 'http://app'),
      (got) => got.includes(`v2-${fresh.metadata.name}`),
    );
    await cluster.exec('client', ['touch', '/tmp/replaced']);
    const lines = (await asking).stdout.trim().split('\n');
    assert.deepEqual(
      lines.filter((line) => !line.startsWith('v2-app-')),
      [],
      `of ${lines.length} requests`,
    );
  });

  test('scaled to none it refuses at once, scaled up it answers', async () => {
    const scale = (replicas: number) =>
      kubectl(cluster.kubeconfig, ['scale', 'deployment/app', `--replicas=${replicas}`]);
    const outcome = async () => (await cluster.connect('client', 'service/app:80')).outcome;
    await scale(0);
    await eventually('refused', outcome, (got) => got === 'refused');
    await scale(2);
    await eventually('connected', outcome, (got) => got === 'connected');
  });
});

test('UDP and named target ports', async () => {
  await applyAll(cluster, [
    pod('dns-like', {
      node: node2,
      labels: { app: 'dns-like' },
      container: {
        image: 'nginx',
        command: ['sleep', '3600'],
        ports: [{ name: 'dns', containerPort: 53, protocol: 'UDP' }],
      },
    }),
    service('dns-like', { ports: [{ name: 'dns', port: 5300, protocol: 'UDP', targetPort: 'dns' }] }),
  ]);
  await cluster.waitForPod('dns-like');
  using serverSide = await cluster.openNamespace('dns-like');
  using clientSide = await cluster.openNamespace('client');
  const server = createSocket('udp4');
  const asking = createSocket('udp4');
  try {
    server.on('message', (_, peer) => server.send(peer.address, peer.port, peer.address));
    server.bind({ fd: bindUdp({ ns: serverSide, address: '0.0.0.0', port: 53 }) });
    asking.bind({ fd: bindUdp({ ns: clientSide, address: '0.0.0.0', port: 0 }) });
    const { spec: udp } = await serviceOf('dns-like');
    const [answer, peer] = await eventually(
      'an answer',
      async () => {
        const got = once(asking, 'message', { signal: AbortSignal.timeout(300) });
        asking.send('who am I?', 5300, udp.clusterIP!);
        return got;
      },
      () => true,
    );
    assert.equal(String(answer), addressOf(client));
    assert.equal(peer.address, udp.clusterIP, 'the answer comes from the Service');
  } finally {
    server.close();
    asking.close();
  }
});
