/**
 * The Node object of this machine: made or brought up to date at the start, its Ready condition, and the Lease by which
 * controllers see that it lives. The status is written when something of it changes or when somebody else has changed it,
 * the Lease each 10 s (the kubelet's node lease, KEP-589).
 */
import { readFile } from 'node:fs/promises';
import { arch, release } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { type Clock, systemClock, type Timer } from '../../base/clock.ts';
import { codeOf, messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { KubeClient } from '../../kube/client.ts';
import { isAlreadyExists, isConflict, isNotFound } from '../../kube/status.ts';
import type { corev1, Lease, Node } from '../../kube/types.ts';
import type { CriRuntime } from './cri/runtime.ts';
import type { NodeResources } from './node-resources.ts';

export interface NodeRegistrationOptions {
  readonly nodeName: string;
  /** Both families, the preferred one first. */
  readonly nodeIPs: readonly string[];
  readonly client: KubeClient;
  readonly runtime: CriRuntime;
  readonly resources: NodeResources;
  readonly kubeletPort: number;
  readonly networkReady: () => boolean;
  readonly log: Logger;
  /** topology.kubernetes.io/zone, where there is one. */
  readonly zone?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** How long the node counts as alive after each sign of life, in milliseconds; default 40,000. */
  readonly leaseDurationMs?: number;
  readonly clock?: Clock;
}

const LEASE_NAMESPACE = 'kube-node-lease';
const LEASE_DURATION_MS = 40_000;
/** The kubelet renews after a quarter of the duration. */
const RENEWALS_PER_LEASE = 4;
/** A status that has not changed is told again this often, as the kubelet does (nodeStatusReportFrequency). */
const STATUS_REPEAT_MS = 5 * 60_000;
/** While the network or the runtime is not ready, it is looked at this often. */
const UNREADY_LOOK_MS = 500;
const LOOK_MS = 10_000;
const RETRY_MS = 1_000;
/** How long a restarted agent may take before its node counts as not ready. */
const RESTART_GRACE_MS = 10_000;
/** The newest that podwire's API speaks. */
const KUBELET_VERSION = 'v1.36.0';
/** The kubelet's nodeStatusMaxImages. */
const MAX_IMAGES = 50;

type NodeStatus = NonNullable<Node['status']>;

export class NodeRegistration implements Startable {
  readonly #options: NodeRegistrationOptions;
  readonly #clock: Clock;
  #signal: AbortSignal | undefined;
  #written: { status: NodeStatus; at: number; version: number } | undefined;
  #info: corev1.NodeSystemInfo | undefined;
  #uid: string | undefined;
  /** Of the Node object that a former agent left. */
  #conditionsBefore: readonly corev1.NodeCondition[] = [];
  #startedAt = 0;
  #lease: Lease | undefined;
  #looking: Promise<void> | undefined;
  #again = false;
  #timer: Timer | undefined;
  #leaseTimer: Timer | undefined;

  constructor(options: NodeRegistrationOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Resolves when the Node object exists. */
  async start(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    this.#startedAt = this.#clock.now();
    signal.addEventListener('abort', () => this.#stop(), { once: true });
    await this.#retrying(() => this.#ensureNode(), signal);
    void this.#renewLease();
    this.refresh();
  }

  /** Something may have changed: looks now. */
  refresh(): void {
    if (!this.#signal || this.#signal.aborted) return;
    this.#again = true;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
  }

  /**
   * The Node object as the API has it, or undefined when it was deleted. A controller marks a silent node; as soon as the
   * agent learns of it, it says that it is alive.
   */
  nodeChanged(node: Node | undefined): void {
    const written = this.#written;
    if (!written) return;
    const conditions = node?.status?.conditions ?? [];
    const isShown = ({ type, status }: corev1.NodeCondition) =>
      conditions.some((one) => one.type === type && one.status === status);
    const stale = node && Number(node.metadata.resourceVersion) <= written.version;
    if (stale || (node && written.status.conditions?.every(isShown))) return;
    this.#written = undefined;
    this.#conditionsBefore = conditions;
    this.refresh();
    this.#leaseTimer?.cancel();
    void this.#renewLease();
  }

  #stop(): void {
    this.#timer?.cancel();
    this.#leaseTimer?.cancel();
  }

  async #retrying(action: () => Promise<void>, signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        return await action();
      } catch (error) {
        signal.throwIfAborted();
        this.#options.log.warn({ error }, `registering the node: ${messageOf(error)}`);
        await this.#clock.sleep(RETRY_MS, signal);
      }
    }
  }

  async #ensureNode(): Promise<void> {
    const { client, nodeName } = this.#options;
    const labels = this.#labels();
    this.#info ??= await this.#systemInfo();
    try {
      const status = await this.#status();
      const node = await client.create('Node', { metadata: { name: nodeName, labels }, spec: {}, status });
      this.#uid = node.metadata.uid;
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const node = await client.patch('Node', { name: nodeName }, { metadata: { labels } });
      this.#uid = node.metadata.uid;
      this.#conditionsBefore = node.status?.conditions ?? [];
    }
  }

  #labels(): Record<string, string> {
    const { nodeName, zone, labels } = this.#options;
    const architecture = goArchitecture();
    return {
      'kubernetes.io/hostname': nodeName,
      'kubernetes.io/os': 'linux',
      'kubernetes.io/arch': architecture,
      'beta.kubernetes.io/os': 'linux',
      'beta.kubernetes.io/arch': architecture,
      ...(zone ? { 'topology.kubernetes.io/zone': zone } : {}),
      ...labels,
    };
  }

  async #look(): Promise<void> {
    while (this.#again && !this.#signal?.aborted) {
      this.#again = false;
      let wait = RETRY_MS;
      try {
        const status = await this.#status();
        const ready = isReady(status.conditions);
        if (ready || !this.#settlingDown()) await this.#write(status);
        wait = ready ? LOOK_MS : UNREADY_LOOK_MS;
      } catch (error) {
        if (this.#signal?.aborted) return;
        this.#options.log.warn({ error }, `node status: ${messageOf(error)}`);
        if (isNotFound(error)) await this.#ensureNode().catch(() => {});
      }
      this.#timer?.cancel();
      this.#timer = this.#clock.after(wait, () => this.refresh());
    }
  }

  /**
   * A new agent finds its node Ready and needs a moment for its own parts; pods run on meanwhile, so the node does not
   * flap.
   */
  #settlingDown(): boolean {
    const wasReady = !this.#written && isReady(this.#conditionsBefore);
    return wasReady && this.#clock.now() - this.#startedAt < RESTART_GRACE_MS;
  }

  async #write(status: NodeStatus): Promise<void> {
    const now = this.#clock.now();
    const before = this.#written;
    const same = before && isDeepStrictEqual(comparable(before.status), comparable(status));
    if (same && now - before.at < STATUS_REPEAT_MS) return;
    const { client, nodeName } = this.#options;
    const node = await client.patch('Node', { name: nodeName }, { status }, { subresource: 'status' });
    this.#written = { status, at: now, version: Number(node.metadata.resourceVersion) };
  }

  async #status(): Promise<NodeStatus> {
    const { nodeName, nodeIPs, resources, kubeletPort, runtime } = this.#options;
    const images = await runtime.listImages().catch(() => []);
    return {
      addresses: [
        ...nodeIPs.map((address) => ({ type: 'InternalIP', address })),
        { type: 'Hostname', address: nodeName },
      ],
      capacity: resources.capacity,
      allocatable: resources.capacity,
      conditions: await this.#conditions(),
      daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } },
      ...(this.#info ? { nodeInfo: this.#info } : {}),
      images: images
        .toSorted((a, b) => b.size - a.size)
        .slice(0, MAX_IMAGES)
        .map(({ repoTags, repoDigests, size }) => ({ names: [...repoDigests, ...repoTags], sizeBytes: size })),
    };
  }

  async #conditions(): Promise<corev1.NodeCondition[]> {
    const now = new Date(this.#clock.now()).toISOString().replace(/\.\d{3}Z$/, 'Z');
    const before = this.#written?.status.conditions ?? this.#conditionsBefore;
    const pressure = (type: string, word: string, message: string) => ({
      type,
      status: 'False',
      reason: `KubeletHas${word}`,
      message,
    });
    const conditions = [
      pressure('MemoryPressure', 'SufficientMemory', 'kubelet has sufficient memory available'),
      pressure('DiskPressure', 'NoDiskPressure', 'kubelet has no disk pressure'),
      pressure('PIDPressure', 'SufficientPID', 'kubelet has sufficient PID available'),
      await this.#readyCondition(),
    ];
    return conditions.map((condition) => {
      const old = before.find(({ type }) => type === condition.type);
      const since = old?.status === condition.status ? old.lastTransitionTime : undefined;
      return { ...condition, lastHeartbeatTime: now, lastTransitionTime: since ?? now };
    });
  }

  async #readyCondition() {
    const notReady = (message: string) => ({ type: 'Ready', status: 'False', reason: 'KubeletNotReady', message });
    if (!this.#options.networkReady())
      return notReady('container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady');
    try {
      const runtime = (await this.#options.runtime.status()).find(({ type }) => type === 'RuntimeReady');
      if (!runtime?.status) return notReady(`container runtime not ready: ${runtime?.message ?? 'no RuntimeReady'}`);
    } catch (error) {
      return notReady(`container runtime is down: ${messageOf(error)}`);
    }
    return { type: 'Ready', status: 'True', reason: 'KubeletReady', message: 'kubelet is posting ready status' };
  }

  async #systemInfo(): Promise<corev1.NodeSystemInfo> {
    const read = async (path: string) => {
      try {
        return (await readFile(path, 'utf8')).trim();
      } catch (error) {
        if (['ENOENT', 'EACCES'].includes(codeOf(error) ?? '')) return '';
        throw error;
      }
    };
    const version = await this.#options.runtime.version();
    const machineID = await read('/etc/machine-id');
    return {
      machineID,
      systemUUID: (await read('/sys/class/dmi/id/product_uuid')) || machineID,
      bootID: await read('/proc/sys/kernel/random/boot_id'),
      kernelVersion: release(),
      osImage: /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(await read('/etc/os-release'))?.[1] ?? 'Linux',
      containerRuntimeVersion: `${version.runtimeName}://${version.runtimeVersion}`,
      kubeletVersion: KUBELET_VERSION,
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: goArchitecture(),
    };
  }

  /** Never rejects: a Lease that could not be renewed is tried again soon. */
  async #renewLease(): Promise<void> {
    let wait = (this.#options.leaseDurationMs ?? LEASE_DURATION_MS) / RENEWALS_PER_LEASE;
    try {
      await this.#renewOnce();
    } catch (error) {
      if (this.#signal?.aborted) return;
      this.#lease = undefined;
      wait = RETRY_MS;
      if (!isConflict(error)) this.#options.log.warn({ error }, `node lease: ${messageOf(error)}`);
    }
    if (this.#signal?.aborted) return;
    this.#leaseTimer = this.#clock.after(wait, () => void this.#renewLease());
  }

  async #renewOnce(): Promise<void> {
    const { client, nodeName, leaseDurationMs = LEASE_DURATION_MS } = this.#options;
    // MicroTime has six digits.
    const renewTime = new Date(this.#clock.now()).toISOString().replace('Z', '000Z');
    const at = { namespace: LEASE_NAMESPACE, name: nodeName };
    const spec = { holderIdentity: nodeName, leaseDurationSeconds: Math.ceil(leaseDurationMs / 1000), renewTime };
    if (this.#lease) {
      this.#lease = await client.update('Lease', { ...this.#lease, spec });
      return;
    }
    const owner = { apiVersion: 'v1', kind: 'Node', name: nodeName, uid: this.#uid! };
    try {
      this.#lease = await client.create('Lease', { metadata: { ...at, ownerReferences: [owner] }, spec });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      this.#lease = await client.patch('Lease', at, { metadata: { ownerReferences: [owner] }, spec });
    }
  }
}

function isReady(conditions: readonly corev1.NodeCondition[] | undefined): boolean {
  return conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}

/** The machine's architecture as Go, and so Kubernetes, calls it. */
function goArchitecture(): string {
  return { x64: 'amd64', ia32: '386' }[arch() as string] ?? arch();
}

/** Without the heartbeat, which is no change. */
function comparable(status: NodeStatus): object {
  return { ...status, conditions: status.conditions?.map(({ lastHeartbeatTime: _, ...condition }) => condition) };
}
