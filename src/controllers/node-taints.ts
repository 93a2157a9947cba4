/**
 * Taints and tolerations, and the taints that a node's conditions imply. Keys and rules as k8s.io/api/core/v1
 * (well_known_taints.go) and k8s.io/component-helpers/scheduling/corev1.
 */

import { conditionStatus } from '../kube/conditions.ts';
import type { corev1, Node, Pod } from '../kube/types.ts';

export type Taint = corev1.Taint;
export type Toleration = corev1.Toleration;
export type TaintEffect = 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';

export const taintKeys = {
  notReady: 'node.kubernetes.io/not-ready',
  unreachable: 'node.kubernetes.io/unreachable',
  unschedulable: 'node.kubernetes.io/unschedulable',
  memoryPressure: 'node.kubernetes.io/memory-pressure',
  diskPressure: 'node.kubernetes.io/disk-pressure',
  pidPressure: 'node.kubernetes.io/pid-pressure',
  networkUnavailable: 'node.kubernetes.io/network-unavailable',
  outOfService: 'node.kubernetes.io/out-of-service',
} as const;

const pressures = [
  ['MemoryPressure', taintKeys.memoryPressure],
  ['DiskPressure', taintKeys.diskPressure],
  ['PIDPressure', taintKeys.pidPressure],
  ['NetworkUnavailable', taintKeys.networkUnavailable],
] as const;

/** The keys of the NoSchedule taints that follow from the node's conditions and spec.unschedulable. */
export function conditionTaintKeys(node: Node): readonly string[] {
  const ready = conditionStatus(node, 'Ready');
  const unreported = node.status?.conditions?.some((condition) => condition.type === 'Ready') !== true;
  return [
    ...(ready === 'False' || unreported ? [taintKeys.notReady] : ready === 'Unknown' ? [taintKeys.unreachable] : []),
    ...pressures.filter(([type]) => conditionStatus(node, type) === 'True').map(([, key]) => key),
    ...(node.spec.unschedulable ? [taintKeys.unschedulable] : []),
  ];
}

/** Every key that `conditionTaintKeys` may give. */
export const ownedTaintKeys: ReadonlySet<string> = new Set([
  taintKeys.notReady,
  taintKeys.unreachable,
  taintKeys.unschedulable,
  ...pressures.map(([, key]) => key),
]);

/** The node's taints, with those that its conditions imply even before they are written onto it. */
export function effectiveTaints(node: Node): readonly Taint[] {
  const taints = node.spec.taints ?? [];
  const implied = conditionTaintKeys(node).filter(
    (key) => !taints.some((taint) => taint.key === key && taint.effect === 'NoSchedule'),
  );
  return implied.length === 0 ? taints : [...taints, ...implied.map((key) => ({ key, effect: 'NoSchedule' }))];
}

export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (toleration.key && toleration.key !== taint.key) return false;
  switch (toleration.operator || 'Equal') {
    case 'Equal':
      return Boolean(toleration.key) && (toleration.value ?? '') === (taint.value ?? '');
    case 'Exists':
      return true;
    default:
      return false;
  }
}

/** The first taint of the effects that the pod does not tolerate. */
export function untoleratedTaint(
  pod: Pod,
  taints: readonly Taint[],
  effects: readonly TaintEffect[],
): Taint | undefined {
  const tolerations = pod.spec.tolerations ?? [];
  return taints.find(
    (taint) =>
      effects.includes(taint.effect as TaintEffect) && !tolerations.some((toleration) => tolerates(toleration, taint)),
  );
}

/** "{key: value}", as the scheduler's messages write a taint. */
export function formatTaint(taint: Taint): string {
  return `{${taint.key}: ${taint.value ?? ''}}`;
}
