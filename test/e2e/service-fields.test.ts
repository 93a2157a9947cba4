/** The rarer fields of Services, each by its effect on real packets, names and environments; and what slices may not do. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { EndpointSlice, Service } from '../../src/kube/types.ts';
import {
  addressOf,
  allReady,
  applyAll,
  curl,
  eventually,
  kubectl,
  runIn,
  service,
  sleeper,
  startCluster,
  url,
  whoAmI,
} from './fixture.ts';

const cluster = await startCluster('fields', { nodes: 2, ipFamily: 'dual' });
const at = (name: string) => ({ namespace: 'default', name });
const never = { readinessProbe: { exec: { command: ['false'] }, periodSeconds: 1 } };
await applyAll(cluster, [
  service('web', {
    type: 'ClusterIP',
    ipFamilyPolicy: 'SingleStack',
    ports: [{ port: 80, appProtocol: 'kubernetes.io/h2c' }],
  }),
  service('external', { selector: { app: 'web' }, externalIPs: ['203.0.113.7'] }),
  service('kept', { type: 'LoadBalancer', selector: { app: 'web' }, externalTrafficPolicy: 'Local' }),
  service('unready', { clusterIP: 'None', publishNotReadyAddresses: true }),
  service('other-name', {
    type: 'ExternalName',
    externalName: 'web.default.svc.cluster.local',
    ports: undefined,
    selector: undefined,
  }),
  service('by-hand', { selector: undefined }),
  service('by-endpoints', { selector: undefined }),
  service('sctp', {
    selector: { app: 'web' },
    ports: [
      { port: 80, name: 'tcp' },
      { port: 81, name: 'sctp', protocol: 'SCTP' },
    ],
  }),
  whoAmI('web-1', { node: 'node-1', labels: { app: 'web' } }),
  whoAmI('unready-1', { labels: { app: 'unready' }, container: never }),
  sleeper('client', { node: 'node-2' }),
  sleeper('finder', { container: { image: 'registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7' } }),
]);
const [web1] = await allReady(cluster, ['web-1', 'client', 'finder']);

const serviceOf = (name: string) => cluster.client.get('Service', at(name));
const slicesOf = async (name: string) =>
  (await cluster.client.list('EndpointSlice', { namespace: 'default' })).items.filter(
    ({ metadata }) => metadata.labels?.['kubernetes.io/service-name'] === name,
  );
const dig = async (...words: string[]) =>
  (await cluster.exec('finder', ['dig', '+short', '+search', ...words])).stdout.trim().split('\n').filter(Boolean);
const reaches = (what: string, target: string, pod = 'web-1') =>
  eventually(
    what,
    () => curl(cluster, 'client', url(target)),
    (text) => text.endsWith(` ${pod}`),
  );

test('appProtocol goes from the Service to its slices', async () => {
  const slices = await eventually(
    'slices of web',
    () => slicesOf('web'),
    (all) => all.some(({ endpoints }) => endpoints.length > 0),
  );
  assert.deepEqual(
    slices.flatMap(({ ports }) => ports?.map(({ appProtocol }) => appProtocol)),
    ['kubernetes.io/h2c'],
  );
});

test('externalIPs: from a pod, and from outside through either node', async () => {
  await reaches('the external address', '203.0.113.7');
  for (const { addresses } of cluster.description.nodes) {
    const via = addresses[0]!;
    await runIn(cluster, 'outside', ['ip', 'route', 'replace', '203.0.113.7/32', 'via', via]);
    const { stdout, stderr } = await runIn(cluster, 'outside', ['curl', '-sS', '--max-time', '5', url('203.0.113.7')]);
    assert.match(stdout, / web-1$/m, `through ${via}: ${stderr}`);
  }
});

test('healthCheckNodePort tells load balancers which nodes have an endpoint', async () => {
  const { spec } = await serviceOf('kept');
  const ask = async (index: number) => {
    const address = cluster.description.nodes[index]!.addresses[0]!;
    const target = `http://${address}:${spec.healthCheckNodePort}/healthz`;
    return (await runIn(cluster, 'outside', ['curl', '-s', '-w', ' %{http_code}', '--max-time', '5', target])).stdout;
  };
  const here = await eventually(
    'node-1',
    () => ask(0),
    (text) => text.endsWith(' 200'),
  );
  assert.equal(JSON.parse(here.slice(0, -4)).localEndpoints, 1);
  assert.deepEqual(JSON.parse(here.slice(0, -4)).service, { namespace: 'default', name: 'kept' });
  assert.match(await ask(1), /"localEndpoints":\s*0.* 503$/s);
});

test('publishNotReadyAddresses: a pod that is never ready has its name', async () => {
  const pod = await cluster.waitFor('Pod', at('unready-1'), ({ status }) => status?.podIP !== undefined);
  await eventually(
    'the name',
    () => dig('unready', 'A'),
    (answer) => answer[0] === addressOf(pod, 4),
  );
  assert.equal(
    (await cluster.client.get('Pod', at('unready-1'))).status?.conditions?.find(({ type }) => type === 'Ready')?.status,
    'False',
  );
});

test('ExternalName is an alias', async () => {
  assert.deepEqual(await dig('other-name', 'A'), [
    'web.default.svc.cluster.local.',
    (await serviceOf('web')).spec.clusterIP,
  ]);
  assert.match(await curl(cluster, 'client', 'http://other-name'), / web-1$/);
});

/** A slice as a user writes it, for a Service without selector. */
const slice = (name: string, of: string, rest: Partial<EndpointSlice>) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name, labels: { 'kubernetes.io/service-name': of } },
  addressType: 'IPv4',
  ports: [{ port: 80 }],
  ...rest,
});

