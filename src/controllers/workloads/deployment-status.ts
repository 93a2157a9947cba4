/** What a Deployment says about its rollout: counts and conditions. Pure. */

import { conditionOf } from '../../kube/conditions.ts';
import type { appsv1, Deployment, ReplicaSet } from '../../kube/types.ts';
import { metaTime } from '../pod-state.ts';
import { rolloutLimits, sizeOf } from './rollout.ts';

export type DeploymentStatus = NonNullable<Deployment['status']>;
export type DeploymentCondition = appsv1.DeploymentCondition;

const sum = (sets: readonly ReplicaSet[], value: (set: ReplicaSet) => number | undefined): number =>
  sets.reduce((total, set) => total + (value(set) ?? 0), 0);

/** Kubernetes' default of progressDeadlineSeconds; the largest 32-bit number means none. */
const defaultDeadlineSeconds = 600;
const noDeadline = 2 ** 31 - 1;

export interface StatusInput {
  readonly deployment: Deployment;
  readonly newSet: ReplicaSet | undefined;
  readonly oldSets: readonly ReplicaSet[];
  /** Of the Progressing condition, when this turn made or found the new set. */
  readonly noted?: 'NewReplicaSetCreated' | 'FoundNewReplicaSet' | undefined;
  readonly collisionCount?: number | undefined;
  readonly nowMs: number;
}

export interface StatusOutput {
  readonly status: DeploymentStatus;
  /** When to look again whether the rollout is stuck, in milliseconds since the epoch. */
  readonly deadlineAt: number | undefined;
}

export function deploymentStatus(input: StatusInput): StatusOutput {
  const { deployment, newSet, oldSets, nowMs } = input;
  const all = newSet ? [newSet, ...oldSets] : oldSets;
  const available = sum(all, (set) => set.status?.availableReplicas);
  const counts = {
    observedGeneration: deployment.metadata.generation ?? 0,
    replicas: sum(all, (set) => set.status?.replicas),
    updatedReplicas: newSet?.status?.replicas ?? 0,
    readyReplicas: sum(all, (set) => set.status?.readyReplicas),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, sum(all, sizeOf) - available),
  };
  const collisionCount = input.collisionCount ?? deployment.status?.collisionCount;
  const progressing = progressingCondition(input, counts);
  const conditions = [
    availableCondition(deployment, available, nowMs),
    ...(progressing ? [progressing] : []),
    ...replicaFailure(deployment, all, nowMs),
  ];
  return {
    status: { ...counts, ...(collisionCount === undefined ? {} : { collisionCount }), conditions },
    deadlineAt: deadlineOf(deployment, progressing),
  };
}

