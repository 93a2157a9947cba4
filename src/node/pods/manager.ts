/**
 * The pods of this node: a worker for each, told of changes by the Pod informer, by the runtime's events, and by a listing
 * of the runtime now and then.
 *
 * How a container's end is noticed: containerd's event stream tells at once (a few milliseconds to the API's status). The
 * stream may lose events, so everything is listed each 10 s as well, and each second while the stream is down.
 */
import { readFileSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock, type Timer } from '../../base/clock.ts';
import { codeOf, messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { Informer, InformerSource } from '../../kube/informer.ts';
import type { Pod } from '../../kube/types.ts';
import { parseResolvConf } from './config/network-files.ts';
import { ConfigCache } from './config-cache.ts';
import type { CriRuntime, RuntimeEvents } from './cri/runtime.ts';
import { ImageManager } from './images/image-manager.ts';
import { rotateLog } from './log-rotation.ts';
import type { NodeResources } from './node-resources.ts';
import { removeCgroup } from './pod-cgroups.ts';
import { WorkerStreams } from './pod-streams.ts';
import { groupByPod, type Listing, orphan } from './runtime-listing.ts';
import type {
  AttachOptions,
  ExecOptions,
  LogFile,
  LogFileOptions,
  PodStreams,
  PortForwardOptions,
} from './streaming/pod-streams.ts';
import type { VolumeMounts } from './volumes/mounts.ts';
import type { TokenSource } from './volumes/tokens.ts';
import { VolumeManager } from './volumes/volume-manager.ts';
import type { EventSink, WorkerContext } from './worker/context.ts';
import { PodWorker } from './worker/pod-worker.ts';

export interface PodManagerOptions {
  readonly nodeName: string;
  /** Both families, the preferred one first. */
  readonly nodeIPs: readonly string[];
  readonly client: KubeClient;
  /** Of this node's pods. */
  readonly podInformer: InformerSource<Pod>;
  readonly serviceInformer: Informer<'Service'>;
  readonly log: Logger;
  readonly runtime: CriRuntime;
  readonly runtimeEvents: RuntimeEvents;
  readonly events: EventSink;
  readonly resources: NodeResources;
  readonly dirs: {
    readonly pods: string;
    readonly logs: string;
    /** For Secrets, where there is one in memory. */
    readonly memory?: string;
  };
  readonly mounts: VolumeMounts;
  readonly clusterDns: readonly string[];
  readonly clusterDomain: string;
  readonly networkReady: () => boolean;
  /** The addresses that this node's network plugin has given to a sandbox: saves a question to the runtime. */
  readonly addressesOf?: (sandboxId: string) => readonly string[] | undefined;
  readonly cgroupParent?: (pod: Pod) => string | undefined;
  readonly tokens?: TokenSource;
  /** Whether image registries can be reached; default isolated. */
  readonly registries?: 'reachable' | 'isolated';
  /** Awaited before the containers of a deleted pod are stopped, within its grace period. */
  readonly beforeStop?: (pod: Pod) => Promise<void>;
  /** The node's own files; defaults /etc/resolv.conf and /etc/hosts. */
  readonly resolvConf?: string;
  readonly hostsFile?: string;
  readonly clock?: Clock;
}

/** Between listings of the runtime, in milliseconds. */
const RELIST_WITH_EVENTS_MS = 10_000;
const RELIST_WITHOUT_EVENTS_MS = 1_000;
const LOG_CHECK_MS = 10_000;
/** Until containerd answers at the start. */
const CONNECT_RETRY_MS = 20;
/** Ends that were told before the worker knew the container: so many are remembered. */
const MAX_EARLY_EXITS = 1000;

export class PodManager implements Startable, PodStreams {
  readonly #options: PodManagerOptions;
  readonly #clock: Clock;
  readonly #workers = new Map<string, PodWorker>();
  readonly #byCriId = new Map<string, PodWorker>();
  readonly #earlyExits = new Set<string>();
  /** Pods that are gone from here while the informer still shows them. */
  readonly #done = new Set<string>();
  readonly #streams: WorkerStreams;
  #context: WorkerContext | undefined;
  #signal: AbortSignal | undefined;
  #eventsConnected = false;
  #relisting: Promise<void> | undefined;
  #relistTimer: Timer | undefined;
  #logTimer: Timer | undefined;
  readonly #stopped = Promise.withResolvers<void>();

  constructor(options: PodManagerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const workerOf = (namespace: string, name: string) => this.#workerOf(namespace, name);
    this.#streams = new WorkerStreams({ runtime: options.runtime, logsDir: options.dirs.logs, workerOf });
  }

  /** Resolves when what was under way at the end has been finished or given up. */
  get stopped(): Promise<void> {
    return this.#stopped.promise;
  }

  async start(signal: AbortSignal): Promise<void> {
    const { dirs, podInformer, runtimeEvents } = this.#options;
    this.#signal = signal;
    await mkdir(dirs.pods, { recursive: true, mode: 0o755 });
    await mkdir(dirs.logs, { recursive: true, mode: 0o755 });
    this.#context = this.#buildContext(signal);
    await this.#connected(signal);
    runtimeEvents.subscribe(
      {
        onExit: (id) => this.#onExit(id),
        onOutOfMemory: (id) => this.#byCriId.get(id)?.outOfMemory(id),
        onConnected: () => this.#onEvents(true),
        onLost: () => this.#onEvents(false),
      },
      signal,
    );
    const [listing] = await Promise.all([this.#list(), podInformer.start(signal)]);
    this.#adopt(listing);
    await this.#removeLeftovers();
    this.#planRelist();
    this.#planLogCheck();
    signal.addEventListener('abort', () => void this.#stop(), { once: true });
  }

  execUrl(options: ExecOptions): Promise<string> {
    return this.#streams.execUrl(options);
  }

  attachUrl(options: AttachOptions): Promise<string> {
    return this.#streams.attachUrl(options);
  }

  portForwardUrl(options: PortForwardOptions): Promise<string> {
    return this.#streams.portForwardUrl(options);
  }

  logFile(options: LogFileOptions): Promise<LogFile> {
    return this.#streams.logFile(options);
  }

  /** The pods that have a worker here. */
  pods(): readonly Pod[] {
    return [...this.#workers.values()].map(({ pod }) => pod);
  }

  /** Resolves when all workers rest: for tests and an orderly end. */
  async idle(): Promise<void> {
    await Promise.all([...this.#workers.values()].map((worker) => worker.idle()));
  }

  #buildContext(signal: AbortSignal): WorkerContext {
    const options = this.#options;
    const clock = this.#clock;
    const { client, log, runtime, resources, dirs, serviceInformer } = options;
    const { tokens, mounts } = options;
    const config = new ConfigCache({
      client,
      clock,
      log,
      onChange: (uid) => this.#workers.get(uid)?.configChanged(),
    });
    signal.addEventListener('abort', () => config.close(), { once: true });
    return {
      hostIPs: options.nodeIPs,
      nodeMemory: resources.memoryBytes,
      allocatable: resources.capacity,
      client,
      runtime,
      images: new ImageManager({ runtime, clock, registries: options.registries ?? 'isolated' }),
      volumes: new VolumeManager({
        podsDir: dirs.pods,
        ...(dirs.memory ? { memoryDir: dirs.memory } : {}),
        mounts,
        clock,
        ...(tokens ? { tokens } : {}),
      }),
      config,
      services: serviceInformer,
      servicesSynced: serviceInformer.start(signal).catch(() => {}),
      events: options.events,
      clock,
      log,
      signal,
      logsDir: dirs.logs,
      clusterDns: options.clusterDns,
      clusterDomain: options.clusterDomain,
      nodeResolver: () => parseResolvConf(readIfAny(options.resolvConf ?? '/etc/resolv.conf')),
      nodeHostsFile: () => readIfAny(options.hostsFile ?? '/etc/hosts'),
      networkReady: options.networkReady,
      addressesOf: options.addressesOf ?? (() => undefined),
      cgroupParent: options.cgroupParent ?? (() => undefined),
      removeCgroup: (parent) => removeCgroup(parent),
      beforeStop: options.beforeStop ?? (async () => {}),
    };
  }

  async #connected(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      try {
        await this.#options.runtime.version();
        return;
      } catch (error) {
        this.#options.log.debug({ error }, `waiting for the container runtime: ${messageOf(error)}`);
        await this.#clock.sleep(CONNECT_RETRY_MS, signal);
      }
    }
  }

  async #list(): Promise<Listing> {
    const { runtime } = this.#options;
    const [sandboxes, containers] = await Promise.all([runtime.listPodSandbox(), runtime.listContainers()]);
    return groupByPod(sandboxes, containers);
  }

  /** Workers for all pods of the API and for all that the runtime still holds; then every change as it comes. */
  #adopt(listing: Listing): void {
    const { podInformer } = this.#options;
    podInformer.addHandler({
      onAdd: (pod) => this.#put(pod, listing.has(pod.metadata.uid) ? 'look' : 'nothing'),
      onUpdate: (_, pod) => this.#put(pod, 'nothing'),
      onDelete: (pod) => {
        this.#done.delete(pod.metadata.uid);
        this.#workers.get(pod.metadata.uid)?.objectGone();
      },
    });
    this.#stopOrphans(listing);
  }

  #put(pod: Pod, adopt: 'look' | 'nothing'): void {
    const { uid } = pod.metadata;
    if (pod.spec.nodeName !== this.#options.nodeName || this.#done.has(uid)) return;
    const known = this.#workers.get(uid);
    if (known) known.update(pod);
    else this.#addWorker(pod, adopt).update(pod);
  }

  #addWorker(pod: Pod, adopt: 'look' | 'nothing'): PodWorker {
    const { uid } = pod.metadata;
    const worker = new PodWorker({
      context: this.#context!,
      pod,
      adopt,
      onId: (id) => {
        this.#byCriId.set(id, worker);
        if (this.#earlyExits.delete(id)) worker.exited(id);
      },
      onGone: () => this.#removeWorker(uid),
    });
    this.#workers.set(uid, worker);
    return worker;
  }

  #removeWorker(uid: string): void {
    const worker = this.#workers.get(uid);
    if (!worker) return;
    this.#workers.delete(uid);
    for (const [id, owner] of this.#byCriId) if (owner === worker) this.#byCriId.delete(id);
    const { namespace, name } = worker.identity;
    if (this.#options.podInformer.get(`${namespace}/${name}`)?.metadata.uid === uid) this.#done.add(uid);
  }

  /** Pods that the runtime holds and the API does not know any more. */
  #stopOrphans(listing: Listing): void {
    const known = new Set([...this.#options.podInformer.list()].map(({ metadata }) => metadata.uid));
    for (const [uid, { identity }] of listing) {
      if (known.has(uid) || this.#workers.has(uid)) continue;
      this.#options.log.info({ ...identity }, 'stopping a pod that the API does not have any more');
      this.#addWorker(orphan(identity), 'look').objectGone();
    }
  }

  /** Folders of pods that neither the API nor the runtime knows. */
  async #removeLeftovers(): Promise<void> {
    const { log, dirs } = this.#options;
    for (const uid of await this.#context!.volumes.podsOnDisk()) {
      if (this.#workers.has(uid)) continue;
      await this.#context!.volumes.tearDown(uid).catch((error: unknown) =>
        log.warn({ uid, error }, `left volumes: ${messageOf(error)}`),
      );
    }
    for (const name of await readdir(dirs.logs)) {
      const uid = name.split('_')[2];
      if (uid && !this.#workers.has(uid)) await rm(join(dirs.logs, name), { recursive: true, force: true });
    }
  }

  #workerOf(namespace: string, name: string): PodWorker | undefined {
    const uid = this.#options.podInformer.get(`${namespace}/${name}`)?.metadata.uid;
    return uid === undefined ? undefined : this.#workers.get(uid);
  }

  #onExit(id: string): void {
    const worker = this.#byCriId.get(id);
    if (worker) return worker.exited(id);
    this.#earlyExits.add(id);
    if (this.#earlyExits.size <= MAX_EARLY_EXITS) return;
    for (const oldest of this.#earlyExits) {
      this.#earlyExits.delete(oldest);
      break;
    }
  }

  #onEvents(connected: boolean): void {
    if (this.#eventsConnected === connected) return;
    this.#eventsConnected = connected;
    // What happened while nobody told is found by a listing.
    void this.#relist();
  }

  #planRelist(): void {
    if (this.#signal?.aborted) return;
    this.#relistTimer?.cancel();
    const wait = this.#eventsConnected ? RELIST_WITH_EVENTS_MS : RELIST_WITHOUT_EVENTS_MS;
    this.#relistTimer = this.#clock.after(wait, () => void this.#relist());
  }

  /** Compares the runtime with what the workers know. Never rejects. */
  #relist(): Promise<void> {
    this.#relisting ??= this.#relistOnce().finally(() => {
      this.#relisting = undefined;
      this.#planRelist();
    });
    return this.#relisting;
  }

  async #relistOnce(): Promise<void> {
    if (this.#signal?.aborted || !this.#context) return;
    try {
      const listing = await this.#list();
      for (const [uid, worker] of this.#workers) {
        const { sandboxes = [], containers = [] } = listing.get(uid) ?? {};
        worker.relisted(sandboxes, containers);
      }
      this.#stopOrphans(listing);
    } catch (error) {
      if (!this.#signal?.aborted)
        this.#options.log.warn({ error }, `listing the container runtime: ${messageOf(error)}`);
    }
  }

  #planLogCheck(): void {
    if (this.#signal?.aborted) return;
    this.#logTimer = this.#clock.after(LOG_CHECK_MS, () => void this.#checkLogs().finally(() => this.#planLogCheck()));
  }

  async #checkLogs(): Promise<void> {
    const { runtime, log } = this.#options;
    const options = { reopen: (id: string) => runtime.reopenContainerLog(id), now: () => this.#clock.now() };
    for (const worker of this.#workers.values())
      for (const { id, state, logPath } of worker.runtime.containers)
        if (state === 'running' && logPath)
          await rotateLog(id, logPath, options).catch((error: unknown) =>
            log.warn({ id, error }, `log rotation: ${messageOf(error)}`),
          );
  }

  async #stop(): Promise<void> {
    this.#relistTimer?.cancel();
    this.#logTimer?.cancel();
    for (const worker of this.#workers.values()) worker.rest();
    await this.#relisting;
    await this.idle();
    this.#stopped.resolve();
  }
}

function readIfAny(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return '';
    throw error;
  }
}
