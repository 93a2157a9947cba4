/** What the runtime holds of one pod, read from CRI objects and their labels. Pure. */
import {
  CONTAINER_NAME_LABEL,
  HASH_ANNOTATION,
  POD_NAME_LABEL,
  POD_NAMESPACE_LABEL,
  POD_UID_LABEL,
  TERMINATION_PATH_ANNOTATION,
  TERMINATION_POLICY_ANNOTATION,
} from '../config/labels.ts';
import type {
  Container,
  ContainerState,
  ContainerStatus,
  PodSandbox,
  PodSandboxStatus,
  StringMap,
} from '../cri/types.ts';

export interface SandboxRecord {
  readonly id: string;
  readonly attempt: number;
  readonly ready: boolean;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** Empty for the node's own network. */
  readonly ips: readonly string[];
}

export interface ContainerRecord {
  readonly id: string;
  readonly sandboxId: string;
  readonly name: string;
  /** How often a container of this name was started before: the restart count. */
  readonly attempt: number;
  readonly state: 'created' | 'running' | 'exited' | 'unknown';
  /** Milliseconds since the epoch; 0 when it has not happened. */
  readonly createdAt: number;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly exitCode: number;
  readonly reason: string;
  /** The runtime's message, or the termination message once it is read. */
  readonly message: string;
  readonly image: string;
  readonly imageRef: string;
  readonly hash: string;
  readonly terminationPath: string;
  readonly terminationPolicy: string;
  readonly logPath: string;
}

/** Newest first in both. */
export interface PodRuntime {
  readonly sandboxes: readonly SandboxRecord[];
  readonly containers: readonly ContainerRecord[];
}

export const EMPTY_RUNTIME: PodRuntime = { sandboxes: [], containers: [] };

export interface PodIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

const milliseconds = (nanoseconds: number) => Math.floor(nanoseconds / 1e6);

const states: Readonly<Record<ContainerState, ContainerRecord['state']>> = {
  CONTAINER_CREATED: 'created',
  CONTAINER_RUNNING: 'running',
  CONTAINER_EXITED: 'exited',
  CONTAINER_UNKNOWN: 'unknown',
};

/** Whose sandbox or container this is; undefined for one that no kubelet made. */
export function identityOf(labels: StringMap): PodIdentity | undefined {
  const uid = labels[POD_UID_LABEL];
  const name = labels[POD_NAME_LABEL];
  const namespace = labels[POD_NAMESPACE_LABEL];
  return uid && name && namespace ? { uid, name, namespace } : undefined;
}

export function sandboxRecord(status: PodSandboxStatus): SandboxRecord {
  const { network } = status;
  const ips = network?.ip ? [network.ip, ...network.additionalIps.map(({ ip }) => ip)] : [];
  return { ...listedSandbox(status), ips };
}

/** From a list, which does not tell addresses. */
export function listedSandbox(sandbox: PodSandbox): SandboxRecord {
  return {
    id: sandbox.id,
    attempt: sandbox.metadata.attempt,
    ready: sandbox.state === 'SANDBOX_READY',
    createdAt: milliseconds(sandbox.createdAt),
    ips: [],
  };
}

export function stateOf(container: Container): ContainerRecord['state'] {
  return states[container.state];
}

/** The CRI's status does not tell the sandbox, its list does. */
export function containerRecord(sandboxId: string, status: ContainerStatus): ContainerRecord {
  const { annotations } = status;
  return {
    id: status.id,
    sandboxId,
    name: status.labels[CONTAINER_NAME_LABEL] ?? status.metadata.name,
    attempt: status.metadata.attempt,
    state: states[status.state],
    createdAt: milliseconds(status.createdAt),
    startedAt: milliseconds(status.startedAt),
    finishedAt: milliseconds(status.finishedAt),
    exitCode: status.exitCode,
    reason: status.reason,
    message: status.message,
    image: status.image?.image ?? '',
    imageRef: status.imageRef,
    hash: annotations[HASH_ANNOTATION] ?? '',
    terminationPath: annotations[TERMINATION_PATH_ANNOTATION] ?? '',
    terminationPolicy: annotations[TERMINATION_POLICY_ANNOTATION] ?? 'File',
    logPath: status.logPath,
  };
}

/** The sandbox that counts: the newest. */
export function currentSandbox(runtime: PodRuntime): SandboxRecord | undefined {
  return runtime.sandboxes[0];
}

/** The newest container of a name. */
export function latestContainer(runtime: PodRuntime, name: string): ContainerRecord | undefined {
  return runtime.containers.find((container) => container.name === name);
}

/** The one before the newest. */
export function previousContainer(runtime: PodRuntime, name: string): ContainerRecord | undefined {
  return runtime.containers.filter((container) => container.name === name)[1];
}

export function withSandbox(runtime: PodRuntime, sandbox: SandboxRecord): PodRuntime {
  const others = runtime.sandboxes.filter(({ id }) => id !== sandbox.id);
  const sandboxes = [sandbox, ...others].sort((a, b) => b.attempt - a.attempt || b.createdAt - a.createdAt);
  return { ...runtime, sandboxes };
}

export function withContainer(runtime: PodRuntime, container: ContainerRecord): PodRuntime {
  const others = runtime.containers.filter(({ id }) => id !== container.id);
  const containers = [container, ...others].sort((a, b) => b.attempt - a.attempt || b.createdAt - a.createdAt);
  return { ...runtime, containers };
}

export function withoutSandbox(runtime: PodRuntime, sandboxId: string): PodRuntime {
  return {
    sandboxes: runtime.sandboxes.filter(({ id }) => id !== sandboxId),
    containers: runtime.containers.filter((container) => container.sandboxId !== sandboxId),
  };
}

export function withoutContainer(runtime: PodRuntime, containerId: string): PodRuntime {
  return { ...runtime, containers: runtime.containers.filter(({ id }) => id !== containerId) };
}

/**
 * Dead weight: all but the newest and the one before it of each container name (which `kubectl logs --previous` reads),
 * and sandboxes that are not the current one and hold nothing that is kept.
 */
export function garbage(runtime: PodRuntime): { containers: readonly string[]; sandboxes: readonly string[] } {
  const seen = new Map<string, number>();
  const containers: string[] = [];
  const kept = new Set<string>();
  for (const { id, name, state, sandboxId } of runtime.containers) {
    const newer = seen.get(name) ?? 0;
    seen.set(name, newer + 1);
    if (newer >= 2 && state !== 'running') containers.push(id);
    else kept.add(sandboxId);
  }
  const sandboxes = runtime.sandboxes
    .slice(1)
    .filter(({ id }) => !kept.has(id))
    .map(({ id }) => id);
  return { containers, sandboxes };
}
