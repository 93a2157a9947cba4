/** What the end-to-end tests share: cluster names, the command line as a user calls it, and the proof that nothing is left. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { type CommandResult, runCommand } from '../../src/base/command.ts';
import { type Family, familyOf } from '../../src/base/ip.ts';
import { Cluster, type ClusterOptions } from '../../src/cluster/cluster.ts';
import { clusterPaths } from '../../src/cluster/paths.ts';
import { cgroupsOf, processesOf } from '../../src/cluster/process-table.ts';
import { existingClusters, tearDown } from '../../src/cluster/teardown.ts';
import type { Pod } from '../../src/kube/types.ts';

export const PODWIRE = join(import.meta.dirname, '..', '..', 'bin', 'podwire');

const names: string[] = [];

/** A name that no other test uses at the same time. */
export function clusterName(what: string): string {
  const name = `t-${what}-${process.pid}`;
  names.push(name);
  return name;
}

/** Also when the file breaks off, its runner gives up on it or someone presses Ctrl-C. */
process.once('exit', () => {
  for (const name of names.filter((one) => existsSync(clusterPaths(one).run)))
    spawnSync(PODWIRE, ['down', '--name', name]);
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

/** Takes down what failed tests of this file left running. */
export async function removeLeftovers(): Promise<void> {
  for (const name of names) if (existingClusters().includes(name)) await tearDown(name);
}

/** Runs `podwire ARGS` to its end. */
export function podwire(args: readonly string[], env: Record<string, string> = {}): Promise<CommandResult> {
  return runCommand([PODWIRE, ...args], { env: { ...process.env, NO_COLOR: '1', ...env }, timeoutMs: 120_000 });
}

/** Runs kubectl against a kubeconfig. */
export function kubectl(
  kubeconfig: string,
  args: readonly string[],
  options: { input?: string; program?: string } = {},
): Promise<CommandResult> {
  return runCommand([options.program ?? 'kubectl', ...args], {
    input: options.input,
    env: { ...process.env, KUBECONFIG: kubeconfig, HOME: '/nonexistent' },
    timeoutMs: 90_000,
  });
}

/** Starts `podwire ARGS` in the background. */
export function podwireInBackground(args: readonly string[], env: Record<string, string> = {}) {
  return inBackground([PODWIRE, ...args], env);
}

/** A program that runs beside the test; what it prints on both streams is kept. */
export function inBackground(argv: readonly [string, ...string[]], env: Record<string, string> = {}) {
  const child = spawn(argv[0], argv.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  child.stdin.on('error', () => {});
  const ended = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)));
  return { child, ended, output: () => output };
}

/** Starts `podwire ARGS` in the background, and resolves when it has printed the text. */
export async function podwireUntil(args: readonly string[], text: string, env: Record<string, string> = {}) {
  const program = podwireInBackground(args, env);
  await eventually(
    `podwire ${args.join(' ')} says ${text}`,
    () => program.output(),
    (output) => {
      if (program.child.exitCode !== null) assert.fail(`it ended with ${program.child.exitCode}: ${output}`);
      return output.includes(text);
    },
    60_000,
  );
  return program;
}

/** Fails when a cluster of the name left anything on this machine. */
export function assertNothingLeft(name: string): void {
  const paths = clusterPaths(name);
  assert.equal(existsSync(paths.run), false, `${paths.run} is left`);
  assert.equal(existsSync(paths.state), false, `${paths.state} is left`);
  assert.deepEqual(cgroupsOf(paths), [], 'control groups are left');
  assert.deepEqual(processesOf(paths), [], 'processes are left');
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`podwire/${name}/`));
  assert.deepEqual(mounts, [], 'mounts are left');
}

/** Resolves when the condition holds; fails with its last answer otherwise. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T> | T,
  holds: (answer: T) => boolean,
  timeoutMs = 20_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await Promise.resolve(ask()).catch((error: unknown) => error as T);
    if (!(answer instanceof Error) && holds(answer)) return answer;
    if (Date.now() > deadline)
      assert.fail(
        `${what}: still ${answer instanceof Error ? answer.message : JSON.stringify(answer)} after ${timeoutMs} ms`,
      );
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Starts the one cluster of a test file, and takes it down after the file's tests with the proof that nothing is left. */
export async function startCluster(what: string, options: Omit<ClusterOptions, 'name'> = {}): Promise<Cluster> {
  const name = clusterName(what);
  const cluster = await Cluster.start({ ...options, name });
  after(async () => {
    await cluster.stop();
    assertNothingLeft(name);
  });
  return cluster;
}

