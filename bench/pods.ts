/**
 * pods.ready and pods.ready_50: from a pod's creation at the API to Ready, one and 50 at once, on one node. The peer is the
 * runtime alone in the same run: the same sandbox, network plugin and container by CRI calls by hand (RunPodSandbox,
 * CreateContainer, StartContainer), without API server, scheduler, volumes, image check or status.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { Cluster } from '../src/cluster/cluster.ts';
import { isNotFound } from '../src/kube/status.ts';
import type { corev1, Pod } from '../src/kube/types.ts';
import { buildContainerConfig } from '../src/node/pods/config/container-config.ts';
import { buildSandboxConfig } from '../src/node/pods/config/sandbox-config.ts';
import { CriClient } from '../src/node/pods/cri/client.ts';
import type { Image, Mount } from '../src/node/pods/cri/types.ts';
import { distribution, type Metrics } from './metrics.ts';

export const about = 'pod created to ready, one and 50 at once, against the bare CRI calls';

const ROUNDS = 50;
const CROWD = 50;
const CROWDS = 3;
const NODE = 'node-1';
const CONTAINER: corev1.Container = {
  name: 'main',
  image: 'busybox',
  imagePullPolicy: 'IfNotPresent',
  command: ['sleep', '1000'],
};

export async function run(): Promise<Metrics> {
  await using cluster = await Cluster.start({ name: `bench-${process.pid}`, nodes: 1 });
  const cri = new CriClient(cluster.paths.node(NODE).criSocket);
  const one: number[] = [];
  const bare: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    one.push(await podsReady(cluster, [`one-${i}`]));
    bare.push(await bareCalls(cluster, cri, [`bare-${i}`]));
  }
  const crowd: number[] = [];
  const bareCrowd: number[] = [];
  for (let i = 0; i < CROWDS; i++) {
    const names = Array.from({ length: CROWD }, (_, n) => `${i}-${n}`);
    crowd.push(
      await podsReady(
        cluster,
        names.map((name) => `crowd-${name}`),
      ),
    );
    bareCrowd.push(
      await bareCalls(
        cluster,
        cri,
        names.map((name) => `bare-crowd-${name}`),
      ),
    );
  }
  cri.close();
  const peer = 'CRI calls by hand';
  return {
    'pods.ready': { unit: 'ms', podwire: distribution(one), peer: { name: peer, ...distribution(bare) } },
    'pods.ready_50': {
      unit: 'ms',
      podwire: distribution(crowd),
      peer: { name: peer, ...distribution(bareCrowd) },
      note: 'until the last of 50 is ready; the peer starts 50 at once',
    },
  };
}

/**
 * Milliseconds until all of the pods are Ready, seen through a watch; the pods are gone afterwards. Like the peer's, the
 * connections are open when the clock starts.
 */
async function podsReady({ client }: Cluster, names: readonly string[]): Promise<number> {
  const stop = new AbortController();
  const { resourceVersion } = await client.list('Pod', { namespace: 'default' });
  const waiting = new Set(names);
  const ready = (async () => {
    for await (const event of client.watch('Pod', { namespace: 'default', resourceVersion, signal: stop.signal })) {
      if (event.type !== 'MODIFIED') continue;
      const isReady = event.object.status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True');
      if (isReady) waiting.delete(event.object.metadata.name);
      if (waiting.size === 0) return;
    }
  })();
  await new Promise((resolve) => setTimeout(resolve, 100));
  const start = performance.now();
  await Promise.all(
    names.map((name) =>
      client.create('Pod', {
        metadata: { name, namespace: 'default' },
        spec: {
          terminationGracePeriodSeconds: 0,
          containers: [CONTAINER],
        },
      }),
    ),
  );
  await ready;
  const elapsed = performance.now() - start;
  stop.abort();
  await deleteAll(client, names);
  return elapsed;
}

/**
 * Deletes the pods and waits until they are gone, so that their end does not run into the next measurement. The controller that
 * collects pods of nodes which do not exist may have been faster.
 */
