/** NetworkPolicy with real pods on several nodes: who is let in, who is let out, and from which moment on. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { probeTcp } from '../../src/cluster/probe.ts';
import type { Pod } from '../../src/kube/types.ts';
import { addressOf, allReady, applyAll, eventually, pod, service, sleeper, startCluster, whoAmI } from './fixture.ts';

const cluster = await startCluster('policy', { nodes: 3 });
const [node1, node2, node3] = cluster.nodes as [string, string, string];
await applyAll(cluster, [
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'friends', labels: { team: 'friends' } } },
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'strangers' } },
  service('server', {
    selector: { app: 'server' },
    ports: [
      { name: 'a', port: 80 },
      { name: 'b', port: 8080 },
    ],
  }),
]);
const twoPorts =
  "printf 'server { listen 80; listen 8080; location / { return 200 ok; } }' > /etc/nginx/conf.d/default.conf; exec nginx -g 'daemon off;'";
await applyAll(cluster, [
  pod('server', {
    node: node1,
    labels: { app: 'server' },
    container: {
      image: 'nginx',
      command: ['sh', '-c', twoPorts],
      ports: [
        { name: 'web', containerPort: 80 },
        { name: 'admin', containerPort: 8080 },
      ],
      readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
    },
  }),
  whoAmI('other', { node: node2, labels: { app: 'other' } }),
  sleeper('near', { node: node1, labels: { role: 'client' } }),
  sleeper('far', { node: node2, labels: { role: 'client' } }),
  sleeper('friend', { node: node3, namespace: 'friends', labels: { role: 'client' } }),
  sleeper('stranger', { node: node3, namespace: 'strangers' }),
]);
const [server, other, near] = (await allReady(cluster, [
  'server',
  'other',
  'near',
  'far',
  'friends/friend',
  'strangers/stranger',
])) as [Pod, Pod, Pod];

const policy = (name: string, spec: object) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name },
  spec: { podSelector: { matchLabels: { app: 'server' } }, ...spec },
});
const PODS = ['near', 'far', 'friends/friend', 'strangers/stranger'] as const;
const short = (from: string) => from.slice(from.indexOf('/') + 1);

/** "near 80, far 80": the clients and ports that get through to the server. */
async function getThrough(): Promise<string> {
  const tries = PODS.flatMap((from) => [80, 8080].map((port) => ({ from, port })));
  const outcomes = await Promise.all(
    tries.map(
      async ({ from, port }) =>
        (await cluster.connect(from, `${addressOf(server)}:${port}`, { timeoutMs: 250 })).outcome,
    ),
  );
  for (const outcome of outcomes) assert.ok(['connected', 'timeout'].includes(outcome), `dropped, never ${outcome}`);
  return tries
    .flatMap(({ from, port }, i) => (outcomes[i] === 'connected' ? [`${short(from)} ${port}`] : []))
    .join(', ');
}
const ALL = PODS.flatMap((from) => [80, 8080].map((port) => `${short(from)} ${port}`)).join(', ');
const become = (what: string, expected: string) => eventually(what, getThrough, (got) => got === expected, 6000);

