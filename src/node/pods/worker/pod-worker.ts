/**
 * The worker of one pod: brings what runs to what the API says, one step after the other, and tells the API. It is poked
 * when either side may have changed and looks at both anew (level-triggered); workers of different pods run side by side.
 *
 *            ┌────────────── poked ──────────────┐
 *   idle ──> refresh ──> to end? ──no──> actions ──> kill / sandbox / start ──> status ──> idle
 *                          │ yes
 *                          └──> preStop, stop, sandbox down, status, files gone, object deleted, sandbox removed
 */
import { isAbort, messageOf } from '../../../base/errors.ts';
import type { corev1, Pod } from '../../../kube/types.ts';
import type { Container, PodSandbox } from '../cri/types.ts';
import { computeActions, type Kill } from '../state/actions.ts';
import { findContainer, initContainers } from '../state/containers.ts';
import {
  type ContainerRecord,
  currentSandbox,
  garbage,
  latestContainer,
  type PodIdentity,
  type PodRuntime,
} from '../state/pod-runtime.ts';
import type { WaitingReason } from '../state/status.ts';
import { unsupportedVolume } from '../volumes/volume-manager.ts';
import { ContainerStarter } from './container-starter.ts';
import { ContainerStopper } from './container-stopper.ts';
import { podEvent, type WorkerContext } from './context.ts';
import {
  beforeStop,
  containerGrace,
  DEFAULT_GRACE_SECONDS,
  deleteObject,
  deletionGrace,
  removeTraces,
  stopInOrder,
} from './pod-ending.ts';
import { PodFiles } from './pod-files.ts';
import { PodProbes } from './pod-probes.ts';
import { hasEnded, PodReport } from './pod-report.ts';
import { PodSandboxes } from './pod-sandbox.ts';
import { PokedLoop } from './poked-loop.ts';
import { RuntimeView } from './runtime-view.ts';
import type { Urgency } from './status-writer.ts';
import { withTerminationMessage } from './termination-message.ts';

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

