/**
 * spec.topologySpreadConstraints (KEP-895, with minDomains of KEP-3022, the inclusion policies of KEP-3094 and
 * matchLabelKeys of KEP-3243): pods that a selector names are spread evenly over the values of a node label.
 */
import { matches, type Selector } from '../../kube/selectors.ts';
import type { corev1, Pod } from '../../kube/types.ts';
import { effectiveTaints, untoleratedTaint } from '../node-taints.ts';
import { matchesNodeAffinity, withLabelKeys } from './affinity.ts';
import type { NodeInfo } from './cluster-state.ts';
import type { Cluster, Filter } from './filter.ts';

type Constraint = corev1.TopologySpreadConstraint;

interface Spread {
  readonly constraint: Constraint;
  /** Matching pods by domain, over the nodes that count. */
  readonly counts: ReadonlyMap<string, number>;
  /** 1 when the pod itself will be counted. */
  readonly self: 0 | 1;
}

/** The filter of the DoNotSchedule constraints; none when the pod has no such constraint. */
export function buildSpreadFilter(pod: Pod, cluster: Cluster): readonly Filter[] {
  const spreads = countSpreads(pod, cluster, 'DoNotSchedule');
  if (spreads.length === 0) return [];
  return [
    ({ node }) => {
      for (const { constraint, counts, self } of spreads) {
        const domain = node.metadata.labels?.[constraint.topologyKey];
        if (domain === undefined) {
          return ["node(s) didn't match pod topology spread constraints (missing required label)"];
        }
        const enough = counts.size >= (constraint.minDomains ?? 1);
        const least = enough ? Math.min(...counts.values()) : 0;
        if ((counts.get(domain) ?? 0) + self - least > constraint.maxSkew) {
          return ["node(s) didn't match pod topology spread constraints"];
        }
      }
      return [];
    },
  ];
}

/** How many pods of the ScheduleAnyway constraints are in the node's domains already: fewer is better. */
export function buildSpreadScore(pod: Pod, cluster: Cluster): (node: NodeInfo) => number {
  const spreads = countSpreads(pod, cluster, 'ScheduleAnyway');
  return ({ node }) =>
    spreads.reduce((sum, { constraint, counts }) => {
      const domain = node.metadata.labels?.[constraint.topologyKey];
      return sum + (domain === undefined ? Math.max(0, ...counts.values()) + 1 : (counts.get(domain) ?? 0));
    }, 0);
}

function countSpreads(pod: Pod, cluster: Cluster, action: 'DoNotSchedule' | 'ScheduleAnyway'): readonly Spread[] {
  const constraints = (pod.spec.topologySpreadConstraints ?? []).filter((one) => one.whenUnsatisfiable === action);
  return constraints.map((constraint) => {
    const selector = constraint.labelSelector ? withLabelKeys(constraint, constraint.labelSelector, pod) : undefined;
    const counts = new Map<string, number>();
    for (const info of cluster.nodes) {
      if (!countsNode(pod, info, constraint, constraints)) continue;
      const domain = info.node.metadata.labels![constraint.topologyKey]!;
      counts.set(domain, (counts.get(domain) ?? 0) + matchingPods(pod, info, selector));
    }
    return { constraint, counts, self: selector && matches(selector, pod.metadata.labels) ? 1 : 0 };
  });
}

/** A node counts when it has all the topology keys and meets the inclusion policies. */
function countsNode(pod: Pod, { node }: NodeInfo, constraint: Constraint, all: readonly Constraint[]): boolean {
  if (!all.every(({ topologyKey }) => node.metadata.labels?.[topologyKey] !== undefined)) return false;
  if ((constraint.nodeAffinityPolicy ?? 'Honor') === 'Honor' && !matchesNodeAffinity(pod, node)) return false;
  return (
    (constraint.nodeTaintsPolicy ?? 'Ignore') === 'Ignore' ||
    !untoleratedTaint(pod, effectiveTaints(node), ['NoSchedule', 'NoExecute'])
  );
}

function matchingPods(pod: Pod, { pods }: NodeInfo, selector: Selector | undefined): number {
  if (!selector) return 0;
  let count = 0;
  for (const { pod: other } of pods.values()) {
    const counted =
      other.metadata.namespace === pod.metadata.namespace &&
      other.metadata.deletionTimestamp === undefined &&
      matches(selector, other.metadata.labels);
    if (counted) count++;
  }
  return count;
}
