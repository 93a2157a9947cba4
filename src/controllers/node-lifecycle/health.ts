/** What a node's silence and conditions lead to: its status and its taints. Pure. */

import { conditionStatus } from '../../kube/conditions.ts';
import type { Node } from '../../kube/types.ts';
import { conditionTaintKeys, ownedTaintKeys, type Taint, taintKeys } from '../node-taints.ts';
import { metaTime } from '../pod-state.ts';

type NodeStatus = NonNullable<Node['status']>;

/** The conditions that only the node itself can know. */
const reportedTypes = ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'] as const;

/** The status of a node that has gone silent: all that it reported is unknown. The node's own status when it says so. */
export function silentStatus(node: Node, nowMs: number): NodeStatus {
  const now = metaTime(nowMs);
  const conditions = node.status?.conditions ?? [];
  const unknown = reportedTypes.map((type) => {
    const old = conditions.find((condition) => condition.type === type);
    if (old?.status === 'Unknown') return old;
    return {
      type,
      status: 'Unknown',
      reason: old ? 'NodeStatusUnknown' : 'NodeStatusNeverUpdated',
      message: old ? 'Kubelet stopped posting node status.' : 'Kubelet never posted node status.',
      lastHeartbeatTime: old?.lastHeartbeatTime ?? node.metadata.creationTimestamp,
      lastTransitionTime: now,
    };
  });
  const others = conditions.filter(({ type }) => !reportedTypes.some((one) => one === type));
  return { ...node.status, conditions: [...others, ...unknown] };
}

/**
 * The taints the node should have: the user's, one NoSchedule taint for each condition that is bad, and NoExecute when it is
 * not ready. Taints that stay keep their timeAdded.
 *
 * @param mayEvict false while no node at all is ready: then it is more likely this side that is cut off (Kubernetes'
 * full disruption mode), and nothing must be evicted
 */
export function desiredTaints(node: Node, mayEvict: boolean, nowMs: number): readonly Taint[] {
  const old = node.spec.taints ?? [];
  const keys = conditionTaintKeys(node);
  const wanted = keys.map((key) => ({ key, effect: 'NoSchedule' }));
  if (mayEvict) {
    const evicting = keys.filter((key) => key === taintKeys.notReady || key === taintKeys.unreachable);
    wanted.push(...evicting.map((key) => ({ key, effect: 'NoExecute' })));
  }
  const foreign = old.filter((taint) => !isOwned(taint));
  return [
    ...foreign,
    ...wanted.map(({ key, effect }) => {
      const same = old.find((taint) => taint.key === key && taint.effect === effect);
      return same ?? { key, effect, timeAdded: metaTime(nowMs) };
    }),
  ];
}

/** Set and removed by the node lifecycle; anything else with these effects is the user's. */
function isOwned({ key, effect }: Taint): boolean {
  if (effect === 'NoSchedule') return ownedTaintKeys.has(key);
  return effect === 'NoExecute' && (key === taintKeys.notReady || key === taintKeys.unreachable);
}

/** Equal when they say the same, in any order. */
export function sameTaints(a: readonly Taint[], b: readonly Taint[]): boolean {
  const text = (taints: readonly Taint[]) => taints.map(({ key, effect, value }) => `${key}=${value ?? ''}:${effect}`);
  return text(a).sort().join() === text(b).sort().join();
}

/** What of a node its health depends on: heartbeats alone are no reason to look. */
export function healthFacts(node: Node): string {
  const conditions = (node.status?.conditions ?? []).map(({ type }) => [type, conditionStatus(node, type)]);
  return JSON.stringify([node.metadata.uid, node.spec.taints, node.spec.unschedulable, conditions]);
}
