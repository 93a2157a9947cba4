/**
 * Starts one container of a pod: back-off, image, environment, volumes, create, start, postStart. What stands in the way
 * becomes the container's waiting reason and a time to try again; it never throws for a reason that lies in the pod.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { isAbort, messageOf } from '../../../base/errors.ts';
import type { corev1, Pod, Secret } from '../../../kube/types.ts';
import { buildContainerConfig } from '../config/container-config.ts';
import { ContainerConfigError } from '../config-error.ts';
import { CriError, isCriCancelled } from '../cri/errors.ts';
import type { PodSandboxConfig } from '../cri/types.ts';
import { buildEnvironment, environmentReferences } from '../env/environment.ts';
import { serviceVariables, visibleServices } from '../env/service-variables.ts';
import { ImageError, type ReadyImage } from '../images/image-manager.ts';
import { runHook } from '../probes/lifecycle-hook.ts';
import { type ContainerRecord, latestContainer, type SandboxRecord } from '../state/pod-runtime.ts';
import { RestartBackoff } from '../state/restart-backoff.ts';
import type { WaitingReason } from '../state/status.ts';
import { containerMounts } from './container-mounts.ts';
import { containerEvent, podEvent, type WorkerContext } from './context.ts';
import type { PodFiles } from './pod-files.ts';
import type { RuntimeView } from './runtime-view.ts';

export interface ContainerStarterOptions {
  readonly context: WorkerContext;
  readonly view: RuntimeView;
  readonly files: PodFiles;
}

export interface StartRequest {
  readonly pod: Pod;
  readonly container: corev1.Container;
  readonly sandbox: SandboxRecord;
  readonly sandboxConfig: PodSandboxConfig;
  readonly podIPs: readonly string[];
  /** Aborts when the pod is to end. */
  readonly signal: AbortSignal;
}

export type StartResult =
  /** It runs, or ran and ended already. */
  | { readonly outcome: 'started'; readonly record: ContainerRecord }
  /** postStart failed: it must be killed. */
  | { readonly outcome: 'hook-failed'; readonly record: ContainerRecord; readonly message: string }
  | { readonly outcome: 'waiting'; readonly waiting: WaitingReason; readonly retryMs: number }
  | { readonly outcome: 'interrupted' };

/** When a configuration error is looked at again; a change of the object that is missing comes sooner. */
const CONFIG_RETRY_MS = 10_000;
/** postStart has no limit in Kubernetes; this is the longest that an exec may take here. */
const HOOK_TIMEOUT_SECONDS = 100;

export class ContainerStarter {
  readonly #context: WorkerContext;
  readonly #view: RuntimeView;
  readonly #files: PodFiles;
  readonly #backoff = new RestartBackoff();
  readonly #prepared = new Map<string, Promise<ReadyImage>>();

  constructor({ context, view, files }: ContainerStarterOptions) {
    this.#context = context;
    this.#view = view;
    this.#files = files;
  }

  /** After a restart of the agent: the back-off that the restart count speaks of. */
  restoreBackoff(record: ContainerRecord): void {
    const ran = record.finishedAt - record.startedAt;
    this.#backoff.restore(record.name, record.attempt, ran, record.finishedAt);
  }

  /** Begins to get the container's image, while the sandbox is made. */
  prepare(pod: Pod, container: corev1.Container, signal: AbortSignal): void {
    const image = this.#ensureImage(pod, container, signal);
    image.catch(() => {});
    this.#prepared.set(container.name, image);
  }

