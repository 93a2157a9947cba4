/** The condition by which a pod says that it was ended from outside (KEP-3329). Pure. */
import type { Pod } from '../kube/types.ts';
import { metaTime } from './pod-state.ts';

export function withDisruptionTarget(
  pod: Pod,
  why: { readonly reason: string; readonly message: string },
  nowMs: number,
): Pod {
  const others = (pod.status?.conditions ?? []).filter((condition) => condition.type !== 'DisruptionTarget');
  const condition = { type: 'DisruptionTarget', status: 'True', ...why, lastTransitionTime: metaTime(nowMs) };
  return { ...pod, status: { ...pod.status, conditions: [...others, condition] } };
}
