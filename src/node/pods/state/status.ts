/**
 * The pod's status as the API shows it, from its specification and what is known of its containers. Pure. Follows the
 * kubelet (pkg/kubelet/kubelet_pods.go, status/generate.go), so that kubectl and controllers see what they expect.
 */
import type { corev1, Pod, PodStatus } from '../../../kube/types.ts';
import { qosClass } from '../config/resources.ts';
import { initContainers, isSidecar, podRestartPolicy, restartPolicyOf, restarts } from './containers.ts';
import {
  type ContainerRecord,
  currentSandbox,
  latestContainer,
  type PodRuntime,
  previousContainer,
} from './pod-runtime.ts';

export type Condition = corev1.PodCondition;
export type PodPhase = 'Pending' | 'Running' | 'Succeeded' | 'Failed';

export interface WaitingReason {
  readonly reason: string;
  readonly message?: string;
}

export interface StatusInput {
  /** With the status that the API has: times of transitions and others' conditions are kept. */
  readonly pod: Pod;
  /** What was told last, which the API may not show yet. */
  readonly previous?: PodStatus;
  readonly runtime: PodRuntime;
  readonly now: number;
  readonly hostIPs: readonly string[];
  /** Why a container is not started: ErrImagePull, CrashLoopBackOff … */
  readonly waiting: ReadonlyMap<string, WaitingReason>;
  /** Of a running container: startup passed and (unless it is an init container) readiness. */
  readonly hasStarted: (containerId: string) => boolean;
  readonly isReady: (containerId: string) => boolean;
  /** Ends the pod whatever its containers do: DeadlineExceeded … */
  readonly failure?: WaitingReason;
}

const timestamp = (milliseconds: number) => new Date(milliseconds).toISOString().replace(/\.\d{3}Z$/, 'Z');

export function buildPodStatus(input: StatusInput): PodStatus {
  const { pod, now } = input;
  const initStatuses = initContainers(pod).map((container) => containerStatus(input, container));
  const statuses = pod.spec.containers.map((container) => containerStatus(input, container));
  const { phase, ...why } = verdict(input, initStatuses, statuses);
  const ips = podIPs(input);
  return {
    phase,
    ...why,
    conditions: conditions(input, phase, initStatuses, statuses),
    ...(input.hostIPs.length ? { hostIP: input.hostIPs[0], hostIPs: input.hostIPs.map((ip) => ({ ip })) } : {}),
    ...(ips.length ? { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) } : {}),
    startTime: pod.status?.startTime ?? input.previous?.startTime ?? timestamp(now),
    ...(initStatuses.length ? { initContainerStatuses: initStatuses } : {}),
    containerStatuses: statuses,
    qosClass: qosClass(pod.spec),
  } as PodStatus;
}

/** The phase, and why when it is not its containers' doing. A pod that has ended never leaves its phase. */
function verdict(
  { pod, failure }: StatusInput,
  initStatuses: readonly corev1.ContainerStatus[],
  statuses: readonly corev1.ContainerStatus[],
): { readonly phase: PodPhase; readonly reason?: string; readonly message?: string } {
  if (failure) return { phase: 'Failed', ...failure };
  const { phase, reason, message } = pod.status ?? {};
  if (phase === 'Succeeded' || phase === 'Failed')
    return { phase, ...(reason ? { reason } : {}), ...(message ? { message } : {}) };
  return { phase: podPhase(pod, initStatuses, statuses) };
}

/** The addresses of the sandbox; a pod that has ended keeps those it had. */
function podIPs({ pod, previous, runtime, hostIPs }: StatusInput): readonly string[] {
  const sandbox = currentSandbox(runtime);
  if (pod.spec.hostNetwork) return sandbox ? hostIPs : [];
  if (sandbox?.ips.length) return sandbox.ips;
  return (pod.status?.podIPs ?? previous?.podIPs ?? []).flatMap(({ ip }) => (ip ? [ip] : []));
}

type Known = NonNullable<PodStatus['containerStatuses']>[number];

function knownStatus(pod: Pod, name: string): Known | undefined {
  const { containerStatuses = [], initContainerStatuses = [] } = pod.status ?? {};
  return [...containerStatuses, ...initContainerStatuses].find((status) => status.name === name);
}