/** Everything is on the new template, available, and nothing is left of the old. */
export function isComplete(deployment: Deployment, status: DeploymentStatus): boolean {
  const replicas = deployment.spec.replicas ?? 1;
  return (
    (status.updatedReplicas ?? 0) === replicas &&
    (status.replicas ?? 0) === replicas &&
    (status.availableReplicas ?? 0) === replicas &&
    (status.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
  );
}

/** A condition that keeps its transition time while its status stays, and its update time while it says the same. */
function condition(
  deployment: Deployment,
  nowMs: number,
  next: { type: string; status: string; reason: string; message: string },
): DeploymentCondition {
  const old = conditionOf(deployment.status?.conditions, next.type);
  const now = metaTime(nowMs);
  if (old && old.status === next.status && old.reason === next.reason) return { ...old, message: next.message };
  return {
    ...next,
    lastUpdateTime: now,
    lastTransitionTime: old?.status === next.status ? old.lastTransitionTime : now,
  };
}

function availableCondition(deployment: Deployment, available: number, nowMs: number): DeploymentCondition {
  const { replicas, maxUnavailable } = rolloutLimits(deployment);
  return available >= replicas - maxUnavailable
    ? condition(deployment, nowMs, {
        type: 'Available',
        status: 'True',
        reason: 'MinimumReplicasAvailable',
        message: 'Deployment has minimum availability.',
      })
    : condition(deployment, nowMs, {
        type: 'Available',
        status: 'False',
        reason: 'MinimumReplicasUnavailable',
        message: 'Deployment does not have minimum availability.',
      });
}

function progressingCondition(
  { deployment, newSet, noted, nowMs }: StatusInput,
  counts: DeploymentStatus,
): DeploymentCondition | undefined {
  const old = conditionOf(deployment.status?.conditions, 'Progressing');
  const subject = newSet ? `ReplicaSet "${newSet.metadata.name}"` : `Deployment "${deployment.metadata.name}"`;
  const say = (status: string, reason: string, message: string) =>
    condition(deployment, nowMs, { type: 'Progressing', status, reason, message });
  if (deadlineSeconds(deployment) === noDeadline) return undefined;
  if (deployment.spec.paused)
    return old?.reason === 'ProgressDeadlineExceeded'
      ? old
      : say('Unknown', 'DeploymentPaused', 'Deployment is paused');
  const current =
    old?.reason === 'DeploymentPaused' ? say('Unknown', 'DeploymentResumed', 'Deployment is resumed') : old;
  if (noted === 'NewReplicaSetCreated') return say('True', noted, `Created new replica set "${newSet?.metadata.name}"`);
  if (isComplete(deployment, counts))
    return say('True', 'NewReplicaSetAvailable', `${subject} has successfully progressed.`);
  const settled = current?.reason === 'NewReplicaSetAvailable' && counts.replicas === counts.updatedReplicas;
  if (settled) return current;
  if (hasProgressed(deployment.status, counts)) {
    const next = say('True', 'ReplicaSetUpdated', `${subject} is progressing.`);
    return { ...next, lastUpdateTime: metaTime(nowMs) };
  }
  if (!current && noted) return say('True', noted, `Found new replica set "${newSet?.metadata.name}"`);
  if (current && isOverdue(deployment, current, nowMs)) {
    return say('False', 'ProgressDeadlineExceeded', `${subject} has timed out progressing.`);
  }
  return current;
}

function hasProgressed(old: DeploymentStatus | undefined, next: DeploymentStatus): boolean {
  const outdated = (status: DeploymentStatus | undefined) => (status?.replicas ?? 0) - (status?.updatedReplicas ?? 0);
  return (
    (next.updatedReplicas ?? 0) > (old?.updatedReplicas ?? 0) ||
    outdated(next) < outdated(old) ||
    (next.readyReplicas ?? 0) > (old?.readyReplicas ?? 0) ||
    (next.availableReplicas ?? 0) > (old?.availableReplicas ?? 0)
  );
}

const deadlineSeconds = ({ spec }: Deployment): number => spec.progressDeadlineSeconds ?? defaultDeadlineSeconds;

function isOverdue(deployment: Deployment, current: DeploymentCondition, nowMs: number): boolean {
  if (current.reason === 'NewReplicaSetAvailable') return false;
  if (current.reason === 'ProgressDeadlineExceeded') return true;
  return Date.parse(current.lastUpdateTime ?? '') + deadlineSeconds(deployment) * 1000 <= nowMs;
}

function deadlineOf(deployment: Deployment, progressing: DeploymentCondition | undefined): number | undefined {
  const waiting = ['NewReplicaSetCreated', 'FoundNewReplicaSet', 'ReplicaSetUpdated', 'DeploymentResumed'];
  if (!progressing || !waiting.includes(progressing.reason ?? '')) return undefined;
  return Date.parse(progressing.lastUpdateTime ?? '') + deadlineSeconds(deployment) * 1000;
}

function replicaFailure(deployment: Deployment, sets: readonly ReplicaSet[], nowMs: number): DeploymentCondition[] {
  for (const set of sets) {
    const failure = conditionOf(set.status?.conditions, 'ReplicaFailure');
    if (failure?.status !== 'True') continue;
    const { reason = '', message = '' } = failure;
    return [condition(deployment, nowMs, { type: 'ReplicaFailure', status: 'True', reason, message })];
  }
  return [];
}
