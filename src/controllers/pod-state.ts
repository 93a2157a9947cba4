/** What a pod's status says, in the words the controllers use. */
import type { Node, Pod } from '../kube/types.ts';

type ConditionStatus = 'True' | 'False' | 'Unknown';

interface Conditioned {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

/** The condition of a type, if the object has it. */
export function conditionOf<C extends { readonly type: string }>(
  conditions: readonly C[] | undefined,
  type: string,
): C | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/** A condition's status; an absent condition is Unknown. */
export function conditionStatus(object: Conditioned, type: string): ConditionStatus {
  return (conditionOf(object.status?.conditions, type)?.status as ConditionStatus | undefined) ?? 'Unknown';
}

export function isPodReady(pod: Pod): boolean {
  return conditionStatus(pod, 'Ready') === 'True';
}

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

export function isNodeReady(node: Node): boolean {
  return conditionStatus(node, 'Ready') === 'True';
}

/** metav1.Time: RFC 3339 in seconds. */
export function metaTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