function terminated(record: ContainerRecord): corev1.ContainerStateTerminated {
  return {
    exitCode: record.exitCode,
    reason: record.reason || (record.exitCode === 0 ? 'Completed' : 'Error'),
    ...(record.message ? { message: record.message } : {}),
    startedAt: timestamp(record.startedAt),
    finishedAt: timestamp(record.finishedAt),
    containerID: `containerd://${record.id}`,
  };
}

function containerStatus(input: StatusInput, container: corev1.Container): corev1.ContainerStatus {
  const { pod, runtime } = input;
  const record = latestContainer(runtime, container.name);
  const before = knownStatus(pod, container.name);
  const isInit = initContainers(pod).includes(container);
  const created = record && record.state !== 'created';
  const previous = previousContainer(runtime, container.name);
  const lastState = previous?.state === 'exited' ? { terminated: terminated(previous) } : (before?.lastState ?? {});
  const common = {
    name: container.name,
    image: record?.image || container.image || '',
    imageID: record?.imageRef ?? before?.imageID ?? '',
    restartCount: record?.attempt ?? before?.restartCount ?? 0,
    ...(created ? { containerID: `containerd://${record.id}` } : {}),
  };
  if (!created || record.state === 'unknown') {
    const waiting = input.waiting.get(container.name) ?? { reason: defaultWaiting(pod, runtime, container, isInit) };
    return { ...common, ready: false, started: false, state: { waiting }, lastState };
  }
  if (record.state === 'running') {
    const started = input.hasStarted(record.id);
    const ready = isInit && !isSidecar(container) ? false : started && input.isReady(record.id);
    return { ...common, ready, started, state: { running: { startedAt: timestamp(record.startedAt) } }, lastState };
  }
  const waiting = input.waiting.get(container.name);
  if (waiting && restarts(restartPolicyOf(pod, container), record.exitCode) && !input.failure)
    return {
      ...common,
      ready: false,
      started: false,
      state: { waiting },
      lastState: { terminated: terminated(record) },
    };
  const succeeded = isInit && !isSidecar(container) && record.exitCode === 0;
  return { ...common, ready: succeeded, started: false, state: { terminated: terminated(record) }, lastState };
}

function defaultWaiting(pod: Pod, runtime: PodRuntime, container: corev1.Container, isInit: boolean): string {
  const first = initContainers(pod)[0];
  if (isInit ? container === first : first === undefined) return 'ContainerCreating';
  return isInit || !initialized(pod, runtime) ? 'PodInitializing' : 'ContainerCreating';
}

function initialized(pod: Pod, runtime: PodRuntime): boolean {
  return initContainers(pod).every((container) => {
    const record = latestContainer(runtime, container.name);
    return isSidecar(container) ? record?.state === 'running' : record?.state === 'exited' && record.exitCode === 0;
  });
}

/** The kubelet's getPhase. */
export function podPhase(
  pod: Pod,
  initStatuses: readonly corev1.ContainerStatus[],
  statuses: readonly corev1.ContainerStatus[],
): PodPhase {
  const policy = podRestartPolicy(pod);
  const inits = initContainers(pod);
  let initializing = false;
  for (const [index, status] of initStatuses.entries()) {
    const end = status.state?.terminated ?? status.lastState?.terminated;
    if (isSidecar(inits[index]!)) {
      if (!status.started && !status.state?.running && !end) initializing = true;
      continue;
    }
    if (status.state?.terminated?.exitCode === 0) continue;
    if (end && end.exitCode !== 0 && policy === 'Never' && !status.state?.running) return 'Failed';
    initializing = true;
  }
  const started = statuses.some(
    (status) => status.state?.running || status.state?.terminated || status.lastState?.terminated,
  );
  if (initializing && !started) return 'Pending';
  const runningCount = statuses.filter((status) => status.state?.running).length;
  const ends = statuses.flatMap((status) => status.state?.terminated ?? status.lastState?.terminated ?? []);
  const waiting = statuses.filter((status) => status.state?.waiting && !status.lastState?.terminated).length;
  if (waiting > 0) return 'Pending';
  if (runningCount > 0) return 'Running';
  if (policy === 'Always' || statuses.some((status) => status.state?.waiting)) return 'Running';
  if (ends.every((end) => end.exitCode === 0)) return 'Succeeded';
  return policy === 'Never' ? 'Failed' : 'Running';
}

