/**
 * Why a pod cannot be on a node. Each filter looks at the whole cluster once (if it must) and then answers per node with
 * reasons in the words of Kubernetes' scheduler; no reason means that the node will do.
 */
import type { Pod } from '../../kube/types.ts';
import { effectiveTaints, formatTaint, taintKeys, untoleratedTaint } from '../node-taints.ts';
import { matchesNodeAffinity, preparePodTerm, requiredPodTerms } from './affinity.ts';
import type { HostPort, PodInfo } from './cluster-state.ts';
import type { Cluster, Filter } from './filter.ts';
import { buildSpreadFilter } from './topology-spread.ts';

const fits: readonly string[] = [];

/** The filters in the order in which they are asked; the first that has a reason speaks for the node. */
export function buildFilters(info: PodInfo, cluster: Cluster): readonly Filter[] {
  return [
    unschedulableFilter(info.pod),
    taintFilter(info.pod),
    (node) => (matchesNodeAffinity(info.pod, node.node) ? fits : ["node(s) didn't match Pod's node affinity/selector"]),
    hostPortFilter(info.hostPorts),
    resourceFilter(info),
    ...buildSpreadFilter(info.pod, cluster),
    ...podAffinityFilters(info.pod, cluster),
  ];
}

function unschedulableFilter(pod: Pod): Filter {
  const tolerated = !untoleratedTaint(pod, [{ key: taintKeys.unschedulable, effect: 'NoSchedule' }], ['NoSchedule']);
  return ({ node }) => (node.spec.unschedulable && !tolerated ? ['node(s) were unschedulable'] : fits);
}

function taintFilter(pod: Pod): Filter {
  return ({ node }) => {
    const taint = untoleratedTaint(pod, effectiveTaints(node), ['NoSchedule', 'NoExecute']);
    return taint ? [`node(s) had untolerated taint ${formatTaint(taint)}`] : fits;
  };
}

function hostPortFilter(wanted: readonly HostPort[]): Filter {
  if (wanted.length === 0) return () => fits;
  return ({ pods }) => {
    for (const other of pods.values()) {
      if (other.hostPorts.some((port) => wanted.some((mine) => portsCollide(mine, port)))) {
        return ["node(s) didn't have free ports for the requested pod ports"];
      }
    }
    return fits;
  };
}

/** An unspecified address collides with every address of the port. */
function portsCollide(a: HostPort, b: HostPort): boolean {
  const anywhere = (ip: string) => ip === '0.0.0.0' || ip === '::';
  return a.port === b.port && a.protocol === b.protocol && (a.ip === b.ip || anywhere(a.ip) || anywhere(b.ip));
}

function resourceFilter({ requests }: PodInfo): Filter {
  return ({ capacity, pods, requested }) => {
    const reasons = pods.size + 1 > capacity.pods ? ['Too many pods'] : [];
    for (const [name, amount] of requests) {
      const free = (capacity.resources.get(name) ?? 0) - (requested.get(name) ?? 0);
      if (amount > 0 && amount > free) reasons.push(`Insufficient ${name}`);
    }
    return reasons;
  };
}

/** The values of a topology key at which there are pods that the test accepts. */
function domainsWith(cluster: Cluster, topologyKey: string, accepts: (pod: Pod) => boolean): ReadonlySet<string> {
  const domains = new Set<string>();
  for (const { node, pods } of cluster.nodes) {
    const domain = node.metadata.labels?.[topologyKey];
    if (domain === undefined || domains.has(domain)) continue;
    if (pods.values().some((other) => accepts(other.pod))) domains.add(domain);
  }
  return domains;
}

function podAffinityFilters(pod: Pod, cluster: Cluster): readonly Filter[] {
  const filters: Filter[] = [];
  const attract = requiredPodTerms(pod, 'podAffinity');
  if (attract.length > 0) filters.push(affinityFilter(pod, cluster));
  const repel = requiredPodTerms(pod, 'podAntiAffinity').map((term) => {
    const { topologyKey, matchesPod } = preparePodTerm(term, pod, cluster.namespaceLabels);
    return { topologyKey, domains: domainsWith(cluster, topologyKey, matchesPod) };
  });
  if (repel.length > 0) {
    filters.push(({ node }) =>
      repel.some(({ topologyKey, domains }) => domains.has(node.metadata.labels?.[topologyKey] ?? ''))
        ? ["node(s) didn't match pod anti-affinity rules"]
        : fits,
    );
  }
  filters.push(existingAntiAffinityFilter(pod, cluster));
  return filters;
}

/** The first pod of a group that wants to be with its own kind may go anywhere: nobody of them is there yet. */
function affinityFilter(pod: Pod, cluster: Cluster): Filter {
  const terms = requiredPodTerms(pod, 'podAffinity').map((term) => preparePodTerm(term, pod, cluster.namespaceLabels));
  // A pod counts only if it meets all terms, as in Kubernetes.
  const accepts = (other: Pod) => terms.every((term) => term.matchesPod(other));
  const places = terms.map(({ topologyKey }) => ({ topologyKey, domains: domainsWith(cluster, topologyKey, accepts) }));
  const first = places.every(({ domains }) => domains.size === 0) && accepts(pod);
  return ({ node }) =>
    places.every(({ topologyKey, domains }) => {
      const domain = node.metadata.labels?.[topologyKey];
      return domain !== undefined && (first || domains.has(domain));
    })
      ? fits
      : ["node(s) didn't match pod affinity rules"];
}

function existingAntiAffinityFilter(pod: Pod, cluster: Cluster): Filter {
  const refused = new Map<string, Set<string>>();
  for (const { node, pods } of cluster.nodes) {
    for (const { pod: other } of pods.values()) {
      for (const term of requiredPodTerms(other, 'podAntiAffinity')) {
        const domain = node.metadata.labels?.[term.topologyKey];
        if (domain === undefined || !preparePodTerm(term, other, cluster.namespaceLabels).matchesPod(pod)) continue;
        const domains = refused.get(term.topologyKey) ?? new Set();
        refused.set(term.topologyKey, domains.add(domain));
      }
    }
  }
  if (refused.size === 0) return () => fits;
  return ({ node }) =>
    refused.entries().some(([key, domains]) => domains.has(node.metadata.labels?.[key] ?? ''))
      ? ["node(s) didn't satisfy existing pods anti-affinity rules"]
      : fits;
}
