/**
 * pods.ready and pods.ready_50: from a pod's creation at the API to Ready, one and 50 at once, on one node. The peer is the
 * runtime alone in the same run: the same sandbox, network plugin and container by CRI calls by hand (RunPodSandbox,
 * CreateContainer, StartContainer), without API server, scheduler, volumes, image check or status.
 */
import { Cluster } from '../src/cluster/cluster.ts';
import { CriClient } from '../src/node/pods/cri/client.ts';
import { distribution, type Metrics } from './metrics.ts';

export const about = 'pod created to ready, one and 50 at once, against the bare CRI calls';

const ROUNDS = 20;
const CROWD = 50;
const CROWDS = 3;
const NODE = 'node-1';

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
          containers: [{ name: 'main', image: 'busybox', imagePullPolicy: 'IfNotPresent', command: ['sleep', '1000'] }],
        },
      }),
    ),
  );
  await ready;
  const elapsed = performance.now() - start;
  stop.abort();
  await Promise.all(
    names.map((name) => client.delete('Pod', { namespace: 'default', name }, { gracePeriodSeconds: 0 })),
  );
  await quiet(client, names);
  return elapsed;
}

/** Waits until the pods are gone, so that their end does not run into the next measurement. */
async function quiet(client: Cluster['client'], names: readonly string[]): Promise<void> {
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
async function bareCalls({ client, paths }: Cluster, cri: CriClient, names: readonly string[]): Promise<number> {
  const pods = await Promise.all(
    names.map((name) =>
      client.create('Pod', {
        metadata: { name, namespace: 'default' },
        spec: {
          nodeName: 'nowhere',
          terminationGracePeriodSeconds: 0,
          containers: [{ name: 'main', image: 'busybox' }],
        },
      }),
    ),
  );
  await new Promise((resolve) => setTimeout(resolve, 100));
  const start = performance.now();
  const sandboxes = await Promise.all(pods.map(({ metadata }) => startByHand(cri, paths, metadata.name, metadata.uid)));
  const elapsed = performance.now() - start;
  await Promise.all(
    sandboxes.map(async (id) => {
      await cri.stopPodSandbox(id);
      await cri.removePodSandbox(id);
    }),
  );
  await Promise.all(
    names.map((name) => client.delete('Pod', { namespace: 'default', name }, { gracePeriodSeconds: 0 })),
  );
  await quiet(client, names);
  return elapsed;
}

async function startByHand(cri: CriClient, paths: Cluster['paths'], name: string, uid: string): Promise<string> {
  const config = {
    metadata: { name, namespace: 'default', uid, attempt: 0 },
    hostname: name,
    logDirectory: paths.logs,
    labels: {},
    annotations: {},
    linux: { cgroupParent: `/${paths.cgroup}/${NODE}/${uid}` },
  };
  const sandbox = await cri.runPodSandbox(config);
  const container = await cri.createContainer(
    sandbox,
    {
      metadata: { name: 'main', attempt: 0 },
      image: { image: 'docker.io/library/busybox:latest' },
      command: ['sleep', '1000'],
      labels: {},
      annotations: {},
      logPath: `${uid}.log`,
    },
    config,
  );
  await cri.startContainer(container);
  return sandbox;
}
