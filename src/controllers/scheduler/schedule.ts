/** One decision: which node a pod goes to, or why none. Pure. */
import type { Node, Pod } from '../../kube/types.ts';
import { effectiveTaints, untoleratedTaint } from '../node-taints.ts';
import { preferredNodeWeight, preferredPodTerms, preparePodTerm } from './affinity.ts';
import type { NodeInfo, PodInfo } from './cluster-state.ts';
import { podInfo } from './cluster-state.ts';
import type { Cluster } from './filter.ts';
import { buildFilters } from './filters.ts';
import { buildSpreadScore } from './topology-spread.ts';

export type Decision =
  | { readonly type: 'bind'; readonly nodeName: string }
  | { readonly type: 'unschedulable'; readonly message: string };

export function schedule(pod: Pod, cluster: Cluster): Decision {
  if (cluster.nodes.length === 0) {
    return { type: 'unschedulable', message: 'no nodes available to schedule pods' };
  }
  const info = podInfo(pod);
  const filters = buildFilters(info, cluster);
  const refusals = new Map<string, number>();
  const candidates: NodeInfo[] = [];
  for (const node of cluster.nodes) {
    const reasons = firstReasons(filters, node);
    if (reasons.length === 0) candidates.push(node);
    for (const reason of reasons) refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
  }
  const best = bestOf(candidates, info, cluster);
  return best
    ? { type: 'bind', nodeName: best.node.metadata.name }
    : { type: 'unschedulable', message: unschedulableMessage(cluster.nodes.length, refusals) };
}

function firstReasons(filters: ReturnType<typeof buildFilters>, node: NodeInfo): readonly string[] {
  for (const filter of filters) {
    const reasons = filter(node);
    if (reasons.length > 0) return reasons;
  }
  return [];
}

/** "0/3 nodes are available: 1 node(s) had untolerated taint {a: b}, 2 Insufficient cpu." */
function unschedulableMessage(nodes: number, refusals: ReadonlyMap<string, number>): string {
  const reasons = [...refusals].map(([reason, count]) => `${count} ${reason}`).sort();
  return `0/${nodes} nodes are available: ${reasons.join(', ')}.`;
}

/** The node with the least costs, compared one after the other; the name decides last, so that a decision is repeatable. */
function bestOf(candidates: readonly NodeInfo[], info: PodInfo, cluster: Cluster): NodeInfo | undefined {
  if (candidates.length <= 1) return candidates[0];
  const costs = buildCosts(info, cluster);
  let best: { node: NodeInfo; costs: readonly number[] } | undefined;
  for (const node of candidates) {
    const own = costs(node);
    const order = best ? compare(own, best.costs) || compareNames(node.node, best.node.node) : -1;
    if (order < 0) best = { node, costs: own };
  }
  return best?.node;
}

/**
 * What counts, from the most important: preferences the user wrote, then taints to be avoided, then few pods of the same
 * group, few pods at all, little of the node asked for, and the longest time since it was picked.
 */
function buildCosts(info: PodInfo, cluster: Cluster): (node: NodeInfo) => readonly number[] {
  const affinity = podPreference(info.pod, cluster);
  const spread = buildSpreadScore(info.pod, cluster);
  return (node) => [
    -(preferredNodeWeight(info.pod, node.node) + affinity(node)),
    spread(node),
    untoleratedTaint(info.pod, effectiveTaints(node.node), ['PreferNoSchedule']) ? 1 : 0,
    node.groups.get(info.group) ?? 0,
    node.pods.size,
    usage(node),
    node.lastPicked,
  ];
}

/** The weights of the preferred pod affinity terms met on the node, less those of the anti-affinity terms. */
function podPreference(pod: Pod, cluster: Cluster): (node: NodeInfo) => number {
  const weights = new Map<string, Map<string, number>>();
  for (const [type, sign] of [['podAffinity', 1] as const, ['podAntiAffinity', -1] as const]) {
    for (const { podAffinityTerm, weight } of preferredPodTerms(pod, type)) {
      const term = preparePodTerm(podAffinityTerm, pod, cluster.namespaceLabels);
      const domains = weights.get(term.topologyKey) ?? new Map<string, number>();
      weights.set(term.topologyKey, domains);
      for (const { node, pods } of cluster.nodes) {
        const domain = node.metadata.labels?.[term.topologyKey];
        if (domain === undefined) continue;
        const matching = pods.values().reduce((count, other) => count + (term.matchesPod(other.pod) ? 1 : 0), 0);
        domains.set(domain, (domains.get(domain) ?? 0) + sign * weight * matching);
      }
    }
  }
  return ({ node }) => {
    let sum = 0;
    for (const [key, domains] of weights) sum += domains.get(node.metadata.labels?.[key] ?? '') ?? 0;
    return sum;
  };
}

/** The larger of the shares of cpu and memory that are asked for, in percent. */
function usage({ capacity, requested }: NodeInfo): number {
  const share = (name: string) => {
    const total = capacity.resources.get(name) ?? 0;
    return total > 0 ? Math.round((100 * (requested.get(name) ?? 0)) / total) : 0;
  };
  return Math.max(share('cpu'), share('memory'));
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return 0;
}

function compareNames(a: Node, b: Node): number {
  return a.metadata.name < b.metadata.name ? -1 : 1;
}
