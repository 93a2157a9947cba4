/**
 * The worker of one pod: brings what runs to what the API says, one step after the other, and tells the API. It is poked
 * when either side may have changed and looks at both anew (level-triggered); workers of different pods run side by side.
 *
 *            ┌────────────── poked ──────────────┐
 *   idle ──> refresh ──> to end? ──no──> actions ──> kill / sandbox / start ──> status ──> idle
 *                          │ yes
 *                          └──> preStop, stop, sandbox down, status, files gone, object deleted, sandbox removed
 */
import type { Timer } from '../../../base/clock.ts';
import { isAbort, messageOf } from '../../../base/errors.ts';
import type { corev1, Pod, PodStatus } from '../../../kube/types.ts';
import type { Container, PodSandbox } from '../cri/types.ts';
import { computeActions, type Kill } from '../state/actions.ts';
import { allContainers, findContainer, initContainers } from '../state/containers.ts';
import {
  type ContainerRecord,
  currentSandbox,
  garbage,
  latestContainer,
  type PodIdentity,
  type PodRuntime,
} from '../state/pod-runtime.ts';
import { buildPodStatus, type WaitingReason } from '../state/status.ts';
import { unsupportedVolume } from '../volumes/volume-manager.ts';
import { messageFile } from './container-mounts.ts';
import { ContainerStarter } from './container-starter.ts';
import { ContainerStopper } from './container-stopper.ts';
import { podEvent, type WorkerContext } from './context.ts';
import {
  beforeStop,
  DEFAULT_GRACE_SECONDS,
  deleteObject,
  deletionGrace,
  removeTraces,
  stopInOrder,
} from './pod-ending.ts';
import { PodFiles } from './pod-files.ts';
import { PodProbes } from './pod-probes.ts';
import { PodSandboxes } from './pod-sandbox.ts';
import { RuntimeView } from './runtime-view.ts';
import { StatusWriter, type Urgency } from './status-writer.ts';
import { terminationMessage } from './termination-message.ts';

export interface PodWorkerOptions {
  readonly context: WorkerContext;
  readonly pod: Pod;
  /** The runtime may hold something of this pod: look before anything is done. */
  readonly adopt: 'nothing' | 'look';
  /** Tells which pod a CRI id belongs to. */
  readonly onId: (id: string) => void;
  /** The pod and all that was made for it are gone from this node. */
  readonly onGone: () => void;
}

/** Waits after a failed sandbox, in milliseconds, doubled. */
const SANDBOX_RETRY_MS = [500, 15_000] as const;
/** How often a pod looks whether the node's network is there. */
const NETWORK_WAIT_MS = 50;
/** What a pod gets whose object was deleted without grace. */
const FORCED_GRACE_SECONDS = 1;

export class PodWorker {
  readonly identity: PodIdentity;
  readonly #options: PodWorkerOptions;
  readonly #context: WorkerContext;
  readonly #view: RuntimeView;
  readonly #files: PodFiles;
  readonly #sandboxes: PodSandboxes;
  readonly #starter: ContainerStarter;
  readonly #stopper: ContainerStopper;
  readonly #probes: PodProbes;
  readonly #writer: StatusWriter;
  readonly #waiting = new Map<string, WaitingReason>();
  /** Ends what a start waits for, once the pod is to end. */
  readonly #ending = new AbortController();
  #pod: Pod;
  #running: Promise<void> | undefined;
  #dirty = false;
  #configChanged = false;
  #objectGone = false;
  #failure: WaitingReason | undefined;
  #published: PodStatus | undefined;
  #finished = false;
  #gone = false;
  #failures = 0;
  #timer: { timer: Timer; at: number } | undefined;