describe('ingress to a pod', () => {
  const cases: [what: string, ingress: object[], expected: string][] = [
    ['default deny', [], ''],
    [
      'from pods by label, of this namespace alone',
      [{ from: [{ podSelector: { matchLabels: { role: 'client' } } }] }],
      'near 80, near 8080, far 80, far 8080',
    ],
    [
      'from one pod, to one port',
      [{ from: [{ podSelector: { matchLabels: { name: 'far' } } }], ports: [{ port: 80 }] }],
      'far 80',
    ],
    ['to a port by its name', [{ ports: [{ port: 'admin' }] }], 'near 8080, far 8080, friend 8080, stranger 8080'],
    ['to a range of ports', [{ ports: [{ port: 80, endPort: 8000 }] }], 'near 80, far 80, friend 80, stranger 80'],
    [
      'from a namespace by label',
      [{ from: [{ namespaceSelector: { matchLabels: { team: 'friends' } } }] }],
      'friend 80, friend 8080',
    ],
    [
      'from a namespace by its name',
      [{ from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'strangers' } } }] }],
      'stranger 80, stranger 8080',
    ],
    [
      'from pods of every namespace',
      [{ from: [{ namespaceSelector: {}, podSelector: { matchLabels: { role: 'client' } } }], ports: [{ port: 80 }] }],
      'near 80, far 80, friend 80',
    ],
    [
      'from addresses, but not from some',
      [{ from: [{ ipBlock: { cidr: '10.244.0.0/16', except: [`${addressOf(near)}/32`] } }], ports: [{ port: 80 }] }],
      'far 80, friend 80, stranger 80',
    ],
    [
      'one rule or another',
      [{ from: [{ podSelector: { matchLabels: { name: 'near' } } }] }, { ports: [{ port: 8080 }] }],
      'near 80, near 8080, far 8080, friend 8080, stranger 8080',
    ],
    ['everything', [{}], ALL],
  ];
  for (const [what, ingress, expected] of cases) {
    test(what, async () => {
      await applyAll(cluster, [policy('ingress', { policyTypes: ['Ingress'], ingress })]);
      await become(what, expected);
      assert.equal((await cluster.connect('near', `${addressOf(other)}:80`)).outcome, 'connected', 'others are free');
    });
  }
  test('a second policy adds, and a label that comes or goes counts at once', async () => {
    await applyAll(cluster, [
      policy('ingress', { policyTypes: ['Ingress'], ingress: [] }),
      policy('more', {
        policyTypes: ['Ingress'],
        ingress: [{ from: [{ podSelector: { matchLabels: { vip: 'yes' } } }], ports: [{ port: 80 }] }],
      }),
    ]);
    await become('nobody is a VIP', '');
    const label = (vip: string | null) =>
      cluster.client.patch('Pod', { namespace: 'default', name: 'far' }, { metadata: { labels: { vip } } });
    await label('yes');
    await become('far is', 'far 80');
    await label(null);
    await become('not any more', '');
    await cluster.client.delete('NetworkPolicy', { namespace: 'default', name: 'ingress' });
    await cluster.client.delete('NetworkPolicy', { namespace: 'default', name: 'more' });
    await become('free again', ALL);
  });
  test('through the Service it is the same', async () => {
    await applyAll(cluster, [
      policy('ingress', {
        policyTypes: ['Ingress'],
        ingress: [{ from: [{ podSelector: { matchLabels: { name: 'far' } } }] }],
      }),
    ]);
    await become('far alone', 'far 80, far 8080');
    assert.equal((await cluster.connect('far', 'service/server:80')).outcome, 'connected');
    assert.equal((await cluster.connect('near', 'service/server:80', { timeoutMs: 300 })).outcome, 'timeout');
    await cluster.client.delete('NetworkPolicy', { namespace: 'default', name: 'ingress' });
  });
});

describe('egress from a pod', () => {
  const outOf = (name: string, egress: object[]) =>
    policy('egress', { podSelector: { matchLabels: { name } }, policyTypes: ['Egress'], egress });
  const reaches = async () => {
    const targets = {
      server: `${addressOf(server)}:80`,
      'server:8080': `${addressOf(server)}:8080`,
      other: `${addressOf(other)}:80`,
      service: 'service/server:80',
    };
    const outcomes = await Promise.all(
      Object.entries(targets).map(
        async ([name, to]) => [name, (await cluster.connect('far', to, { timeoutMs: 250 })).outcome] as const,
      ),
    );
    return outcomes.flatMap(([name, outcome]) => (outcome === 'connected' ? [name] : [])).join(', ');
  };
  const cases: [what: string, egress: object[], expected: string][] = [
    ['default deny', [], ''],
    [
      'to pods by label',
      [{ to: [{ podSelector: { matchLabels: { app: 'server' } } }] }],
      'server, server:8080, service',
    ],
    ['to one port', [{ to: [{ podSelector: {} }], ports: [{ port: 80, protocol: 'TCP' }] }], 'server, other, service'],
    ['to an address', [{ to: [{ ipBlock: { cidr: `${addressOf(other)}/32` } }] }], 'other'],
    ['to another namespace only', [{ to: [{ namespaceSelector: { matchLabels: { team: 'friends' } } }] }], ''],
    ['everything', [{}], 'server, server:8080, other, service'],
  ];
  for (const [what, egress, expected] of cases) {
    test(what, async () => {
      await applyAll(cluster, [outOf('far', egress)]);
      await eventually(what, reaches, (got) => got === expected, 6000);
      assert.equal((await cluster.connect('near', `${addressOf(server)}:80`)).outcome, 'connected', 'others are free');
    });
  }
  test('an egress policy of the client and an ingress policy of the server must both allow', async () => {
    await applyAll(cluster, [
      outOf('far', [{ to: [{ podSelector: { matchLabels: { app: 'server' } } }] }]),
      policy('ingress', { policyTypes: ['Ingress'], ingress: [{ ports: [{ port: 8080 }] }] }),
    ]);
    await eventually('the common part', reaches, (got) => got === 'server:8080', 6000);
    for (const name of ['egress', 'ingress'])
      await cluster.client.delete('NetworkPolicy', { namespace: 'default', name });
    await eventually('free again', reaches, (got) => got.split(',').length === 4, 6000);
  });
});

