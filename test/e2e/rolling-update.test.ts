/**
 * Rolling updates lose no request: clients without keep-alive, one inside the cluster over the ClusterIP and one outside over
 * the load balancer's address, send 20,000 requests and more while every pod of a Deployment is replaced, again and again.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cgroupProcesses, cgroupsOf, recordedProcesses, signalProcess } from '../../src/cluster/process-table.ts';
import { allReady, applyAll, eventually, pod, runIn, service, sleeper, startCluster, whoAmI } from './fixture.ts';
import type { LoadReport } from './http-loader.ts';

const REQUESTS = { graceful: 20_000, abrupt: 4_000, slow: 80 };
/** The test's own bound: a machine that is slower than this does fewer requests and fails. */
const LONGEST_MS = 300_000;

const cluster = await startCluster('rolling', { nodes: 3 });
/** Ends in the very moment of its SIGTERM: whatever it has not answered by then is lost. */
const ABRUPT = `mkdir /www; echo "x $HOSTNAME" > /www/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait`;
/** Takes its time for each answer, and ends in the moment of its SIGTERM nevertheless. */
const SLOW = `mkdir -p /www/cgi-bin; cat > /www/cgi-bin/index.cgi <<'END'
#!/bin/sh
sleep 0.7; printf 'Content-type: text/plain\\r\\n\\r\\n'; echo "x $HOSTNAME"
END
chmod +x /www/cgi-bin/index.cgi; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait`;
const labels = { app: 'web' };
const graceful = whoAmI('web', { labels }).spec;
const [{ readinessProbe }] = graceful.containers as unknown as [{ readinessProbe: object }];
const busybox = (script: string) =>
  pod('web', { container: { image: 'busybox', command: ['sh', '-c', script], readinessProbe } }).spec;
const SERVERS = {
  'a server that ends gracefully': { least: REQUESTS.graceful, ...graceful },
  'a server that ends at once': { least: REQUESTS.abrupt, ...busybox(ABRUPT) },
  'a slow server that ends at once': { least: REQUESTS.slow, ...busybox(SLOW) },
};
await applyAll(cluster, [
  service('web', { type: 'LoadBalancer' }),
  {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web' },
    spec: {
      replicas: 4,
      selector: { matchLabels: { app: 'web' } },
      strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 2 } },
      template: { metadata: { labels }, spec: { ...graceful, terminationGracePeriodSeconds: 20 } },
    },
  },
  sleeper('client'),
]);
await allReady(cluster, ['client']);
const at = { namespace: 'default', name: 'web' };

/** Resolves when every pod is of the newest template and the old ones are gone. */
async function rolledOut(): Promise<void> {
  await cluster.waitFor(
    'Deployment',
    at,
    ({ metadata, status }) =>
      status?.observedGeneration === metadata.generation &&
      status?.updatedReplicas === 4 &&
      status?.availableReplicas === 4 &&
      status?.replicas === 4,
    { timeoutMs: 90_000 },
  );
}

/** Loads an address from a namespace; `count` and `end` talk to the loader. */
async function load(from: 'client' | 'outside', address: string) {
  using ns = await cluster.openNamespace(from);
  const argv = [join(import.meta.dirname, 'http-loader.ts'), address, '80', '4'];
  const child: ChildProcess = ns.run(() => spawn(process.execPath, argv, { stdio: ['pipe', 'pipe', 'inherit'] }));
  const lines: string[] = [];
  let text = '';
  child.stdout!.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    lines.splice(0, lines.length, ...text.split('\n').slice(0, -1));
  });
  return {
    child,
    async count(): Promise<number> {
      const before = lines.length;
      child.stdin!.write('?');
      await eventually(
        'the loader answers',
        () => lines.length,
        (length) => length > before,
        15_000,
      );
      return Number(lines.at(-1));
    },
    end(): Promise<LoadReport> {
      const done = new Promise<LoadReport>((resolve, reject) => {
        child.once('close', (code) => (code === 0 ? resolve(JSON.parse(lines.at(-1)!) as LoadReport) : reject(code)));
      });
      child.stdin!.end();
      return done;
    },
  };
}

type Server = keyof typeof SERVERS;
/** The processes that send the requests of the test that runs. */
let loaders: readonly number[] = [];

