/** What a ReplicaSet says about its pods. Pure. */

import { isReady } from '../../kube/conditions.ts';
import { fromMap, matches } from '../../kube/selectors.ts';
import type { Pod, ReplicaSet } from '../../kube/types.ts';
import { availableAt, metaTime } from '../pod-state.ts';

export type ReplicaSetStatus = NonNullable<ReplicaSet['status']>;

export interface ReplicaFailure {
  readonly reason: 'FailedCreate' | 'FailedDelete';
  readonly message: string;
}

export interface ReplicaSetView {
  readonly status: ReplicaSetStatus;
  /** When the next ready pod becomes available, in milliseconds since the epoch. */
  readonly nextAvailableAt: number | undefined;
}

/** @param pods the active pods that the set owns */
export function replicaSetStatus(
  set: ReplicaSet,
  pods: readonly Pod[],
  failure: ReplicaFailure | undefined,
  nowMs: number,
): ReplicaSetView {
  const template = fromMap(set.spec.template?.metadata?.labels);
  const times = pods.map((pod) => availableAt(pod, set.spec.minReadySeconds ?? 0));
  const later = times.filter((time) => time !== undefined && time > nowMs && Number.isFinite(time)) as number[];
  return {
    nextAvailableAt: later.length > 0 ? Math.min(...later) : undefined,
    status: {
      replicas: pods.length,
      fullyLabeledReplicas: pods.filter((pod) => matches(template, pod.metadata.labels)).length,
      readyReplicas: pods.filter(isReady).length,
      availableReplicas: times.filter((time) => time !== undefined && time <= nowMs).length,
      observedGeneration: set.metadata.generation ?? 0,
      ...conditions(set, failure, nowMs),
    },
  };
}

function conditions(set: ReplicaSet, failure: ReplicaFailure | undefined, nowMs: number) {
  const old = set.status?.conditions ?? [];
  const others = old.filter((condition) => condition.type !== 'ReplicaFailure');
  if (!failure) return others.length > 0 ? { conditions: others } : {};
  const same = old.find((one) => one.type === 'ReplicaFailure' && one.reason === failure.reason);
  const lastTransitionTime = same?.lastTransitionTime ?? metaTime(nowMs);
  return { conditions: [...others, { type: 'ReplicaFailure', status: 'True', ...failure, lastTransitionTime }] };
}
