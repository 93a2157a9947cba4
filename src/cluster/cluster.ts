/**
 * A whole cluster as an object: `await using cluster = await Cluster.start({ nodes: 3 })` in a test file, and what the
 * command line is made of.
 */
import { readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import { systemClock } from '../base/clock.ts';
import { messageOf, UserError } from '../base/errors.ts';
import { isIp } from '../base/ip.ts';
import { parseRange } from '../base/ip-range.ts';
import { type Logger, silentLogger } from '../base/log.ts';
import { isLocalhostOnly, type NodePortChoice, parseNodePortChoices } from '../base/node-port-choice.ts';
import { isReady } from '../kube/conditions.ts';
import { type ExecResult, execInPod } from '../kube/exec.ts';
import { HttpClient } from '../kube/http-client.ts';
import { type ClusterAccess, readKubeconfig } from '../kube/kubeconfig.ts';
import { internalAddresses } from '../kube/node-addresses.ts';
import type { Pod, Service } from '../kube/types.ts';
import { NetworkNamespace } from '../linux/netns.ts';
import { applyManifests, type Manifest } from './apply.ts';
import { clusterNetwork } from './cluster-network.ts';
import {
  type ClusterDescription,
  familiesOf,
  findDescription,
  type IpFamily,
  type PodNetworkMode,
  readDescription,
} from './description.ts';
import { requireKernel } from './kernel.ts';
import { type ClusterPaths, checkName, clusterPaths, DEFAULT_NAME } from './paths.ts';
import { openPodNamespace } from './pod-namespace.ts';
import { type ConnectResult, probeTcp } from './probe.ts';
import { DEFAULT_PROXY_MODE, PROXY_MODES, type ProxyMode, servesLocalhost } from './proxy-mode.ts';
import { requirePrograms, requireProxyPrograms, requireRoot } from './requirements.ts';
import { prepareServicePrograms } from './service-programs.ts';
import { prepare } from './setup.ts';
import { contextName, Supervisor } from './supervisor.ts';
import { existingClusters, tearDown } from './teardown.ts';
import { MAX_NODES, nodeAddresses, plug } from './underlay.ts';

/** A process that ends so often in a row while the cluster starts will not do better the next time. */
const GIVE_UP_AFTER = 3;

export interface ClusterOptions {
  /** Default "default". */
  readonly name?: string;
  /** Default 3. */
  readonly nodes?: number;
  readonly ipFamily?: IpFamily;
  readonly podNetwork?: PodNetworkMode;
  /** What puts Services into the nodes' kernels; default nftables. */
  readonly proxy?: ProxyMode;
  /**
   * CIDRs, ranges ("first-last") or addresses on the underlay that Services of type LoadBalancer get; empty for none.
   * Default 172.18.200.0/24 and fd00:18::c8:0/112.
   */
  readonly loadBalancerPool?: readonly string[];
  /**
   * Where every node serves NodePorts and host ports: "primary", "localhost", "all" or CIDRs of its addresses.
   * Default primary and localhost.
   */
  readonly nodeportAddresses?: readonly string[];
  /** Told of each step as it begins. */
  readonly progress?: (step: string) => void;
  readonly log?: Logger;
  /** How long the API and the nodes may take to become ready, in milliseconds; default 60,000. */
  readonly timeoutMs?: number;
  /** Aborted while it starts: the start is given up, everything is taken down, and `start` rejects with the reason. */
  readonly signal?: AbortSignal;
  /** Prefix lengths of each node's share of the pods' addresses; default 24 and 64. */
  readonly nodeMaskSizes?: { readonly ipv4?: number; readonly ipv6?: number };
  /** A node whose agent is silent for longer is NotReady, in milliseconds; default 40,000. */
  readonly nodeGracePeriodMs?: number;
}

/** Where a connection begins: a pod ("name" or "namespace/name"), a node, or the namespace outside the cluster. */
export type ConnectFrom = string | { readonly pod: string } | { readonly node: string } | 'outside';

export interface ConnectOptions {
  /** In milliseconds; default 1000. */
  readonly timeoutMs?: number;
}

export interface PodExecOptions {
  readonly container?: string;
  readonly stdin?: string | Uint8Array;
  readonly timeoutMs?: number;
}

export class Cluster implements AsyncDisposable {
  readonly name: string;
  readonly description: ClusterDescription;
  readonly client: HttpClient;
  readonly paths: ClusterPaths;
  readonly #access: ClusterAccess;
  readonly #supervisor: Supervisor | undefined;

  private constructor(description: ClusterDescription, supervisor?: Supervisor) {
    this.name = description.name;
    this.description = description;
    this.paths = clusterPaths(description.name);
    this.#access = readKubeconfig(this.paths.kubeconfig);
    this.#supervisor = supervisor;
    this.client = new HttpClient({ access: this.#access, userAgent: 'podwire' });
  }

  /** Starts a cluster and resolves when its API answers and every node is Ready. On failure nothing is left behind. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const name = checkName(options.name ?? DEFAULT_NAME);
    const nodes = options.nodes ?? 3;
    if (!Number.isInteger(nodes) || nodes < 1 || nodes > MAX_NODES) {
      throw new UserError(`a cluster has 1 to ${MAX_NODES} nodes, not ${nodes}`, { exitCode: 2 });
    }
    const { podNetwork = 'vxlan', proxy = DEFAULT_PROXY_MODE, ipFamily = 'ipv4' } = options;
    const { loadBalancerPool, nodeportAddresses } = options;
    checkPool(loadBalancerPool ?? []);
    checkProxy(proxy);
    checkNodePortAddresses(nodeportAddresses ?? [], proxy);
    requireRoot('starting a cluster');
    const runtime = requirePrograms();
    requireProxyPrograms(proxy);
    requireKernel({ podNetwork, proxy });
    if (existingClusters().includes(name)) {
      throw new UserError(`there is a cluster named ${JSON.stringify(name)} already`, {
        hint: `take it down with: podwire down --name ${name}   or choose another name with --name`,
        exitCode: 3,
      });
    }
    const progress = (step: string) => {
      options.signal?.throwIfAborted();
      options.progress?.(step);
    };
    const prepared = await prepare(progress);
    const servicePrograms = proxy === 'ebpf' ? await prepareServicePrograms(progress) : undefined;
    const families = familiesOf(ipFamily);
    progress(`starting ${nodes} node${nodes === 1 ? '' : 's'}`);
    const supervisor = new Supervisor({
      paths: clusterPaths(name),
      prepared,
      servicePrograms,
      runtime,
      network: clusterNetwork(families, { podNetwork, proxy, loadBalancerPool, nodeportAddresses }),
      nodeMaskSizes: options.nodeMaskSizes,
      nodeGracePeriodMs: options.nodeGracePeriodMs,
      log: options.log ?? silentLogger,
      description: {
        name,
        createdAt: new Date().toISOString(),
        ipFamily,
        podNetwork,
        proxy,
        nodes: Array.from({ length: nodes }, (_, i) => ({
          name: `node-${i + 1}`,
          addresses: nodeAddresses(families, i),
        })),
      },
    });
    try {
      const cluster = new Cluster(await supervisor.start(options.signal), supervisor);
      await cluster.#waitUntilReady(progress, options);
      return cluster;
    } catch (error) {
      const explained = options.signal?.aborted ? options.signal.reason : explain(error, supervisor);
      await supervisor.stop();
      await tearDown(name);
      throw explained;
    }
  }

  /** A cluster that runs already, started by another process. */
  static open(name = DEFAULT_NAME): Cluster {
    return new Cluster(readDescription(checkName(name)));
  }

  /** Whether there is a cluster of the name that can be opened. */
  static exists(name: string): boolean {
    return findDescription(checkName(name)) !== undefined;
  }

  /** The path of a kubeconfig with this cluster alone. */
  get kubeconfig(): string {
    return this.paths.kubeconfig;
  }

  /** The context name that `podwire up` merges into the user's kubeconfig. */
  get context(): string {
    return contextName(this.name);
  }

  get access(): ClusterAccess {
    return this.#access;
  }

  get nodes(): readonly string[] {
    return this.description.nodes.map((node) => node.name);
  }

  /** The processes that this object supervises; empty for a cluster that was opened. */
  get processes() {
    return this.#supervisor?.processes ?? [];
  }

  /** Creates or updates every object of the YAML or JSON text; the objects as the server has them. */
  async apply(manifests: string, options: { namespace?: string } = {}): Promise<Manifest[]> {
    const documents = parseAllDocuments(manifests).map((document) => {
      if (document.errors[0]) throw new UserError(`the manifest is not valid YAML: ${document.errors[0].message}`);
      return document.toJS() as Manifest | null;
    });
    return applyManifests(
      this.client,
      documents.filter((one) => one !== null),
      options.namespace ?? 'default',
    );
  }

  /** Runs a command in a pod ("name" or "namespace/name"). */
  exec(pod: string, command: readonly string[] | string, options: PodExecOptions = {}): Promise<ExecResult> {
    const { namespace, name } = podName(pod);
    const words = typeof command === 'string' ? ['sh', '-c', command] : command;
    return execInPod(this.#access, { ...options, namespace, pod: name, command: words });
  }

  /** What a container has written so far. */
  logs(pod: string, options: { container?: string; previous?: boolean } = {}): Promise<string> {
    const { namespace, name } = podName(pod);
    const query = new URLSearchParams();
    if (options.container) query.set('container', options.container);
    if (options.previous) query.set('previous', 'true');
    return this.client.text({ method: 'GET', path: `/api/v1/namespaces/${namespace}/pods/${name}/log`, query });
  }

  /** Resolves with the pod when it is Ready; rejects with its state when it is not in time. */
  async waitForPod(pod: string, options: { timeoutMs?: number } = {}): Promise<Pod> {
    return this.waitFor('Pod', podName(pod), isReady, options);
  }

  /** Resolves with the object when the condition holds; polls each 20 ms. */
  async waitFor<K extends 'Pod' | 'Service' | 'Deployment' | 'Node' | 'EndpointSlice' | 'Namespace'>(
    kind: K,
    at: { namespace?: string; name: string },
    holds: (object: import('../kube/types.ts').KindMap[K]) => boolean,
    { timeoutMs = 30_000 }: { timeoutMs?: number } = {},
  ): Promise<import('../kube/types.ts').KindMap[K]> {
    const deadline = systemClock.now() + timeoutMs;
    for (;;) {
      const object = await this.client.get(kind, at).catch(() => undefined);
      if (object && holds(object)) return object;
      if (systemClock.now() > deadline) {
        const state = JSON.stringify((object as { status?: unknown } | undefined)?.status ?? 'it does not exist');
        throw new Error(`${kind} ${at.name} is not as expected after ${timeoutMs} ms: ${state}`);
      }
      await systemClock.sleep(20);
    }
  }

  /**
   * Opens one TCP connection from a pod, a node or outside to "address:port", to a pod ("name:port") or to a Service
   * ("service/name:port"). Real packets from the caller's own network namespace.
   */
  async connect(from: ConnectFrom, to: string, options: ConnectOptions = {}): Promise<ConnectResult> {
    const { host, port } = splitTarget(to);
    const address = isIp(host) ? host : await this.#addressOf(host);
    using namespace = await this.openNamespace(from);
    return probeTcp(namespace, address, port, options.timeoutMs ?? 1000);
  }

  /** Opens the network namespace of a pod, a node or the outside. The caller closes it. */
  async openNamespace(from: ConnectFrom): Promise<NetworkNamespace> {
    if (from === 'outside') return NetworkNamespace.open(this.paths.namespace('outside'));
    if (typeof from === 'object' && 'node' in from) return NetworkNamespace.open(this.paths.namespace(from.node));
    const pod = await this.client.get('Pod', podName(typeof from === 'string' ? from : from.pod));
    const namespace = pod.spec.hostNetwork
      ? NetworkNamespace.open(this.paths.namespace(pod.spec.nodeName ?? ''))
      : openPodNamespace(this.paths, pod.metadata.uid);
    if (!namespace) throw new UserError(`pod ${pod.metadata.name} has no running container on this machine`);
    return namespace;
  }

  /** Cuts a node off from all others, as when its cable is pulled, until the result is disposed of; its pods run on. */
  async unplug(node: string): Promise<Disposable> {
    const addresses = internalAddresses(await this.client.get('Node', { name: node }));
    plug(this.paths, addresses, 'out');
    return { [Symbol.dispose]: () => plug(this.paths, addresses, 'in') };
  }

  /** Ends everything and removes every trace. */
  async stop(): Promise<void> {
    this.client.close();
    await this.#supervisor?.stop();
    await tearDown(this.name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #addressOf(host: string): Promise<string> {
    if (host.startsWith('service/')) {
      const service: Service = await this.client.get('Service', podName(host.slice('service/'.length)));
      const address = service.spec.clusterIP;
      if (!address || address === 'None') throw new UserError(`Service ${service.metadata.name} has no ClusterIP`);
      return address;
    }
    const pod = await this.client.get('Pod', podName(host));
    if (!pod.status?.podIP) throw new UserError(`pod ${pod.metadata.name} has no address yet`);
    return pod.status.podIP;
  }

  async #waitUntilReady(
    progress: (step: string) => void,
    { timeoutMs = 60_000, signal }: ClusterOptions,
  ): Promise<void> {
    const deadline = systemClock.now() + timeoutMs;
    const until = async (what: string, holds: () => Promise<boolean>) => {
      progress(`waiting for ${what}`);
      while (!(await holds().catch(() => false))) {
        const broken = this.#supervisor?.processes.find(({ failures }) => failures >= GIVE_UP_AFTER);
        if (broken) throw new UserError(`${what}: ${broken.name} ended ${broken.failures} times in a row`);
        if (systemClock.now() > deadline) throw new UserError(`${what}: not ready after ${timeoutMs / 1000} s`);
        await systemClock.sleep(15);
        signal?.throwIfAborted();
      }
    };
    await until('the API server', async () => (await this.client.text({ method: 'GET', path: '/readyz' })) === 'ok');
    await until('the nodes', async () => {
      const { items } = await this.client.list('Node');
      return items.filter(isReady).length === this.nodes.length;
    });
  }
}

function checkPool(pool: readonly string[]): void {
  try {
    for (const range of pool) parseRange(range);
  } catch (error) {
    throw new UserError(`load balancer pool: ${messageOf(error)}`, { exitCode: 2, cause: error });
  }
}

function checkProxy(proxy: ProxyMode): void {
  const modes: readonly ProxyMode[] = PROXY_MODES;
  if (!modes.includes(proxy)) {
    throw new UserError(`there is no proxy mode ${JSON.stringify(proxy)}`, {
      hint: `use one of ${modes.join(', ')}`,
      exitCode: 2,
    });
  }
}

function checkNodePortAddresses(texts: readonly string[], proxy: ProxyMode): void {
  let choices: readonly NodePortChoice[];
  try {
    choices = parseNodePortChoices(texts);
  } catch (error) {
    throw new UserError(`NodePort addresses: ${messageOf(error)}`, { exitCode: 2, cause: error });
  }
  const at = servesLocalhost(proxy) ? -1 : choices.findIndex(isLocalhostOnly);
  if (at >= 0) {
    throw new UserError(`NodePort addresses: the proxy mode ${proxy} serves none at ${texts[at]}`, { exitCode: 2 });
  }
}

function podName(text: string): { namespace: string; name: string } {
  const [first, second] = text.split('/') as [string, string | undefined];
  return second === undefined ? { namespace: 'default', name: first } : { namespace: first, name: second };
}

function splitTarget(target: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(target);
  if (!match) throw new UserError(`${JSON.stringify(target)} is not of the form host:port`, { exitCode: 2 });
  return { host: match[1] ?? match[2]!, port: Number(match[3]) };
}

/** Adds what the processes said last to a failed start. */
function explain(error: unknown, supervisor: Supervisor): unknown {
  const troubled = supervisor.processes.filter((one) => one.lastExit !== undefined);
  if (troubled.length === 0 || !(error instanceof Error)) return error;
  const [first] = troubled.toSorted((a, b) => b.failures - a.failures) as [(typeof troubled)[number]];
  const lines = readFileSync(first.logFile, 'utf8').trim().split('\n').slice(-3).join(' | ');
  return new UserError(`${error.message}; ${first.name} ended with ${first.lastExit}: ${lines.slice(-600)}`, {
    cause: error,
  });
}
