/**
 * services.endpoint_to_nodes: from a pod's readiness in the API to every one of three nodes forwarding to it, end to end:
 * PATCH of the pod's status -> API server -> EndpointSlice controller -> API server -> three agents -> three kernels. The same
 * for its way out, and services.announce_failover: how long a load balancer's address is silent when its node dies.
 *
 * The pod object that becomes ready stands for a real server (its address is that of a running pod) and belongs to no kubelet
 * that would overwrite its status: what is timed is the network's part, not how fast a container starts. A node forwards when
 * a connection to the ClusterIP from its own namespace is accepted; before that the kernel refuses it at once.
 *
 * Peers: none on this machine. kube-proxy alone holds changes back for up to --min-sync-period (1 s by default).
 */
import { Cluster } from '../src/cluster/cluster.ts';
import type { Pod } from '../src/kube/types.ts';
import { KernelError } from '../src/linux/errors.ts';
import type { NetworkNamespace } from '../src/linux/netns.ts';
import { Rtnetlink } from '../src/linux/rtnetlink.ts';
import { closeFd, connectTcpSync } from '../src/linux/sockets.ts';
import { distribution, type Metrics } from './metrics.ts';

export const about = 'a pod becomes ready: until every node of three forwards to it; failover of a load balancer';

const SAMPLES = 200;
const FAILOVERS = 5;
/** Between two looks at the nodes, in milliseconds: the resolution of the figures. */
const LOOK_MS = 0.5;
const LONGEST_MS = 10_000;
const SETTLED_MS = 1_000;
/** Between two changes, in milliseconds: the controller puts changes of one Service within 20 ms into one write. */
const REST_MS = 40;

const MANIFESTS = `
apiVersion: v1
kind: Pod
metadata: { name: server, labels: { app: server } }
spec: { containers: [{ name: nginx, image: nginx }] }
---
apiVersion: v1
kind: Service
metadata: { name: measured }
spec: { selector: { app: measured }, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: balanced }
spec: { type: LoadBalancer, selector: { app: balanced }, ports: [{ port: 80 }] }
`;

export async function run(): Promise<Metrics> {
  await using cluster = await Cluster.start({ name: `bench-endpoints-${process.pid}`, nodes: 3 });
  await cluster.apply(MANIFESTS);
  const server = await cluster.waitForPod('server');
  const { spec } = await cluster.client.get('Service', { namespace: 'default', name: 'measured' });
  const nodes = await Promise.all(cluster.nodes.map((node) => cluster.openNamespace({ node })));
  try {
    await createStandIn(cluster, server);
    const ready: number[] = [];
    const gone: number[] = [];
    for (let i = 0; i < SAMPLES; i++) {
      ready.push(await timed(cluster, nodes, spec.clusterIP!, true));
      gone.push(await timed(cluster, nodes, spec.clusterIP!, false));
    }
    const silent = await failovers(cluster);
    return {
      'services.endpoint_to_nodes': {
        unit: 'ms',
        podwire: distribution(ready),
        note: 'from the request that makes the pod ready to the last of three nodes; target p99 50 ms; no peer on this machine',
      },
      'services.endpoint_off_nodes': { unit: 'ms', podwire: distribution(gone) },
      'services.announce_failover': {
        unit: 'ms',
        podwire: distribution(silent),
        note: 'the announcing node is cut off; until a client that asks anew is served through another',
      },
    };
  } finally {
    for (const node of nodes) node.close();
  }
}

const STAND_IN = { namespace: 'default', name: 'stand-in' };

/** A pod without a node: no kubelet looks after it, so its status is what is written here. */
async function createStandIn({ client }: Cluster, server: Pod): Promise<void> {
  await client.create('Pod', {
    metadata: { ...STAND_IN, labels: { app: 'measured' } },
    spec: { containers: [{ name: 'none', image: 'nginx' }], schedulerName: 'nobody' },
  });
  const { podIP, podIPs } = server.status!;
  await client.patch('Pod', STAND_IN, { status: { phase: 'Running', podIP, podIPs } }, { subresource: 'status' });
}