describe('a pod created under a policy is never reachable early', () => {
  test('default deny, from its first millisecond, from the same node and from another', async () => {
    await applyAll(cluster, [
      policy('deny', { podSelector: { matchLabels: { app: 'secret' } }, policyTypes: ['Ingress'] }),
    ]);
    using nearSide = await cluster.openNamespace('near');
    using farSide = await cluster.openNamespace('far');
    const secrets = ['secret-1', 'secret-2', 'secret-3', 'secret-4'];
    // Readiness is asked by the node itself, which may always reach its pods.
    const created = applyAll(
      cluster,
      secrets.map((name) => whoAmI(name, { node: node1, labels: { app: 'secret' } })),
    );
    const seen: string[] = [];
    let done = false;
    const probing = secrets.map(async (name) => {
      let address: string | undefined;
      while (!done && !address) {
        const found = await cluster.client.get('Pod', { namespace: 'default', name }).catch(() => undefined);
        address = found?.status?.podIP;
      }
      while (!done && address) {
        const outcomes = await Promise.all([nearSide, farSide].map((side) => probeTcp(side, address, 80, 25)));
        seen.push(...outcomes.map(({ outcome }) => outcome));
      }
    });
    // The addresses are handed out in order, so the next ones are known before their pods exist.
    const cidr = (await cluster.client.get('Node', { name: node1 })).spec.podCIDR!.replace('.0/24', '');
    const early = Array.from({ length: 12 }, async (_, i) => {
      while (!done) {
        const address = `${cidr}.${i + 2}`;
        if (address !== addressOf(server)) seen.push(`early ${(await probeTcp(nearSide, address, 80, 15)).outcome}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    });
    await created;
    await allReady(cluster, secrets);
    await new Promise((resolve) => setTimeout(resolve, 300));
    done = true;
    await Promise.all([...probing, ...early]);
    assert.ok(seen.filter((one) => !one.startsWith('early')).length > 20, 'it was really asked');
    assert.deepEqual(
      seen.filter((one) => one.endsWith('connected')),
      [],
      `of ${seen.length} attempts`,
    );
    // A port that refuses would have been reached as well.
    const refused = seen.filter((one) => one === 'refused');
    assert.deepEqual(refused, [], 'no reset came through either');
    const open = await cluster.connect({ node: node1 }, 'secret-1:80');
    assert.equal(open.outcome, 'connected', 'it was listening');
  });

  test('its own egress is denied from the first packet', async () => {
    await applyAll(cluster, [
      policy('deny-out', { podSelector: { matchLabels: { app: 'prisoner' } }, policyTypes: ['Egress'] }),
    ]);
    const script = `for i in $(seq 20); do nc -w 1 ${addressOf(other)} 80 </dev/null && echo ESCAPED; [ $i -gt 3 ] && break; done; echo tried; sleep 3600`;
    await applyAll(cluster, [
      pod('prisoner', {
        node: node2,
        labels: { app: 'prisoner' },
        container: { image: 'busybox', command: ['sh', '-c', script] },
      }),
    ]);
    const log = await eventually(
      'it tried',
      () => cluster.logs('prisoner'),
      (text) => text.includes('tried'),
    );
    assert.doesNotMatch(log, /ESCAPED/);
  });
});