  constructor(options: PodWorkerOptions) {
    const { context, pod } = options;
    this.#options = options;
    this.#context = context;
    this.#pod = pod;
    this.identity = { namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid };
    const { runtime, clock } = context;
    const { uid } = this.identity;
    const onExited = (record: ContainerRecord) => this.#withMessage(record);
    this.#view = new RuntimeView({ runtime, clock, uid, onId: options.onId, onExited });
    if (options.adopt === 'look') this.#view.suspect();
    this.#files = new PodFiles(context);
    this.#sandboxes = new PodSandboxes(context, this.#view);
    this.#starter = new ContainerStarter({ context, view: this.#view, files: this.#files });
    this.#stopper = new ContainerStopper(context, this.#view);
    this.#probes = new PodProbes(context, () => this.poke());
    const { client, log, signal } = context;
    this.#writer = new StatusWriter({
      client,
      clock,
      log,
      signal,
      onWritten: (written) => this.#learn(written),
      onConflict: () => this.poke(),
    });
  }

  get pod(): Pod {
    return this.#pod;
  }

  /** What the runtime holds of the pod, as far as is known. */
  get runtime(): PodRuntime {
    return this.#view.current;
  }

  /** The API's object has changed. */
  update(pod: Pod): void {
    this.#learn(pod);
    const grace = pod.metadata.deletionTimestamp ? deletionGrace(pod) : undefined;
    if (grace !== undefined) this.#end(grace);
    this.poke();
  }

  /** The API's object is gone: what still runs is stopped without delay. */
  objectGone(): void {
    this.#objectGone = true;
    this.#end(FORCED_GRACE_SECONDS);
    this.poke();
  }

  /** A ConfigMap or Secret that the pod uses has changed. */
  configChanged(): void {
    this.#configChanged = true;
    this.poke();
  }

  /** The main process of a sandbox or container of this pod has ended. */
  exited(id: string): void {
    this.#view.suspectExit(id);
    this.poke();
  }

  outOfMemory(id: string): void {
    this.#view.noteOutOfMemory(id);
  }

  /** A listing of the runtime that was taken just now, of this pod only. */
  relisted(sandboxes: readonly PodSandbox[], containers: readonly Container[]): void {
    // While the worker acts its own view is ahead of any listing; it is asked again by the next one.
    if (this.#running || !this.#view.differs(sandboxes, containers)) return;
    this.#view.suspect();
    this.poke();
  }

  /** Looks at everything soon. */
  poke(): void {
    this.#dirty = true;
    if (this.#gone || this.#context.signal.aborted) return;
    this.#running ??= this.#run();
  }

  /** Resolves when the worker rests. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
    await this.#writer.flush();
  }

  #learn(pod: Pod): void {
    const current = Number(this.#pod.metadata.resourceVersion);
    // The answer to our own patch may be newer than what the informer brings.
    if (!(Number(pod.metadata.resourceVersion) < current)) this.#pod = pod;
  }

  #end(graceSeconds: number): void {
    this.#stopper.limit(graceSeconds);
    this.#ending.abort(new Error('the pod is to end'));
  }

  /** The agent ends: containers run on, probes do not. */
  rest(): void {
    this.#timer?.timer.cancel();
    this.#probes.stop();
    this.#ending.abort(this.#context.signal.reason);
  }

  async #run(): Promise<void> {
    // Let what came in together be seen together.
    await Promise.resolve();
    while (this.#dirty && !this.#gone && !this.#context.signal.aborted) {
      this.#dirty = false;
      try {
        await this.#sync();
        this.#failures = 0;
      } catch (error) {
        if (this.#context.signal.aborted) break;
        this.#failures++;
        const { name, namespace } = this.identity;
        if (!isAbort(error))
          this.#context.log.warn({ pod: `${namespace}/${name}`, error }, `pod worker: ${messageOf(error)}`);
        const [first, longest] = SANDBOX_RETRY_MS;
        this.#view.suspect();
        this.#wake(Math.min(longest, first * 2 ** (this.#failures - 1)));
        this.#publish();
      }
    }
    this.#running = undefined;
  }

  /** Pokes itself later; the earliest wish counts. */
  #wake(ms: number): void {
    const { clock } = this.#context;
    const at = clock.now() + Math.max(1, ms);
    if (this.#timer && this.#timer.at <= at && this.#timer.at > clock.now()) return;
    this.#timer?.timer.cancel();
    const timer = clock.after(Math.max(1, ms), () => {
      this.#timer = undefined;
      this.poke();
    });
    this.#timer = { timer, at };
  }

  async #sync(): Promise<void> {
    await this.#view.refresh();
    if (this.#objectGone || this.#pod.metadata.deletionTimestamp) return this.#terminate();
    if (this.#finished || hasEnded(this.#pod)) return this.#finish();
    if (this.#deadlinePassed()) return this.#finish();
    const refusal = unsupportedVolume(this.#pod);
    // What has ended is told before it is mended: no Service shall offer it meanwhile.
    if (this.#view.current.containers.length) this.#publish();
    if (refusal) {
      podEvent(this.#context, this.#pod, 'Warning', 'FailedMount', refusal);
      return this.#publish();
    }
    if (this.#configChanged) await this.#refreshFiles();
    while (!this.#ending.signal.aborted && (await this.#step()));
    this.#publish();
    await this.#collectGarbage();
    this.#planTokenRefresh();
  }

  /** Does what is needed next; returns whether to look again at once. */
  async #step(): Promise<boolean> {
    const pod = this.#pod;
    this.#probes.update(pod, this.#view.current, this.#podIPs()[0]);
    const { hasStarted, unhealthy } = this.#probes;
    const actions = computeActions({ pod, runtime: this.#view.current, hasStarted, unhealthy });
    if (actions.kill.length) {
      await Promise.all(actions.kill.map((kill) => this.#kill(kill)));
      return true;
    }
    if (actions.finished) {
      await this.#finish();
      return false;
    }
    if (actions.createSandbox) return this.#createSandbox();
    let progress = false;
    for (const container of actions.start) {
      if (this.#ending.signal.aborted) return false;
      if (await this.#start(container)) progress = true;
    }
    return progress;
  }

  async #createSandbox(): Promise<boolean> {
    const pod = this.#pod;
    if (!pod.spec.hostNetwork && !this.#context.networkReady()) {
      podEvent(
        this.#context,
        pod,
        'Warning',
        'NetworkNotReady',
        'network is not ready: container runtime network not ready',
      );
      this.#wake(NETWORK_WAIT_MS);
      return false;
    }
    const old = currentSandbox(this.#view.current);
    if (old) await this.#sandboxes.stop(old.id);
    const inits = initContainers(pod);
    for (const container of inits.length ? inits.slice(0, 1) : pod.spec.containers)
      this.#starter.prepare(pod, container, this.#ending.signal);
    this.#files.prepare(pod);
    this.#publish(this.#view.current.containers.length ? 'now' : 'soon');
    const sandbox = await this.#sandboxes.create(pod);
    this.#files.writeHosts(pod, pod.spec.hostNetwork ? this.#context.hostIPs : sandbox.ips);
    return true;
  }

  async #start(container: corev1.Container): Promise<boolean> {
    const sandbox = currentSandbox(this.#view.current)!;
    const pod = this.#pod;
    const last = latestContainer(this.#view.current, container.name);
    if (last?.state === 'exited') {
      // Containers may have ended because their sandbox did: then it must be made anew first.
      if (!(await this.#view.sandbox(sandbox.id))?.ready) return true;
      this.#starter.restoreBackoff(last);
    }
    const result = await this.#starter.start({
      pod,
      container,
      sandbox,
      sandboxConfig: this.#sandboxes.config(pod, sandbox.attempt),
      podIPs: this.#podIPs(),
      signal: this.#ending.signal,
    });
    switch (result.outcome) {
      case 'started':
        this.#waiting.delete(container.name);
        this.#probes.update(pod, this.#view.current, this.#podIPs()[0]);
        this.#publish();
        return true;
      case 'hook-failed':
        await this.#kill({ container: result.record, message: result.message });
        return true;
      case 'waiting':
        this.#waiting.set(container.name, result.waiting);
        if (result.waiting.reason === 'RunContainerError' || result.waiting.reason === 'CreateContainerError')
          this.#view.suspect();
        this.#wake(result.retryMs);
        return false;
      case 'interrupted':
        return false;
    }
  }

  #podIPs(): readonly string[] {
    if (this.#pod.spec.hostNetwork) return this.#context.hostIPs;
    return currentSandbox(this.#view.current)?.ips ?? [];
  }

  #kill({ container: record, message }: Kill, graceSeconds = this.#graceSeconds(record.name)): Promise<void> {
    const container = findContainer(this.#pod, record.name);
    return this.#stopper.stop({ pod: this.#pod, container, record, message, graceSeconds, podIP: this.#podIPs()[0] });
  }

  #graceSeconds(name: string): number {
    const container = findContainer(this.#pod, name);
    const ofProbe = container?.livenessProbe?.terminationGracePeriodSeconds;
    return ofProbe ?? this.#pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS;
  }

  /** activeDeadlineSeconds counts from the pod's start on this node. */
  #deadlinePassed(): boolean {
    const { activeDeadlineSeconds } = this.#pod.spec;
    const startTime = this.#published?.startTime ?? this.#pod.status?.startTime;
    if (activeDeadlineSeconds === undefined || !startTime) return false;
    const left = Date.parse(startTime) + activeDeadlineSeconds * 1000 - this.#context.clock.now();
    if (left > 0) {
      this.#wake(left);
      return false;
    }
    const message = 'Pod was active on the node longer than the specified deadline';
    podEvent(this.#context, this.#pod, 'Normal', 'DeadlineExceeded', message);
    this.#failure = { reason: 'DeadlineExceeded', message };
    return true;
  }

  async #refreshFiles(): Promise<void> {
    this.#configChanged = false;
    if (!this.#view.current.containers.length) return;
    try {
      await this.#files.refresh(this.#pod, this.#podIPs());
    } catch (error) {
      podEvent(this.#context, this.#pod, 'Warning', 'FailedMount', messageOf(error));
    }
  }

  #planTokenRefresh(): void {
    const at = this.#context.volumes.refreshAt(this.identity.uid);
    if (at === undefined) return;
    const left = at - this.#context.clock.now();
    if (left > 0) this.#wake(left);
    else this.configChanged();
  }

  /** The pod has succeeded or failed: nothing runs any more, its containers are kept for their logs. */
  async #finish(): Promise<void> {
    this.#finished = true;
    this.#ending.abort(new Error('the pod has ended'));
    await this.#stopContainers(this.#pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS);
    this.#publish();
    const ready = this.#view.current.sandboxes.filter((sandbox) => sandbox.ready);
    await Promise.all(ready.map(({ id }) => this.#sandboxes.stop(id)));
    if (ready.length) this.#publish();
    this.#probes.stop();
  }

  #stopContainers(graceSeconds: number): Promise<void> {
    return stopInOrder(this.#pod, this.#view.current, (container) =>
      this.#kill({ container, message: `Stopping container ${container.name}` }, graceSeconds),
    );
  }

  async #terminate(): Promise<void> {
    const pod = this.#pod;
    const grace = this.#objectGone ? FORCED_GRACE_SECONDS : deletionGrace(pod);
    this.#end(grace);
    const anyRunning = this.#view.current.containers.some(({ state }) => state === 'running');
    if (anyRunning && !this.#objectGone) await beforeStop(this.#context, pod, grace);
    await this.#stopContainers(grace);
    this.#probes.stop();
    await this.#sandboxes.stopAll();
    if (!this.#objectGone) {
      // How the containers ended is told before the object goes.
      this.#publish();
      await this.#writer.flush();
      await deleteObject(this.#context, this.identity);
    }
    await this.#sandboxes.removeAll();
    await removeTraces(this.#context, pod);
    this.#gone = true;
    this.#timer?.timer.cancel();
    this.#options.onGone();
  }

  #publish(urgency: Urgency = 'now'): void {
    // What has ended stays as it was told when the runtime has lost its containers since.
    if (hasEnded(this.#pod) && !this.#view.current.containers.length) return;
    const status = buildPodStatus({
      pod: this.#pod,
      ...(this.#published ? { previous: this.#published } : {}),
      runtime: this.#view.current,
      now: this.#context.clock.now(),
      hostIPs: this.#context.hostIPs,
      waiting: this.#waiting,
      hasStarted: this.#probes.hasStarted,
      isReady: this.#ending.signal.aborted ? () => false : this.#probes.isReady,
      ...(this.#failure ? { failure: this.#failure } : {}),
    });
    this.#published = status;
    this.#writer.write(this.#pod, status, urgency);
  }

  async #collectGarbage(): Promise<void> {
    const { containers, sandboxes } = garbage(this.#view.current);
    for (const id of containers) {
      await this.#context.runtime.removeContainer(id);
      this.#view.containerRemoved(id);
    }
    for (const id of sandboxes) await this.#sandboxes.remove(id);
  }

  async #withMessage(record: ContainerRecord): Promise<ContainerRecord> {
    const podDir = this.#context.volumes.podDir(this.identity.uid);
    const message = await terminationMessage({
      messageFile: messageFile(podDir, record.name, record.attempt),
      logFile: record.logPath,
      policy: record.terminationPolicy,
      exitCode: record.exitCode,
    });
    return message ? { ...record, message } : record;
  }

  /** The newest container of a name, once the runtime is known. */
  container(name: string): ContainerRecord | undefined {
    return latestContainer(this.#view.current, name);
  }

  /** Whether the container is to be started (again) but cannot be yet. */
  isWaiting(name: string): boolean {
    return this.#waiting.has(name);
  }

  /** Why it is not: ErrImagePull, CrashLoopBackOff … */
  waitingReason(name: string): string {
    return this.#waiting.get(name)?.reason ?? 'ContainerCreating';
  }

  /** Names of all containers that the pod's specification has. */
  containerNames(): readonly string[] {
    return allContainers(this.#pod).map(({ name }) => name);
  }
}

function hasEnded(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}
