/** When a pod must leave its node because of NoExecute taints. Pure. */
import type { Node, Pod } from '../../kube/types.ts';
import { type Taint, taintKeys, tolerates } from '../node-taints.ts';

export type EvictionTime =
  | { readonly type: 'never' }
  /** In milliseconds since the epoch. */
  | { readonly type: 'at'; readonly at: number };

/**
 * A taint that is not tolerated evicts at once, one that is tolerated for a time after the shortest such time since the
 * taint was added.
 *
 * @param notBefore no eviction for a silent node earlier than this: after a restart the nodes may be about to report
 */
export function evictionTime(pod: Pod, node: Node, notBefore: number, nowMs: number): EvictionTime {
  let at = Number.POSITIVE_INFINITY;
  for (const taint of node.spec.taints ?? []) {
    if (taint.effect !== 'NoExecute') continue;
    const seconds = toleratedFor(pod, taint);
    if (seconds === Number.POSITIVE_INFINITY) continue;
    const since = taint.timeAdded ? Date.parse(taint.timeAdded) : nowMs;
    const deadline = since + Math.max(0, seconds) * 1000;
    at = Math.min(at, isOurs(taint) ? Math.max(deadline, notBefore) : deadline);
  }
  return at === Number.POSITIVE_INFINITY ? { type: 'never' } : { type: 'at', at };
}

/** Seconds; 0 when the taint is not tolerated at all. */
function toleratedFor(pod: Pod, taint: Taint): number {
  const matching = (pod.spec.tolerations ?? []).filter((toleration) => tolerates(toleration, taint));
  if (matching.length === 0) return 0;
  return Math.min(...matching.map(({ tolerationSeconds }) => tolerationSeconds ?? Number.POSITIVE_INFINITY));
}

const isOurs = ({ key }: Taint): boolean => key === taintKeys.notReady || key === taintKeys.unreachable;