const OWN_CONDITIONS = ['PodReadyToStartContainers', 'Initialized', 'Ready', 'ContainersReady', 'PodScheduled'];

/** Our conditions with the times of their last transition, and after them those that others have set. */
function conditions(
  input: StatusInput,
  phase: PodPhase,
  initStatuses: readonly corev1.ContainerStatus[],
  statuses: readonly corev1.ContainerStatus[],
): Condition[] {
  const { pod, runtime, now } = input;
  const existing = pod.status?.conditions ?? [];
  const sandbox = currentSandbox(runtime);
  const networked = sandbox?.ready === true && (pod.spec.hostNetwork === true || sandbox.ips.length > 0);
  const containersReady = readiness(phase, statuses, initStatuses, pod);
  const wanted = [
    { type: 'PodReadyToStartContainers', status: networked ? 'True' : 'False' },
    initializedCondition(pod, phase, initStatuses, statuses),
    { type: 'Ready', ...gated(containersReady, pod) },
    { type: 'ContainersReady', ...containersReady },
    { type: 'PodScheduled', status: 'True' },
  ];
  const told = input.previous?.conditions ?? existing;
  const own = wanted.map((condition): Condition => {
    const before = told.find(({ type }) => type === condition.type);
    const same = before?.status === condition.status;
    return { ...condition, lastTransitionTime: (same && before.lastTransitionTime) || timestamp(now) };
  });
  return [...own, ...existing.filter(({ type }) => !OWN_CONDITIONS.includes(type))];
}

type Verdict = { status: string; reason?: string; message?: string };

function initializedCondition(
  pod: Pod,
  phase: PodPhase,
  initStatuses: readonly corev1.ContainerStatus[],
  statuses: readonly corev1.ContainerStatus[],
) {
  const type = 'Initialized';
  const inits = initContainers(pod);
  if (phase === 'Succeeded') return { type, status: 'True', reason: 'PodCompleted' };
  if (statuses.some((status) => status.started || status.state?.terminated || status.restartCount > 0))
    return { type, status: 'True' };
  const missing = initStatuses.filter((status, index) =>
    isSidecar(inits[index]!) ? !status.started : status.state?.terminated?.exitCode !== 0,
  );
  if (!missing.length) return { type, status: 'True' };
  const message = `containers with incomplete status: [${missing.map(({ name }) => name).join(' ')}]`;
  return { type, status: 'False', reason: 'ContainersNotInitialized', message };
}

function readiness(
  phase: PodPhase,
  statuses: readonly corev1.ContainerStatus[],
  initStatuses: readonly corev1.ContainerStatus[],
  pod: Pod,
): Verdict {
  if (phase === 'Succeeded') return { status: 'False', reason: 'PodCompleted' };
  if (phase === 'Failed') return { status: 'False', reason: 'PodFailed' };
  const inits = initContainers(pod);
  const sidecars = initStatuses.filter((_, index) => isSidecar(inits[index]!));
  const unready = [...sidecars, ...statuses].filter((status) => !status.ready).map(({ name }) => name);
  if (!unready.length) return { status: 'True' };
  return {
    status: 'False',
    reason: 'ContainersNotReady',
    message: `containers with unready status: [${unready.join(' ')}]`,
  };
}

/** Readiness gates: conditions that somebody else must set to True before the pod counts as ready (KEP-580). */
function gated(containersReady: Verdict, pod: Pod): Verdict {
  if (containersReady.status !== 'True') return containersReady;
  const gates = pod.spec.readinessGates ?? [];
  const present = pod.status?.conditions ?? [];
  const closed = gates.flatMap(({ conditionType }) => {
    const condition = present.find(({ type }) => type === conditionType);
    if (!condition) return [`corresponding condition of pod readiness gate "${conditionType}" does not exist.`];
    if (condition.status !== 'True')
      return [`the status of pod readiness gate "${conditionType}" is not "True", but ${condition.status}`];
    return [];
  });
  if (!closed.length) return containersReady;
  return { status: 'False', reason: 'ReadinessGatesNotReady', message: closed.join(', ') };
}
