/** What a pod's status says, in the words the controllers use. */
import { conditionOf } from '../kube/conditions.ts';
import type { Pod } from '../kube/types.ts';

/** Ended for good: phase Succeeded or Failed. */
export function isPodTerminal(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

/** Neither ended nor being deleted. */
export function isPodActive(pod: Pod): boolean {
  return !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined;
}

/**
 * When the pod counts as available, in milliseconds since the epoch: ready for `minReadySeconds`. Undefined while it is
 * not ready.
 */
export function availableAt(pod: Pod, minReadySeconds: number): number | undefined {
  const ready = conditionOf(pod.status?.conditions, 'Ready');
  if (ready?.status !== 'True') return undefined;
  if (minReadySeconds === 0) return 0;
  const since = ready.lastTransitionTime ? Date.parse(ready.lastTransitionTime) : Number.POSITIVE_INFINITY;
  return since + minReadySeconds * 1000;
}

/** metav1.Time: RFC 3339 in seconds. */
export function metaTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
