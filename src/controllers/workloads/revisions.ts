/** The annotations by which kubectl rollout history and undo work. Pure. */
import type { Deployment, ReplicaSet } from '../../kube/types.ts';
import { rolloutLimits } from './rollout.ts';

export const revisionAnnotation = 'deployment.kubernetes.io/revision';
export const revisionHistoryAnnotation = 'deployment.kubernetes.io/revision-history';
export const desiredReplicasAnnotation = 'deployment.kubernetes.io/desired-replicas';
export const maxReplicasAnnotation = 'deployment.kubernetes.io/max-replicas';

/** Not copied from a Deployment to its ReplicaSets. */
const ownAnnotations = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
  revisionAnnotation,
  revisionHistoryAnnotation,
  desiredReplicasAnnotation,
  maxReplicasAnnotation,
  'deprecated.deployment.rollback.to',
]);

type Annotations = Readonly<Record<string, string>>;

export function revisionOf(set: Pick<ReplicaSet, 'metadata'>): number {
  const revision = Number(set.metadata.annotations?.[revisionAnnotation]);
  return Number.isSafeInteger(revision) ? revision : 0;
}

/** The annotations of the newest ReplicaSet: the Deployment's own (change-cause …) and a revision above all others. */
export function newSetAnnotations(
  deployment: Deployment,
  set: Pick<ReplicaSet, 'metadata'> | undefined,
  others: readonly ReplicaSet[],
): Annotations {
  const old = set?.metadata.annotations ?? {};
  const copied = Object.entries(deployment.metadata.annotations ?? {}).filter(([key]) => !ownAnnotations.has(key));
  const revision = Math.max(0, ...others.map(revisionOf)) + 1;
  const annotations: Record<string, string> = { ...old, ...Object.fromEntries(copied) };
  const before = set ? revisionOf(set) : 0;
  if (before < revision) {
    annotations[revisionAnnotation] = String(revision);
    if (before > 0) {
      annotations[revisionHistoryAnnotation] = [old[revisionHistoryAnnotation], before].filter(Boolean).join(',');
    }
  }
  return annotations;
}

/** How large the Deployment was when the set was last scaled: by this a change of size is seen. */
export function sizeAnnotations(deployment: Deployment): Annotations {
  const { replicas, maxSurge } = rolloutLimits(deployment);
  return { [desiredReplicasAnnotation]: String(replicas), [maxReplicasAnnotation]: String(replicas + maxSurge) };
}