  async start(request: StartRequest): Promise<StartResult> {
    const { pod, container, signal } = request;
    const last = latestContainer(this.#view.current, container.name);
    const wait = this.#backoffOf(pod, container, last);
    if (wait) return wait;
    try {
      const created = await this.#create(request, last);
      if (last?.state === 'exited') this.#backoff.retried(container.name, last.finishedAt, this.#context.clock.now());
      return await this.#run(request, created);
    } catch (error) {
      if (signal.aborted || this.#context.signal.aborted || isCriCancelled(error) || isAbort(error))
        return { outcome: 'interrupted' };
      return this.#waitingFor(pod, container, error);
    }
  }

  #backoffOf(pod: Pod, container: corev1.Container, last: ContainerRecord | undefined): StartResult | undefined {
    if (last?.state !== 'exited') return undefined;
    const { clock } = this.#context;
    const retryMs = this.#backoff.remaining(container.name, last.finishedAt, clock.now());
    if (retryMs <= 0) return undefined;
    const { name, namespace, uid } = pod.metadata;
    const which = `container=${container.name} pod=${name}_${namespace}(${uid})`;
    const message = `back-off ${formatDelay(this.#backoff.delay(container.name))} restarting failed ${which}`;
    const event = `Back-off restarting failed container ${container.name} in pod ${name}_${namespace}(${uid})`;
    containerEvent(this.#context, pod, container.name, 'Warning', 'BackOff', event);
    return { outcome: 'waiting', waiting: { reason: 'CrashLoopBackOff', message }, retryMs };
  }

  async #create(request: StartRequest, last: ContainerRecord | undefined): Promise<string> {
    const { pod, container, sandbox, sandboxConfig, podIPs, signal } = request;
    const context = this.#context;
    const prepared = this.#prepared.get(container.name) ?? this.#ensureImage(pod, container, signal);
    this.#prepared.delete(container.name);
    const references = environmentReferences(container);
    const [{ image, pulledMs }, volumes, lookup] = await Promise.all([
      prepared,
      this.#files.volumes(pod, podIPs),
      context.config.hold(pod.metadata.uid, pod.metadata.namespace, references),
      context.servicesSynced,
    ]);
    const took = pulledMs === undefined ? undefined : (pulledMs / 1000).toFixed(3);
    const pulled =
      took === undefined
        ? `Container image "${container.image}" already present on machine`
        : `Successfully pulled image "${container.image}" in ${took}s (${took}s including waiting). Image size: ${image.size} bytes.`;
    containerEvent(context, pod, container.name, 'Normal', 'Pulled', pulled);

    const services = visibleServices(
      context.services.list(),
      pod.metadata.namespace,
      pod.spec.enableServiceLinks ?? true,
    );
    const environment = buildEnvironment({
      pod,
      container,
      podIPs,
      hostIPs: context.hostIPs,
      allocatable: context.allocatable,
      services: serviceVariables(services),
      ...lookup,
    });
    for (const { source, keys } of environment.skipped)
      podEvent(
        context,
        pod,
        'Warning',
        'InvalidEnvironmentVariableNames',
        `Keys [${keys.join(', ')}] from the EnvFrom ${source} were skipped since they are considered invalid environment variable names.`,
      );

    const attempt = nextAttempt(pod, container.name, last);
    // A container that was made but never started is made anew: its configuration may be out of date.
    if (last?.state === 'created') await this.#remove(last.id);
    const mounts = await containerMounts({
      pod,
      container,
      podDir: context.volumes.podDir(pod.metadata.uid),
      attempt,
      volumes,
      environment: environment.variables,
    });
    const config = buildContainerConfig({
      pod,
      container,
      attempt,
      imageRef: image.id,
      imageUser: { uid: image.uid?.value, username: image.username },
      environment: environment.variables,
      mounts,
      nodeMemory: context.nodeMemory,
    });
    mkdirSync(join(sandboxConfig.logDirectory, container.name), { recursive: true, mode: 0o755 });
    const id = await context.runtime.createContainer(sandbox.id, config, sandboxConfig);
    containerEvent(context, pod, container.name, 'Normal', 'Created', `Created container: ${container.name}`);
    return id;
  }

  async #run(request: StartRequest, id: string): Promise<StartResult> {
    const { pod, container, sandbox, podIPs, signal } = request;
    const { runtime, clock } = this.#context;
    try {
      await runtime.startContainer(id);
    } catch (error) {
      // The runtime keeps it as ended with exit code 128: the restart policy decides from there.
      await this.#view.container(id, sandbox.id);
      throw new StartFailure('RunContainerError', error);
    }
    const record = await this.#view.container(id, sandbox.id);
    if (!record) throw new StartFailure('RunContainerError', new Error('the container vanished when it was started'));
    containerEvent(this.#context, pod, container.name, 'Normal', 'Started', `Started container ${container.name}`);
    const hook = container.lifecycle?.postStart;
    if (!hook) return { outcome: 'started', record };
    try {
      const target = { runtime, containerId: id, container, podIP: podIPs[0] };
      await runHook(hook, { ...target, clock, signal, timeoutSeconds: HOOK_TIMEOUT_SECONDS });
      return { outcome: 'started', record };
    } catch (error) {
      if (signal.aborted) return { outcome: 'started', record };
      const message = `PostStartHook failed: ${messageOf(error)}`;
      containerEvent(this.#context, pod, container.name, 'Warning', 'FailedPostStartHook', message);
      return { outcome: 'hook-failed', record, message: 'FailedPostStartHook' };
    }
  }

  async #remove(id: string): Promise<void> {
    await this.#context.runtime.removeContainer(id);
    this.#view.containerRemoved(id);
  }

  #ensureImage(pod: Pod, container: corev1.Container, signal: AbortSignal): Promise<ReadyImage> {
    return this.#context.images.ensure({
      container,
      signal,
      pullSecrets: () => this.#pullSecrets(pod),
      onPulling: () =>
        containerEvent(this.#context, pod, container.name, 'Normal', 'Pulling', `Pulling image "${container.image}"`),
    });
  }

  async #pullSecrets(pod: Pod): Promise<readonly Secret[]> {
    const names = (pod.spec.imagePullSecrets ?? []).flatMap(({ name }) => name ?? []);
    if (!names.length) return [];
    const { uid, namespace } = pod.metadata;
    const references = names.map((name) => ({ kind: 'Secret' as const, name }));
    const lookup = await this.#context.config.hold(uid, namespace, references);
    return names.flatMap((name) => lookup.secret(name) ?? []);
  }

  #waitingFor(pod: Pod, container: corev1.Container, error: unknown): StartResult {
    const message = messageOf(error);
    const tell = (reason: string, text: string, type: 'Normal' | 'Warning' = 'Warning') =>
      containerEvent(this.#context, pod, container.name, type, reason, text);
    if (error instanceof ImageError) {
      if (error.reason === 'ErrImagePull') tell('Failed', `Failed to pull image "${container.image}": ${message}`);
      if (error.reason === 'ImagePullBackOff') tell('BackOff', message, 'Normal');
      else if (error.reason !== 'ErrImagePull')
        tell(error.reason === 'InvalidImageName' ? 'InspectFailed' : error.reason, message);
      tell('Failed', `Error: ${error.reason}`);
      return { outcome: 'waiting', waiting: { reason: error.reason, message }, retryMs: error.retryMs };
    }
    if (error instanceof ContainerConfigError) {
      const mount = message.startsWith('MountVolume.SetUp');
      tell(mount ? 'FailedMount' : 'Failed', mount ? message : `Error: ${message}`);
      const reason = mount ? 'ContainerCreating' : 'CreateContainerConfigError';
      const waiting = mount ? { reason } : { reason, message };
      return { outcome: 'waiting', waiting, retryMs: CONFIG_RETRY_MS };
    }
    const reason = error instanceof StartFailure ? error.reason : 'CreateContainerError';
    const details = error instanceof CriError ? error.details : message;
    tell('Failed', `Error: ${details}`);
    this.#context.log.warn({ pod: pod.metadata.name, container: container.name, error }, `${reason}: ${message}`);
    return { outcome: 'waiting', waiting: { reason, message: details }, retryMs: CONFIG_RETRY_MS };
  }
}

class StartFailure extends Error {
  override readonly name = 'StartFailure';
  readonly reason: string;
  constructor(reason: string, cause: unknown) {
    super(cause instanceof CriError ? cause.details : messageOf(cause), { cause });
    this.reason = reason;
  }
}

/** The number of the next start: what the runtime or, when it has lost everything, the API knows, and one more. */
function nextAttempt(pod: Pod, name: string, last: ContainerRecord | undefined): number {
  if (last) return last.state === 'created' ? last.attempt : last.attempt + 1;
  const { containerStatuses = [], initContainerStatuses = [] } = pod.status ?? {};
  const known = [...containerStatuses, ...initContainerStatuses].find((status) => status.name === name);
  if (!known) return 0;
  return known.containerID ? known.restartCount + 1 : known.restartCount;
}

/** "10s", "2m40s", as Go prints durations. */
function formatDelay(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}
