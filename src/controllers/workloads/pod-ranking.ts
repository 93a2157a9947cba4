/** Which pods go first when there are too many: the order of Kubernetes' ActivePodsWithRanks. Pure. */

import { conditionOf, isReady } from '../../kube/conditions.ts';
import type { Pod } from '../../kube/types.ts';
import { availableAt } from '../pod-state.ts';

const deletionCost = 'controller.kubernetes.io/pod-deletion-cost';
const phases: Readonly<Record<string, number>> = { Pending: 0, Unknown: 1, Running: 2 };

/**
 * The pods in the order in which to delete them: unassigned, pending, not ready, cheap, crowded on their node, ready for
 * a short time, often restarted, young.
 *
 * @param crowd how many pods of the same family are on the pod's node
 */
export function rankForDeletion(pods: readonly Pod[], crowd: (pod: Pod) => number, nowMs: number): readonly Pod[] {
  const ranks = new Map(pods.map((pod) => [pod, rank(pod, crowd(pod), nowMs)]));
  return [...pods].sort(
    (a, b) => compare(ranks.get(a)!, ranks.get(b)!) || (a.metadata.name < b.metadata.name ? -1 : 1),
  );
}

function rank(pod: Pod, crowd: number, nowMs: number): readonly number[] {
  return [
    pod.spec.nodeName ? 1 : 0,
    phases[pod.status?.phase ?? 'Pending'] ?? 2,
    isReady(pod) ? 1 : 0,
    cost(pod),
    -crowd,
    // Ages count by their magnitude, so that pods of about one age are not all those of one rollout (KEP-2185).
    magnitude(readySince(pod), nowMs),
    -restarts(pod),
    magnitude(Date.parse(pod.metadata.creationTimestamp), nowMs),
  ];
}

function cost(pod: Pod): number {
  const text = pod.metadata.annotations?.[deletionCost] ?? '0';
  return /^-?\d{1,10}$/.test(text) ? Number(text) : 0;
}

function readySince(pod: Pod): number {
  if (availableAt(pod, 0) === undefined) return Number.POSITIVE_INFINITY;
  return Date.parse(conditionOf(pod.status?.conditions, 'Ready')?.lastTransitionTime ?? '');
}

function restarts(pod: Pod): number {
  return Math.max(0, ...(pod.status?.containerStatuses ?? []).map((status) => status.restartCount));
}

/** The logarithm of an age; -1 for what has not happened yet. */
function magnitude(since: number, nowMs: number): number {
  const age = nowMs - since;
  return age > 0 ? Math.floor(Math.log2(age)) : -1;
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}