/** Applies objects in their order. */
export function applyAll(cluster: Cluster, objects: readonly object[]) {
  return cluster.apply(objects.map((object) => JSON.stringify(object)).join('\n---\n'));
}

/** Runs a command in the network namespace of a node, or in the one outside the cluster. */
export function runIn(cluster: Cluster, where: string, argv: readonly string[]): Promise<CommandResult> {
  return runCommand(['nsenter', `--net=${cluster.paths.namespace(where)}`, '--', ...argv], { timeoutMs: 60_000 });
}

export interface PodOptions {
  readonly node?: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** More of the pod's spec. */
  readonly spec?: object;
  /** More of its one container. */
  readonly container?: object;
}

/** A pod whose HTTP server on port 80 (or the one given) answers with "CLIENT-ADDRESS POD-NAME". */
export function whoAmI(name: string, options: PodOptions & { readonly port?: number } = {}) {
  const { port = 80 } = options;
  const site = `server { listen ${port}; listen [::]:${port}; root /usr/share/nginx/html; location = / { return 200 "$remote_addr $hostname\\n"; } }`;
  const script = `echo '${site}' > /etc/nginx/conf.d/default.conf; exec nginx -g 'daemon off;'`;
  return pod(name, {
    ...options,
    container: {
      image: 'nginx',
      command: ['sh', '-c', script],
      readinessProbe: { tcpSocket: { port }, periodSeconds: 1 },
      ...options.container,
    },
  });
}

/** A pod that sleeps, with a shell and curl. It ends at once when it is asked to. */
export function sleeper(name: string, options: PodOptions = {}) {
  const script = 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done';
  return pod(name, { ...options, container: { image: 'nginx', command: ['sh', '-c', script], ...options.container } });
}

export function pod(name: string, { node, namespace, labels, spec, container }: PodOptions) {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { name, ...labels }, ...(namespace ? { namespace } : {}) },
    spec: {
      ...(node ? { nodeName: node } : {}),
      containers: [{ name: 'main', ...container }],
      terminationGracePeriodSeconds: 2,
      ...spec,
    },
  };
}

export function service(name: string, spec: { readonly namespace?: string } & Record<string, unknown>) {
  const { namespace, ...rest } = spec;
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, ...(namespace ? { namespace } : {}) },
    spec: { selector: { app: name }, ports: [{ port: 80 }], ...rest },
  };
}

/** The address of a pod, as its status has it; of the family if one is asked for. */
export function addressOf(one: Pod, family?: Family): string {
  const ips = one.status?.podIPs?.map(({ ip }) => ip) ?? [];
  const found = ips.find((ip) => ip !== undefined && (family === undefined || familyOf(ip) === family));
  return found ?? assert.fail(`pod ${one.metadata.name} has no address: ${JSON.stringify(one.status)}`);
}

/** Waits until the pods are ready; the pods in the order of their names. */
export function allReady(cluster: Cluster, names: readonly string[], timeoutMs = 30_000): Promise<Pod[]> {
  return Promise.all(names.map((name) => cluster.waitForPod(name, { timeoutMs })));
}

/** "http://ADDRESS:PORT/" */
export function url(address: string, port = 80): string {
  return `http://${hostPort(address, port)}/`;
}

/** "ADDRESS:PORT", with the brackets that IPv6 needs. */
export function hostPort(address: string, port = 80): string {
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}

/** What curl in a pod prints, trimmed; fails with curl's own complaint. */
export async function curl(cluster: Cluster, from: string, target: string, options: readonly string[] = []) {
  const result = await cluster.exec(from, ['curl', '-sS', '--max-time', '5', ...options, target]);
  assert.equal(result.exitCode, 0, `curl ${target} from ${from}: ${result.stderr}`);
  return result.stdout.trim();
}