/** Makes the stand-in ready or not; milliseconds until all nodes have followed. */
async function timed(
  { client }: Cluster,
  nodes: readonly NetworkNamespace[],
  address: string,
  ready: boolean,
): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  const condition = { type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: new Date().toISOString() };
  const began = performance.now();
  const patched = client.patch('Pod', STAND_IN, { status: { conditions: [condition] } }, { subresource: 'status' });
  const waiting = new Set(nodes);
  while (waiting.size > 0) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    for (const node of waiting) if (accepts(node, address) === ready) waiting.delete(node);
    if (performance.now() - began > LONGEST_MS) throw new Error(`nodes do not follow in ${LONGEST_MS} ms`);
  }
  const took = performance.now() - began;
  await patched;
  return took;
}

function accepts(ns: NetworkNamespace, address: string): boolean {
  try {
    closeFd(connectTcpSync({ ns, address, port: 80, timeoutMs: 200 }));
    return true;
  } catch (error) {
    if (error instanceof KernelError) return false;
    throw error;
  }
}

/** Cuts off the node that answers for the load balancer's address, again and again. */
async function failovers(cluster: Cluster): Promise<number[]> {
  const { client } = cluster;
  const balanced = { namespace: 'default', name: 'balanced' };
  const { status } = await cluster.waitFor('Service', balanced, (one) => !!one.status?.loadBalancer?.ingress?.length);
  const address = status!.loadBalancer!.ingress![0]!.ip!;
  const first = await resolved(cluster, address, () => true);
  const owner = await nodeOf(cluster, first);
  const elsewhere = cluster.nodes.find((name) => name !== owner);
  await client.create('Pod', {
    metadata: { namespace: 'default', name: 'balanced', labels: { app: 'balanced' } },
    spec: { nodeName: elsewhere, containers: [{ name: 'nginx', image: 'nginx' }] },
  });
  await cluster.waitForPod('balanced');
  const samples: number[] = [];
  for (let i = 0; i < FAILOVERS; i++) {
    // After the cable is put back both answer until they have heard of each other.
    await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
    await resolved(cluster, address, (mac) => mac === first, true);
    const began = performance.now();
    {
      using _cut = await cluster.unplug(owner);
      await resolved(cluster, address, (mac) => mac !== first, true);
      samples.push(performance.now() - began);
    }
  }
  return samples;
}

/** Asks until a client's kernel learns a wanted MAC for the address, and is served there unless told otherwise; the MAC. */
async function resolved(
  cluster: Cluster,
  address: string,
  wanted: (mac: string) => boolean,
  served = false,
): Promise<string> {
  using outside = await cluster.openNamespace('outside');
  using netlink = Rtnetlink.open(outside);
  const entry = () => netlink.neighbours({ device: 'eth0' }).find((one) => one.address === address);
  for (const end = performance.now() + LONGEST_MS; performance.now() < end; ) {
    if (entry()) netlink.deleteNeighbour({ device: 'eth0', address });
    const { outcome } = await cluster.connect('outside', `${address}:80`, { timeoutMs: 100 });
    const mac = entry()?.mac;
    if (mac && wanted(mac) && (!served || outcome === 'connected')) return mac;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Error(`the load balancer's address is not where it should be after ${LONGEST_MS} ms`);
}

/** The node that has the MAC on the underlay. */
async function nodeOf(cluster: Cluster, mac: string): Promise<string> {
  for (const name of cluster.nodes) {
    using ns = await cluster.openNamespace({ node: name });
    using netlink = Rtnetlink.open(ns);
    if (netlink.link('eth0')?.mac === mac) return name;
  }
  throw new Error(`no node has the MAC ${mac}`);
}