async function deleteAll(client: Cluster['client'], names: readonly string[]): Promise<void> {
  const gone = (error: unknown) => {
    if (!isNotFound(error)) throw error;
  };
  await Promise.all(
    names.map((name) => client.delete('Pod', { namespace: 'default', name }, { gracePeriodSeconds: 0 }).catch(gone)),
  );
  for (let i = 0; i < 600; i++) {
    const { items } = await client.list('Pod', { namespace: 'default' });
    if (!items.some((pod) => names.includes(pod.metadata.name))) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await new Promise((resolve) => setTimeout(resolve, 200));
}

/**
 * Milliseconds for the CRI calls of all at once. Each has an API object, bound to a node that does not exist, so that the
 * network plugin finds the pod's labels as it does for every pod.
 */
async function bareCalls(cluster: Cluster, cri: CriClient, names: readonly string[]): Promise<number> {
  const { client } = cluster;
  const image = (await cri.imageStatus('docker.io/library/busybox:latest'))!;
  const pods = await Promise.all(
    names.map((name) =>
      client.create('Pod', {
        metadata: { name, namespace: 'default' },
        spec: {
          nodeName: 'nowhere',
          terminationGracePeriodSeconds: 0,
          containers: [CONTAINER],
        },
      }),
    ),
  );
  for (const pod of pods) makeFiles(cluster, pod);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const start = performance.now();
  const sandboxes = await Promise.all(pods.map((pod) => startByHand(cri, cluster, pod, image)));
  const elapsed = performance.now() - start;
  await Promise.all(
    sandboxes.map(async (id) => {
      await cri.stopPodSandbox(id);
      await cri.removePodSandbox(id);
    }),
  );
  await deleteAll(client, names);
  return elapsed;
}

/** With the very configurations that an agent sends for such a pod, made by its own builders; files and image are there already. */
async function startByHand(cri: CriClient, { paths }: Cluster, pod: Pod, image: Image): Promise<string> {
  const folder = join(paths.logs, pod.metadata.uid);
  const [container] = pod.spec.containers as [corev1.Container];
  const sandboxConfig = buildSandboxConfig({
    pod,
    attempt: 0,
    logDirectory: folder,
    dns: { servers: ['10.96.0.10'], searches: ['default.svc.cluster.local'], options: ['ndots:5'] },
    clusterDomain: 'cluster.local',
    cgroupParent: `/${paths.cgroup}/${NODE}/pod${pod.metadata.uid}`,
  });
  const config = buildContainerConfig({
    pod,
    container,
    attempt: 0,
    imageRef: image.id,
    imageUser: { uid: image.uid?.value, username: image.username },
    environment: new Map([['KUBERNETES_SERVICE_HOST', '10.96.0.1']]),
    mounts: filesFor(folder, container),
    nodeMemory: totalmem(),
  });
  // Without the labels by which an agent would take it for its own.
  const sandbox = await cri.runPodSandbox({ ...sandboxConfig, labels: {} });
  await cri.startContainer(await cri.createContainer(sandbox, { ...config, labels: {} }, sandboxConfig));
  return sandbox;
}

/** What a pod's container finds mounted: its volumes, /etc/hosts and the termination message. Made before the clock starts. */
function filesFor(folder: string, container: corev1.Container): Mount[] {
  const volumes = (container.volumeMounts ?? []).map(({ name, mountPath, readOnly }): Mount => {
    return { containerPath: mountPath, hostPath: join(folder, name), readonly: readOnly ?? false };
  });
  return [
    ...volumes,
    { containerPath: '/etc/hosts', hostPath: join(folder, 'etc-hosts') },
    { containerPath: '/dev/termination-log', hostPath: join(folder, 'message') },
  ];
}

function makeFiles({ paths }: Cluster, { metadata, spec }: Pod): void {
  const folder = join(paths.logs, metadata.uid);
  for (const { name } of spec.volumes ?? []) mkdirSync(join(folder, name), { recursive: true });
  for (const { name } of spec.containers) mkdirSync(join(folder, name), { recursive: true });
  for (const file of ['etc-hosts', 'message']) writeFileSync(join(folder, file), '');
}
