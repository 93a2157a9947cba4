/**
 * All controllers against the real API server (memory store, HTTPS on 127.0.0.1), with played nodes: what the unit tests
 * show against the fake must hold against validation, defaulting, graceful deletion and real watches too.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ensureAuthority, ensureServiceAccountKey, issueCertificate } from '../../src/apiserver/pki.ts';
import { type ApiServer, startApiServer } from '../../src/apiserver/server.ts';
import { cidrAddress, parseCidr } from '../../src/base/ip.ts';
import { silentLogger } from '../../src/base/log.ts';
import { startControllers } from '../../src/controllers/all.ts';
import { eventually, settle } from '../../src/controllers/fixtures.ts';
import { conditionOf } from '../../src/kube/conditions.ts';
import { HttpClient } from '../../src/kube/http-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import { isNotFound } from '../../src/kube/status.ts';
import type { Pod } from '../../src/kube/types.ts';
import { memoryStore } from '../../src/store/memory.ts';

const dir = mkdtempSync(join(tmpdir(), 'podwire-controllers-'));
const ending = new AbortController();
const log = silentLogger;
let server: ApiServer;
let client: HttpClient;
let rootCa: string;
let controllers = new AbortController();

/** A server that lacks a kind must not hang the tests. */
const hooks = { timeout: 30_000 };

const nodes = ['node-1', 'node-2', 'node-3'];
const labels = { app: 'web' };
const web = { namespace: 'default', name: 'web' };

async function startServer(): Promise<void> {
  const authority = await ensureAuthority(dir);
  rootCa = authority.cert;
  const serving = await issueCertificate(authority, {
    commonName: 'podwire-api',
    sans: ['127.0.0.1'],
    usages: ['server'],
  });
  const admin = await issueCertificate(authority, {
    commonName: 'system:kube-controller-manager',
    organizations: ['system:masters'],
    usages: ['client'],
  });
  const tls = { ca: authority.cert, cert: serving.cert, key: serving.key };
  server = await startApiServer(
    {
      store: memoryStore(),
      tls,
      serviceAccountKey: await ensureServiceAccountKey(dir),
      listeners: [{ host: '127.0.0.1', port: 0 }],
      advertiseAddresses: ['172.18.0.1'],
      advertisePort: 6443,
      serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/112'],
      kubeletTls: tls,
      log,
    },
    ending.signal,
  );
  const access = {
    server: `https://127.0.0.1:${server.ports[0]}`,
    ca: authority.cert,
    cert: admin.cert,
    key: admin.key,
  };
  client = new HttpClient({ access, userAgent: 'controllers-test' });
}

async function startAllControllers(): Promise<void> {
  controllers = new AbortController();
  const signal = AbortSignal.any([controllers.signal, ending.signal]);
  const options = { clusterCidrs: ['10.244.0.0/16', 'fd00:10:244::/56'], rootCa };
  await startControllers({ client, log, options }, signal);
}

/** Plays the agents: nodes that are ready, pods that run as soon as they are bound and end when they are deleted. */
async function playNodes(): Promise<void> {
  for (const name of nodes) {
    await client.create('Node', { metadata: { name }, spec: {} });
    const conditions = [{ type: 'Ready', status: 'True', reason: 'KubeletReady', message: 'ready' }];
    const allocatable = { cpu: '4', memory: '8Gi', pods: '110' };
    const status = { conditions, allocatable, capacity: allocatable };
    await client.patch('Node', { name }, { status }, { subresource: 'status' });
  }
  const pods = new Informer('Pod', { client, log });
  const given = new Map<string, number>();
  const play = async (pod: Pod) => {
    const { nodeName } = pod.spec;
    if (!nodeName) return;
    try {
      if (pod.metadata.deletionTimestamp) await client.delete('Pod', pod.metadata, { gracePeriodSeconds: 0 });
      else if (!pod.status?.podIP) await run(pod, nodeName, given);
    } catch {
      // it changed or went: another event tells
    }
  };
  pods.addHandler({ onAdd: (pod) => void play(pod), onUpdate: (_, pod) => void play(pod) });
  await pods.start(ending.signal);
}