/** Waits after a failure, of a sandbox for example. */
const RETRY_MS = [500, 15_000] as const;
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
  readonly #report: PodReport;
  readonly #loop: PokedLoop;
  /** Ends what a start waits for, once the pod is to end. */
  readonly #ending = new AbortController();
  #configChanged = false;
  #objectGone = false;
  #finished = false;

  constructor(options: PodWorkerOptions) {
    const { context, pod } = options;
    this.#options = options;
    this.#context = context;
    this.identity = { namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid };
    const { runtime, clock } = context;
    const { uid } = this.identity;
    const onExited = (record: ContainerRecord) => withTerminationMessage(record, context.volumes.podDir(uid));
    this.#view = new RuntimeView({ runtime, clock, uid, onId: options.onId, onExited });
    if (options.adopt === 'look') this.#view.suspect();
    this.#files = new PodFiles(context);
    this.#sandboxes = new PodSandboxes(context, this.#view);
    this.#starter = new ContainerStarter({ context, view: this.#view, files: this.#files });
    this.#stopper = new ContainerStopper(context, this.#view);
    this.#probes = new PodProbes(context, () => this.poke());
    this.#report = new PodReport(context, pod, () => this.poke());
    this.#loop = new PokedLoop({
      clock,
      signal: context.signal,
      look: () => this.#sync(),
      onFailure: (error) => this.#failed(error),
      retryMs: RETRY_MS,
    });
  }

  get pod(): Pod {
    return this.#report.pod;
  }

  /** Why containers are to be started (again) but cannot be yet: ErrImagePull, CrashLoopBackOff … by name. */
  get waiting(): ReadonlyMap<string, WaitingReason> {
    return this.#report.waiting;
  }

  /** What the runtime holds of the pod, as far as is known. */
  get runtime(): PodRuntime {
    return this.#view.current;
  }

  /** The API's object has changed. */
  update(pod: Pod): void {
    this.#report.learn(pod);
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
    if (this.#loop.isLooking || !this.#view.differs(sandboxes, containers)) return;
    this.#view.suspect();
    this.poke();
  }

  /** Looks at everything soon. */
  poke(): void {
    this.#loop.poke();
  }

  /** Resolves when the worker rests. */
  async idle(): Promise<void> {
    await this.#loop.idle();
    await this.#report.flush();
  }

  #end(graceSeconds: number): void {
    this.#stopper.limit(graceSeconds);
    this.#ending.abort(new Error('the pod is to end'));
  }

  /** The agent ends: containers run on, probes do not. */
  rest(): void {
    this.#loop.sleep();
    this.#probes.stop();
    this.#ending.abort(this.#context.signal.reason);
  }

  #failed(error: unknown): void {
    const { name, namespace } = this.identity;
    if (!isAbort(error))
      this.#context.log.warn({ pod: `${namespace}/${name}`, error }, `pod worker: ${messageOf(error)}`);
    this.#view.suspect();
    this.#publish();
  }

  async #sync(): Promise<void> {
    await this.#view.refresh();
    if (this.#objectGone || this.pod.metadata.deletionTimestamp) return this.#terminate();
    if (this.#finished || hasEnded(this.pod)) return this.#finish();
    if (this.#deadlinePassed()) return this.#finish();
    const refusal = unsupportedVolume(this.pod);
    // What has ended is told before it is mended: no Service shall offer it meanwhile.
    if (this.#view.current.containers.length) this.#publish();
    if (refusal) {
      podEvent(this.#context, this.pod, 'Warning', 'FailedMount', refusal);
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
    const pod = this.pod;
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
    const pod = this.pod;
    if (!pod.spec.hostNetwork && !this.#context.networkReady()) {
      const message = 'network is not ready: container runtime network not ready';
      podEvent(this.#context, pod, 'Warning', 'NetworkNotReady', message);
      this.#loop.wake(NETWORK_WAIT_MS);
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
    const pod = this.pod;
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
        this.#report.waiting.delete(container.name);
        this.#probes.update(pod, this.#view.current, this.#podIPs()[0]);
        this.#publish();
        return true;
      case 'hook-failed':
        await this.#kill({ container: result.record, message: result.message });
        return true;
      case 'waiting':
        this.#report.waiting.set(container.name, result.waiting);
        if (result.waiting.reason === 'RunContainerError' || result.waiting.reason === 'CreateContainerError')
          this.#view.suspect();
        this.#loop.wake(result.retryMs);
        return false;
      case 'interrupted':
        return false;
    }
  }

  #podIPs(): readonly string[] {
    if (this.pod.spec.hostNetwork) return this.#context.hostIPs;
    return currentSandbox(this.#view.current)?.ips ?? [];
  }

  #kill({ container: record, message }: Kill, graceSeconds = containerGrace(this.pod, record.name)): Promise<void> {
    const container = findContainer(this.pod, record.name);
    return this.#stopper.stop({
      pod: this.pod,
      container,
      record,
      message,
      graceSeconds,
      podIP: this.#podIPs()[0],
    });
  }

  /** activeDeadlineSeconds counts from the pod's start on this node. */
  #deadlinePassed(): boolean {
    const { activeDeadlineSeconds } = this.pod.spec;
    const startTime = this.#report.startTime;
    if (activeDeadlineSeconds === undefined || !startTime) return false;
    const left = Date.parse(startTime) + activeDeadlineSeconds * 1000 - this.#context.clock.now();
    if (left > 0) {
      this.#loop.wake(left);
      return false;
    }
    const message = 'Pod was active on the node longer than the specified deadline';
    podEvent(this.#context, this.pod, 'Normal', 'DeadlineExceeded', message);
    this.#report.failure = { reason: 'DeadlineExceeded', message };
    return true;
  }

  async #refreshFiles(): Promise<void> {
    this.#configChanged = false;
    if (!this.#view.current.containers.length) return;
    try {
      await this.#files.refresh(this.pod, this.#podIPs());
    } catch (error) {
      podEvent(this.#context, this.pod, 'Warning', 'FailedMount', messageOf(error));
    }
  }

  #planTokenRefresh(): void {
    const at = this.#context.volumes.refreshAt(this.identity.uid);
    if (at === undefined) return;
    const left = at - this.#context.clock.now();
    if (left > 0) this.#loop.wake(left);
    else this.configChanged();
  }

  /** The pod has succeeded or failed: nothing runs any more, its containers are kept for their logs. */
  async #finish(): Promise<void> {
    this.#finished = true;
    this.#ending.abort(new Error('the pod has ended'));
    await this.#stopContainers(this.pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS);
    this.#publish();
    const ready = this.#view.current.sandboxes.filter((sandbox) => sandbox.ready);
    await Promise.all(ready.map(({ id }) => this.#sandboxes.stop(id)));
    if (ready.length) this.#publish();
    this.#probes.stop();
  }

  #stopContainers(graceSeconds: number): Promise<void> {
    return stopInOrder(this.pod, this.#view.current, (container) =>
      this.#kill({ container, message: `Stopping container ${container.name}` }, graceSeconds),
    );
  }

  async #terminate(): Promise<void> {
    const pod = this.pod;
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
      await this.#report.flush();
      await deleteObject(this.#context, this.identity);
    }
    await this.#sandboxes.removeAll();
    await removeTraces(this.#context, pod);
    this.#loop.stop();
    this.#options.onGone();
  }

  #publish(urgency: Urgency = 'now'): void {
    const { hasStarted, isReady } = this.#probes;
    const runtime = this.#view.current;
    this.#report.publish(
      { runtime, hasStarted, isReady: this.#ending.signal.aborted ? () => false : isReady },
      urgency,
    );
  }

  async #collectGarbage(): Promise<void> {
    const { containers, sandboxes } = garbage(this.#view.current);
    for (const id of containers) {
      await this.#context.runtime.removeContainer(id);
      this.#view.containerRemoved(id);
    }
    for (const id of sandboxes) await this.#sandboxes.remove(id);
  }
}
