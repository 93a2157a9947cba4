/** The steps of the tour, in order: what Kubernetes promises of its network, each shown and checked. */
import type { Pod } from '../../kube/types.ts';
import type { Stage } from './stage.ts';
import { deploymentAndClients } from './step-deployment.ts';
import { discovery } from './step-discovery.ts';
import { networkPolicy } from './step-policy.ts';

export interface Step {
  readonly title: string;
  readonly run: (stage: Stage) => Promise<void>;
}

export const steps: readonly Step[] = [
  { title: 'Every pod has its own IP and reaches every other, on any node, without NAT', run: podsReachPods },
  { title: 'A Service gives pods a stable name and address', run: serviceByName },
  { title: 'A manifest: a Service, a server, and a client that finds it by name', run: manifest },
  { title: 'The containers of a pod share localhost and a hostname', run: sharedLocalhost },
  { title: 'Pods find Services by environment variables and by DNS', run: discovery },
  { title: 'A Deployment behind a Service: load, joining, leaving, no failed request', run: deploymentAndClients },
  { title: 'A NodePort opens the cluster to the outside, through each node', run: nodePort },
  { title: 'NetworkPolicies say who may talk to whom', run: networkPolicy },
];

export async function podOf(stage: Stage, name: string): Promise<Pod> {
  return stage.cluster.client.get('Pod', { namespace: 'default', name });
}

const WELCOME = 'Welcome to nginx!';

async function podsReachPods(stage: Stage): Promise<void> {
  await stage.kubectl('run pod-a --image=nginx --restart=Never');
  await stage.kubectl('run pod-b --image=nginx --restart=Never');
  await stage.waitReady('pod/pod-a pod/pod-b');
  const table = await stage.kubectl('get pods -o wide');
  const [a, b] = [await podOf(stage, 'pod-a'), await podOf(stage, 'pod-b')];
  const [ipA, ipB] = [a.status!.podIP!, b.status!.podIP!];
  stage.claim(`the table shows both IPs, ${ipA} and ${ipB}`, table.includes(ipA) && table.includes(ipB));
  if (stage.cluster.nodes.length > 1) {
    stage.claim(`they are on different nodes`, a.spec.nodeName !== b.spec.nodeName, `both on ${a.spec.nodeName}`);
  }
  await curlSeenAs(stage, ipB, ipA, 'across nodes');
  const overrides = JSON.stringify({ spec: { nodeName: a.spec.nodeName } });
  await stage.kubectl(`run pod-c --image=nginx --restart=Never --overrides='${overrides}'`);
  await stage.waitReady('pod/pod-c');
  const ipC = (await podOf(stage, 'pod-c')).status!.podIP!;
  const page = await stage.kubectl(`exec pod-a -- curl -s ${url(ipC)}`, { lines: 1 });
  stage.claim('pod-a reaches pod-c on its own node', page.includes(WELCOME));
  const log = await stage.kubectl('logs pod-c', { lines: 2 });
  stage.claim(`its log shows pod-a's own IP ${ipA}: no NAT on the same node`, log.includes(`${ipA} - `));
}

async function curlSeenAs(stage: Stage, to: string, from: string, where: string): Promise<void> {
  const page = await stage.kubectl(`exec pod-a -- curl -s ${url(to)}`, { lines: 4 });
  stage.claim(`pod-a reaches pod-b at ${to}`, page.includes(WELCOME));
  const log = await stage.kubectl('logs pod-b', { lines: 2 });
  stage.claim(`nginx's log in pod-b shows pod-a's own IP ${from}: no NAT ${where}`, log.includes(`${from} - `));
}

export function url(address: string, port?: number): string {
  return `http://${address.includes(':') ? `[${address}]` : address}${port ? `:${port}` : ''}`;
}

async function serviceByName(stage: Stage): Promise<void> {
  await stage.kubectl('expose pod pod-b --type=ClusterIP --name=pod-b-service --port=80 --target-port=80');
  await stage.kubectl('get service pod-b-service');
  const page = await stage.until('the Service answers', async () => {
    const { exitCode, stdout } = await stage.tryKubectl('exec pod-a -- curl -s http://pod-b-service', { quiet: true });
    return exitCode === 0 ? stdout : undefined;
  });
  await stage.kubectl('exec pod-a -- curl -s http://pod-b-service', { lines: 4 });
  stage.claim('pod-a reaches pod-b by the name of its Service', page.includes(WELCOME));
}

const MANIFEST = `apiVersion: v1
kind: Service
metadata: { name: my-service }
spec:
  selector: { app: my-app }
  ports: [{ port: 80 }]
---
apiVersion: v1
kind: Pod
metadata: { name: my-server, labels: { app: my-app } }
spec:
  containers: [{ name: nginx, image: nginx }]
---
apiVersion: v1
kind: Pod
metadata: { name: my-client }
spec:
  restartPolicy: OnFailure
  containers:
  - { name: busybox, image: busybox, command: [wget, -qO-, "http://my-service"] }
`;

async function manifest(stage: Stage): Promise<void> {
  await stage.kubectl('apply -f -', { input: MANIFEST });
  const log = await stage.until(
    'the client has its page',
    async () => {
      const { stdout } = await stage.tryKubectl('logs my-client', { quiet: true });
      return stdout.includes(WELCOME) ? stdout : undefined;
    },
    60_000,
  );
  await stage.kubectl('logs my-client', { lines: 4 });
  stage.claim('the client found my-service and printed the nginx page', log.includes(WELCOME));
}

const TWO_CONTAINERS = `apiVersion: v1
kind: Pod
metadata: { name: two-in-one }
spec:
  containers:
  - { name: server, image: nginx }
  - { name: client, image: curlimages/curl, command: [sleep, "100000"] }
`;

async function sharedLocalhost(stage: Stage): Promise<void> {
  await stage.kubectl('apply -f -', { input: TWO_CONTAINERS });
  await stage.waitReady('pod/two-in-one');
  const page = await stage.until('the server listens', async () => {
    const { exitCode, stdout } = await stage.tryKubectl('exec two-in-one -c client -- curl -s http://localhost', {
      quiet: true,
    });
    return exitCode === 0 ? stdout : undefined;
  });
  await stage.kubectl('exec two-in-one -c client -- curl -s http://localhost', { lines: 4 });
  stage.claim('one container reaches the other at localhost', page.includes(WELCOME));
  const hostname = await stage.kubectl('exec two-in-one -c client -- hostname');
  stage.claim("the pod's hostname is its name", hostname.trim() === 'two-in-one', hostname.trim());
}

async function nodePort(stage: Stage): Promise<void> {
  await stage.kubectl('expose pod pod-b --type=NodePort --name=pod-b-outside --port=80');
  await stage.kubectl('get service pod-b-outside');
  const service = await stage.cluster.client.get('Service', { namespace: 'default', name: 'pod-b-outside' });
  const port = service.spec.ports![0]!.nodePort!;
  for (const { name, addresses } of stage.cluster.description.nodes) {
    const target = url(addresses[0]!, port);
    const page = await stage.until(`${name} forwards`, async () => {
      const answer = await stage.outside(`curl -s --max-time 2 ${target}`, { quiet: true, mayFail: true });
      return answer.includes(WELCOME) ? answer : undefined;
    });
    await stage.outside(`curl -s --max-time 2 ${target}`, { lines: 1 });
    stage.claim(`port ${port} of ${name} leads to pod-b`, page.includes(WELCOME));
  }
}