async function run(pod: Pod, nodeName: string, given: Map<string, number>): Promise<void> {
  const podCidrs = await eventually(
    'podCIDRs',
    async () => (await client.get('Node', { name: nodeName })).spec.podCIDRs,
  );
  const index = (given.get(nodeName) ?? 1) + 1;
  given.set(nodeName, index);
  const podIPs = podCidrs.map((cidr) => ({ ip: cidrAddress(parseCidr(cidr), index) as string }));
  const lastTransitionTime = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  const ready = ['Initialized', 'Ready', 'ContainersReady'].map((type) => ({
    type,
    status: 'True',
    lastTransitionTime,
  }));
  const status = {
    phase: 'Running',
    podIP: podIPs[0]!.ip,
    podIPs,
    conditions: [...(pod.status?.conditions ?? []), ...ready],
  };
  await client.patch('Pod', pod.metadata, { status }, { subresource: 'status' });
}

const template = (image: string) => ({ metadata: { labels }, spec: { containers: [{ name: 'main', image }] } });

async function readyPods(): Promise<readonly Pod[]> {
  const { items } = await client.list('Pod', { namespace: 'default', labelSelector: 'app=web' });
  return items.filter((pod) => pod.status?.podIP && !pod.metadata.deletionTimestamp);
}

async function sliceAddresses(type: 'IPv4' | 'IPv6'): Promise<string> {
  const { items } = await client.list('EndpointSlice', { labelSelector: 'kubernetes.io/service-name=web' });
  return items
    .filter((slice) => slice.addressType === type)
    .flatMap((slice) => slice.endpoints.filter((endpoint) => endpoint.conditions?.ready))
    .map((endpoint) => endpoint.addresses[0]!)
    .sort()
    .join();
}

const ipsOf = (pods: readonly Pod[], family: 0 | 1) =>
  pods
    .map((pod) => pod.status!.podIPs![family]!.ip)
    .sort()
    .join();

const rolledOut = (image: string, replicas: number) =>
  eventually(
    `${replicas} of ${image}`,
    async () => {
      const { status, metadata } = await client.get('Deployment', web);
      const pods = await readyPods();
      return (
        status?.observedGeneration === metadata.generation &&
        conditionOf(status?.conditions, 'Progressing')?.reason === 'NewReplicaSetAvailable' &&
        status?.updatedReplicas === replicas &&
        pods.length === replicas &&
        pods.every((pod) => pod.spec.containers[0]!.image === image)
      );
    },
    15_000,
  );

before(async () => {
  await startServer();
  await startAllControllers();
  await playNodes();
}, hooks);

