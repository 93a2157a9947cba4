/**
 * What a pod needs next: its specification and what the runtime holds -> what to kill, make and start. Pure, so that every
 * case can be laid out in a table. The worker carries it out, looks again, and asks again.
 *
 *   no sandbox, or a dead one ──> kill what is left, new sandbox
 *   init containers, in order  ──> the first that has not finished; a sidecar counts as finished once it has started
 *   main containers            ──> all that do not run and whose policy says so
 *   all done for good          ──> sidecars are killed, then the sandbox is stopped
 */
import type { corev1, Pod } from '../../../kube/types.ts';
import { containerHash } from '../config/labels.ts';
import { findContainer, initContainers, isSidecar, podRestartPolicy, restartPolicyOf, restarts } from './containers.ts';
import { type ContainerRecord, currentSandbox, latestContainer, type PodRuntime } from './pod-runtime.ts';

export interface Kill {
  readonly container: ContainerRecord;
  readonly message: string;
}

export interface PodActions {
  /** Stop these before anything else. */
  readonly kill: readonly Kill[];
  /** The old sandbox, if any, is stopped first. */
  readonly createSandbox: boolean;
  /** In this order; the worker asks the back-off about each. */
  readonly start: readonly corev1.Container[];
  /** Nothing will ever run again: the pod has succeeded or failed. */
  readonly finished: boolean;
}

export interface ActionInput {
  readonly pod: Pod;
  readonly runtime: PodRuntime;
  /** Whether the running container's startup probe has passed, or it has none. */
  readonly hasStarted: (containerId: string) => boolean;
  /** Why a probe wants the running container dead; undefined when none does. */
  readonly unhealthy: (containerId: string) => string | undefined;
}

const NOTHING: PodActions = { kill: [], createSandbox: false, start: [], finished: false };

export function computeActions(input: ActionInput): PodActions {
  const { pod, runtime } = input;
  const sandbox = currentSandbox(runtime);
  const everRan = runtime.containers.length > 0;
  if (!sandbox?.ready) {
    const kill = running(runtime).map((container) => ({
      container,
      message: 'Pod sandbox changed, it will be killed and re-created.',
    }));
    const givenUp = podRestartPolicy(pod) === 'Never' && sandbox !== undefined && everRan;
    if (givenUp || (everRan && allDone(pod, runtime))) return { ...NOTHING, kill, finished: true };
    return { ...NOTHING, kill, createSandbox: true };
  }
  if (everRan && allDone(pod, runtime)) {
    const kill = running(runtime).map((container) => ({ container, message: `Stopping container ${container.name}` }));
    return { ...NOTHING, kill, finished: true };
  }
  return inSandbox(input, sandbox.id);
}

function running(runtime: PodRuntime): readonly ContainerRecord[] {
  return runtime.containers.filter(({ state }) => state === 'running' || state === 'unknown');
}

function inSandbox(input: ActionInput, sandboxId: string): PodActions {
  const { pod, runtime } = input;
  const kill: Kill[] = [];
  const start: corev1.Container[] = [];
  // A container of an old sandbox counts for the restart policy of main containers, never as a finished init container.
  const here = (container: corev1.Container) => {
    const record = latestContainer(runtime, container.name);
    return record?.sandboxId === sandboxId ? record : undefined;
  };
  const mainStarted = pod.spec.containers.some((container) => here(container)?.startedAt);

  for (const container of initContainers(pod)) {
    const record = here(container);
    const step = isSidecar(container)
      ? sidecarStep(input, container, record)
      : initStep(container, record, mainStarted, pod);
    if (step.kill) kill.push(step.kill);
    if (step.start) start.push(container);
    if (step.wait && !mainStarted) return { kill, createSandbox: false, start, finished: false };
  }

  for (const container of pod.spec.containers) {
    const record = latestContainer(runtime, container.name);
    const message = record?.state === 'running' ? killReason(input, container, record) : undefined;
    if (record && message) kill.push({ container: record, message });
    if (!record || record.state === 'created' || record.state === 'unknown') start.push(container);
    else if (message) start.push(container);
    else if (record.state === 'exited' && restarts(restartPolicyOf(pod, container), record.exitCode))
      start.push(container);
  }
  // What is killed is started by the next look, once it has ended and its policy is asked.
  const killed = new Set(kill.map(({ container }) => container.name));
  return { kill, createSandbox: false, start: start.filter(({ name }) => !killed.has(name)), finished: false };
}

interface Step {
  readonly kill?: Kill;
  readonly start?: boolean;
  /** What comes after must not start yet. */
  readonly wait: boolean;
}

function initStep(
  container: corev1.Container,
  record: ContainerRecord | undefined,
  mainStarted: boolean,
  pod: Pod,
): Step {
  if (mainStarted) return { wait: false };
  if (!record || record.state === 'created' || record.state === 'unknown') return { start: true, wait: true };
  if (record.state === 'running') return { wait: true };
  return { start: restarts(restartPolicyOf(pod, container), record.exitCode), wait: record.exitCode !== 0 };
}

function sidecarStep(input: ActionInput, container: corev1.Container, record: ContainerRecord | undefined): Step {
  if (record?.state !== 'running') return { start: true, wait: true };
  const message = killReason(input, container, record);
  if (message) return { kill: { container: record, message }, wait: true };
  return { wait: !input.hasStarted(record.id) };
}

function killReason(input: ActionInput, container: corev1.Container, record: ContainerRecord): string | undefined {
  const { pod } = input;
  if (findContainer(pod, container.name) && record.hash !== containerHash(container))
    return `Container ${container.name} definition changed, will be restarted`;
  return input.unhealthy(record.id);
}

/** Whether nothing of the pod will be started again: all main containers ended for good, or an init container failed. */
export function allDone(pod: Pod, runtime: PodRuntime): boolean {
  if (initFailed(pod, runtime)) return true;
  return pod.spec.containers.every((container) => {
    const record = latestContainer(runtime, container.name);
    return record?.state === 'exited' && !restarts(restartPolicyOf(pod, container), record.exitCode);
  });
}

/** An init container of a pod that never restarts has failed. */
export function initFailed(pod: Pod, runtime: PodRuntime): boolean {
  if (podRestartPolicy(pod) !== 'Never') return false;
  const mainExists = pod.spec.containers.some((container) => latestContainer(runtime, container.name));
  return initContainers(pod).some((container) => {
    const record = latestContainer(runtime, container.name);
    return !mainExists && !isSidecar(container) && record?.state === 'exited' && record.exitCode !== 0;
  });
}