test('a Service without selector: slices and Endpoints made by hand', async () => {
  await applyAll(cluster, [
    slice('by-hand-1', 'by-hand', { endpoints: [{ addresses: [addressOf(web1!, 4)] }] }),
    {
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { name: 'by-endpoints' },
      subsets: [{ addresses: [{ ip: addressOf(web1!, 4) }], ports: [{ port: 80 }] }],
    },
  ]);
  await reaches('by a slice', 'by-hand');
  await reaches('by Endpoints, which are mirrored', 'by-endpoints');
});

test('an SCTP port is told in an event, the other ports work', async () => {
  await reaches('the TCP port', (await serviceOf('sctp')).spec.clusterIP!);
  await eventually(
    'an event of the Service',
    async () => (await cluster.client.list('Event', { namespace: 'default' })).items,
    (events) =>
      events.some(({ reason, involvedObject }) => reason === 'UnsupportedProtocol' && involvedObject?.name === 'sctp'),
  );
});

test('slices full of garbage reach no kernel, are told in an event, and good endpoints beside them serve', async () => {
  const good = { addresses: [addressOf(web1!, 4)] };
  // The API refuses what Kubernetes' refuses (loopback …); this is what it lets through.
  const multicast = Array.from({ length: 20 }, (_, n) => ({ addresses: [`239.1.1.${n}`] }));
  const twins = Array.from({ length: 1000 }, () => good);
  await applyAll(cluster, [
    service('garbage', { selector: undefined }),
    slice('garbage-multicast', 'garbage', { endpoints: [...multicast, { addresses: ['240.0.0.1'] }] }),
    ...Array.from({ length: 10 }, (_, n) => slice(`garbage-${n}`, 'garbage', { endpoints: twins })),
  ]);
  await reaches('the good one', 'garbage');
  const { spec } = await serviceOf('garbage');
  const rules = await runIn(cluster, 'node-1', ['nft', 'list', 'map', 'ip', 'podwire-services', 'endpoints']);
  const own = rules.stdout
    .split('\n')
    .join(' ')
    .match(new RegExp(`${spec.clusterIP} \\. tcp \\. 80 \\. 0x[0-9a-f]+ : [0-9.]+ \\. \\d+`, 'g'));
  assert.deepEqual(
    own?.map((element) => element.split(' : ')[1]),
    [`${addressOf(web1!, 4)} . 80`],
    rules.stdout.slice(0, 2000),
  );
  await eventually(
    'an event of the slice',
    async () => (await cluster.client.list('Event', { namespace: 'default' })).items,
    (events) =>
      events.some(
        ({ reason, involvedObject }) => reason === 'InvalidEndpoints' && involvedObject?.name === 'garbage-multicast',
      ),
  );
});

test('enableServiceLinks: false leaves the variables out, but for the API server’s', async () => {
  await applyAll(cluster, [sleeper('unlinked', { spec: { enableServiceLinks: false } }), sleeper('linked')]);
  await allReady(cluster, ['unlinked', 'linked']);
  const env = async (name: string) => (await cluster.exec(name, ['env'])).stdout;
  assert.match(await env('linked'), /^WEB_SERVICE_HOST=/m);
  const bare = await env('unlinked');
  assert.doesNotMatch(bare, /^WEB_/m);
  assert.match(bare, /^KUBERNETES_SERVICE_HOST=/m);
});

describe('the families of a Service change', () => {
  const clusterIps = async (holds: (ips: readonly string[]) => boolean): Promise<Service> =>
    cluster.waitFor('Service', at('web'), ({ spec }) => holds(spec.clusterIPs ?? []));
  const patch = (spec: object) => cluster.client.patch('Service', at('web'), { spec });

  test('a second one serves at once', async () => {
    await patch({ ipFamilyPolicy: 'RequireDualStack' });
    const { spec } = await clusterIps((ips) => ips.length === 2);
    for (const address of spec.clusterIPs!) await reaches(address, address);
    await eventually(
      'AAAA',
      () => dig('web', 'AAAA'),
      (answer) => answer[0] === spec.clusterIPs![1],
    );
  });

  test('the second one goes, and is refused then', async () => {
    const before = (await serviceOf('web')).spec.clusterIPs!;
    await patch({ ipFamilyPolicy: 'SingleStack' });
    await clusterIps((ips) => ips.length === 1);
    await reaches('the first one', before[0]!);
    await eventually(
      'the second one',
      () => cluster.connect('client', `[${before[1]}]:80`),
      ({ outcome }) => outcome === 'refused',
    );
    await eventually(
      'no AAAA',
      () => dig('web', 'AAAA'),
      (answer) => answer.length === 0,
    );
  });
});

test('kubectl describe shows what is served', async () => {
  const { stdout } = await kubectl(cluster.kubeconfig, ['describe', 'service', 'kept']);
  for (const part of [/External Traffic Policy:\s+Local/, /HealthCheck NodePort:\s+3\d{4}/, /Endpoints:\s+10\.244\./])
    assert.match(stdout, part);
});