after(async () => {
  ending.abort();
  client?.close();
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

test('nodes get podCIDRs of both families, none twice', async () => {
  const found = await eventually('podCIDRs', async () => {
    const { items } = await client.list('Node');
    return items.every((node) => node.spec.podCIDRs?.length === 2)
      ? items.flatMap((node) => node.spec.podCIDRs!)
      : undefined;
  });
  assert.equal(new Set(found).size, 6);
});

test('namespaces have their account and the CA', async () => {
  for (const namespace of ['default', 'kube-system']) {
    await eventually('account', () => client.get('ServiceAccount', { namespace, name: 'default' }));
    const map = await eventually('CA', () => client.get('ConfigMap', { namespace, name: 'kube-root-ca.crt' }));
    assert.equal(map.data!['ca.crt'], rootCa);
  }
});

test('two pods land on two nodes', async () => {
  const places = [];
  for (const name of ['pod-a', 'pod-b']) {
    await client.create('Pod', { metadata: { name }, spec: { containers: [{ name, image: 'nginx' }] } });
    const pod = await eventually('running', async () => {
      const one = await client.get('Pod', { namespace: 'default', name });
      return one.status?.phase === 'Running' ? one : undefined;
    });
    assert.equal(conditionOf(pod.status!.conditions, 'PodScheduled')?.status, 'True');
    places.push(pod.spec.nodeName);
  }
  assert.equal(new Set(places).size, 2);
});

test('a pod that fits nowhere says why', async () => {
  const name = 'nowhere';
  const spec = { nodeSelector: { disk: 'ssd' }, containers: [{ name, image: 'nginx' }] };
  await client.create('Pod', { metadata: { name }, spec });
  const message = await eventually('condition', async () => {
    const { status } = await client.get('Pod', { namespace: 'default', name });
    return conditionOf(status?.conditions, 'PodScheduled')?.message;
  });
  assert.equal(message, "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.");
  await eventually('event', async () => {
    const { items } = await client.list('Event', {
      namespace: 'default',
      fieldSelector: `involvedObject.name=${name}`,
    });
    return items.some((event) => event.reason === 'FailedScheduling');
  });
});

test('a Deployment behind a dual-stack Service: out, on, scaled, and slices that follow', async () => {
  await client.create('Deployment', {
    metadata: web,
    spec: { replicas: 3, selector: { matchLabels: labels }, template: template('nginx:1') },
  });
  await client.create('Service', {
    metadata: web,
    spec: { selector: labels, ports: [{ port: 80 }], ipFamilyPolicy: 'RequireDualStack' },
  });
  await rolledOut('nginx:1', 3);
  const pods = await readyPods();
  assert.equal(new Set(pods.map((pod) => pod.spec.nodeName)).size, 3);
  await eventually('IPv4 slice', async () => (await sliceAddresses('IPv4')) === ipsOf(pods, 0));
  await eventually('IPv6 slice', async () => (await sliceAddresses('IPv6')) === ipsOf(pods, 1));
  await eventually('Endpoints', async () => (await client.get('Endpoints', web)).subsets?.[0]?.addresses?.length === 3);
  await client.patch('Deployment', web, { spec: { template: template('nginx:2') } }, { type: 'strategic' });
  await rolledOut('nginx:2', 3);
  await client.patch('Deployment', web, { spec: { replicas: 5 } });
  await rolledOut('nginx:2', 5);
  await eventually('slice', async () => (await sliceAddresses('IPv4')) === ipsOf(await readyPods(), 0));
  assert.equal((await client.get('Deployment', web)).metadata.annotations!['deployment.kubernetes.io/revision'], '2');
});

test('nothing is written while nothing happens', async () => {
  await settle(300);
  const { resourceVersion } = await client.list('ConfigMap');
  await settle(1000);
  assert.equal((await client.list('ConfigMap')).resourceVersion, resourceVersion);
});

test('a restart of all controllers in the middle of a rollout loses and doubles nothing', async () => {
  await client.patch('Deployment', web, { spec: { template: template('nginx:3') } }, { type: 'strategic' });
  for (let i = 0; i < 3; i++) {
    await settle(15 * (i + 1));
    controllers.abort();
    await startAllControllers();
  }
  await rolledOut('nginx:3', 5);
  await settle(200);
  assert.equal((await readyPods()).length, 5);
  await eventually('slice', async () => (await sliceAddresses('IPv4')) === ipsOf(await readyPods(), 0));
});

test('a deleted Service takes its slices along, a deleted Deployment its pods, in the foreground too', async () => {
  await client.delete('Service', web);
  await eventually(
    'no slices',
    async () =>
      (await sliceAddresses('IPv4')) === '' &&
      (await client.list('EndpointSlice', { labelSelector: 'kubernetes.io/service-name=web' })).items.length === 0,
  );
  await client.delete('Deployment', web, { propagationPolicy: 'Foreground' });
  await eventually('no Deployment', async () => (await client.list('Deployment')).items.length === 0, 15_000);
  assert.equal((await client.list('ReplicaSet')).items.length, 0);
  assert.equal((await client.list('Pod', { labelSelector: 'app=web' })).items.length, 0);
});

test('a deleted namespace is emptied and gone', async () => {
  const namespace = 'short-lived';
  await client.create('Namespace', { metadata: { name: namespace } });
  await client.create('ConfigMap', { metadata: { name: 'a', namespace }, data: {} });
  await client.create('Service', {
    metadata: { name: 'web', namespace },
    spec: { selector: labels, ports: [{ port: 80 }] },
  });
  await client.create('Deployment', {
    metadata: { name: 'web', namespace },
    spec: { replicas: 2, selector: { matchLabels: labels }, template: template('nginx') },
  });
  await eventually(
    'running',
    async () => (await client.get('Deployment', { namespace, name: 'web' })).status?.readyReplicas === 2,
  );
  await client.delete('Namespace', { name: namespace });
  await eventually(
    'gone',
    async () => {
      try {
        await client.get('Namespace', { name: namespace });
        return false;
      } catch (error) {
        return isNotFound(error);
      }
    },
    15_000,
  );
  for (const kind of ['Pod', 'Service', 'EndpointSlice', 'Deployment', 'ConfigMap'] as const) {
    assert.equal((await client.list(kind, { namespace })).items.length, 0, kind);
  }
});