/** Rolls the Deployment out anew and anew under load, until so many requests were sent; `during` runs beside each update. */
async function rollUnderLoad(
  t: TestContext,
  { server, least, during }: { server: Server; least: number; during?: (update: number) => Promise<void> },
) {
  const { containers } = SERVERS[server];
  await cluster.client.patch('Deployment', at, { spec: { template: { spec: { containers } } } });
  await rolledOut();
  const { spec, status } = await cluster.waitFor('Service', at, (one) => !!one.status?.loadBalancer?.ingress?.length);
  const virtual = status!.loadBalancer!.ingress![0]!.ip!;
  await eventually(
    'the load balancer answers',
    () => cluster.connect('outside', `${virtual}:80`),
    ({ outcome }) => outcome === 'connected',
  );
  const loads = [await load('client', spec.clusterIP!), await load('outside', virtual)];
  loaders = loads.map(({ child }) => child.pid!);
  t.after(() => loads.forEach(({ child }) => child.kill('SIGKILL')));
  const deadline = Date.now() + LONGEST_MS;
  let updates = 0;
  for (let sent = 0; (sent < least || updates < 3) && Date.now() < deadline; updates++) {
    await cluster.client.patch('Deployment', at, {
      spec: { template: { metadata: { annotations: { update: `${Date.now()}` } } } },
    });
    await Promise.all([rolledOut(), during?.(updates)]);
    sent = (await Promise.all(loads.map((one) => one.count()))).reduce((sum, count) => sum + count, 0);
  }
  const reports = await Promise.all(loads.map((one) => one.end()));
  const total = reports.reduce((sum, report) => sum + report.requests, 0);
  const pods = new Set(reports.flatMap((report) => Object.keys(report.answers))).size;
  t.diagnostic(
    `${total} requests over ${updates} updates, ${pods} pods: ${JSON.stringify(reports.map(({ failures, slowest }) => ({ failures, slowest })))}`,
  );
  assert.deepEqual(
    reports.map(({ failures }) => failures),
    [{}, {}],
  );
  assert.ok(total >= least, `only ${total} requests in ${LONGEST_MS} ms`);
  assert.ok(pods > 4, 'pods were replaced');
}

const timeout = LONGEST_MS + 60_000;
for (const server of Object.keys(SERVERS) as Server[]) {
  test(`rolling updates of ${server} lose no request`, { timeout }, (t) =>
    rollUnderLoad(t, { server, least: SERVERS[server].least }),
  );
}

/** The agent of the node that answers for the load balancer's address: what it forwards by is the oldest there is. */
async function announcingAgent(): Promise<string> {
  const neighbours = await runIn(cluster, 'outside', ['ip', 'neigh', 'show']);
  const { status } = await cluster.client.get('Service', at);
  const virtual = status!.loadBalancer!.ingress![0]!.ip!;
  const mac = new RegExp(`^${virtual} .* lladdr (\\S+)`, 'm').exec(neighbours.stdout)?.[1];
  assert.ok(mac, `${virtual} is at no MAC`);
  for (const name of cluster.nodes) {
    const links = await runIn(cluster, name, ['ip', 'link', 'show']);
    if (links.stdout.includes(mac)) return `${name}-agent`;
  }
  assert.fail(`${virtual} is at ${mac}, which no node has`);
}

const STANDSTILL_MS = 3_000;
const SLEEP_MS = 2_000;
const stopFor = async (pids: readonly number[], ms: number) => {
  for (const pid of pids) signalProcess(pid, 'SIGSTOP');
  await sleep(ms);
  for (const pid of pids) signalProcess(pid, 'SIGCONT');
};

for (const [who, name] of [
  ['the API server', async () => 'server'],
  ['the agent of the announcing node', announcingAgent],
] as const) {
  test(`rolling updates lose no request while ${who} stands still`, { timeout }, async (t) => {
    let stopped: string | undefined;
    const during = async (update: number) => {
      stopped ??= await name();
      await sleep(250 + 125 * update);
      await stopFor([cluster.processes.find((one) => one.name === stopped)!.pid!], STANDSTILL_MS);
    };
    await rollUnderLoad(t, { server: 'a server that ends at once', least: 2_000, during });
  });
}

/** As a machine that sleeps, or whose hypervisor has no time for it. */
async function everythingStandsStill(update: number): Promise<void> {
  await sleep(300 + 400 * update);
  const inPods = cgroupsOf(cluster.paths).flatMap(cgroupProcesses);
  const others = [...recordedProcesses(cluster.paths).map(({ pid }) => pid), ...loaders];
  const all = new Set([...inPods, ...others]).difference(new Set([process.pid]));
  await stopFor([...all], SLEEP_MS);
}

for (const [server, least] of [
  ['a server that ends at once', 2_000],
  ['a slow server that ends at once', 50],
] as const) {
  test(`rolling updates of ${server} lose no request while everything stands still`, { timeout }, (t) =>
    rollUnderLoad(t, { server, least, during: everythingStandsStill }),
  );
}
