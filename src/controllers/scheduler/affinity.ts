/** Node selectors, and the terms by which pods attract and repel each other. */
import { fromLabelSelector, matches, type Requirement, type Selector } from '../../kube/selectors.ts';
import type { corev1, LabelSelector, Node, Pod } from '../../kube/types.ts';

/** Whether the node has what spec.nodeSelector and the required node affinity ask for. */
export function matchesNodeAffinity(pod: Pod, node: Node): boolean {
  const wanted = Object.entries(pod.spec.nodeSelector ?? {});
  if (!wanted.every(([key, value]) => node.metadata.labels?.[key] === value)) return false;
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return !required || required.nodeSelectorTerms.some((term) => matchesNodeSelectorTerm(term, node));
}

/** A term without any expression matches no node. */
export function matchesNodeSelectorTerm(term: corev1.NodeSelectorTerm, node: Node): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length + fields.length === 0) return false;
  try {
    return (
      matches(expressions.map(toRequirement), node.metadata.labels) &&
      matches(fields.map(toRequirement), { 'metadata.name': node.metadata.name })
    );
  } catch {
    return false;
  }
}

function toRequirement({ key, operator, values = [] }: corev1.NodeSelectorRequirement): Requirement {
  switch (operator) {
    case 'In':
    case 'NotIn':
      return { key, operator, values };
    case 'Exists':
    case 'DoesNotExist':
      return { key, operator };
    case 'Gt':
    case 'Lt':
      return { key, operator, values: [values[0] ?? ''] };
    default:
      throw new TypeError(`unknown node selector operator ${JSON.stringify(operator)}`);
  }
}

/** The sum of the weights of the preferred node affinity terms that the node meets. */
export function preferredNodeWeight(pod: Pod, node: Node): number {
  const preferred = pod.spec.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  return preferred
    .filter((term) => matchesNodeSelectorTerm(term.preference, node))
    .reduce((sum, term) => sum + term.weight, 0);
}

/** The labels of a namespace by its name. */
export type NamespaceLabels = (namespace: string) => Readonly<Record<string, string>> | undefined;

/** A required pod (anti-)affinity term, ready to be matched. */
export interface PodTerm {
  readonly topologyKey: string;
  matchesPod(other: Pod): boolean;
}

/** Prepares a pod's term. An absent labelSelector matches no pod; an absent namespace list means the pod's own. */
export function preparePodTerm(term: corev1.PodAffinityTerm, owner: Pod, namespaceLabels: NamespaceLabels): PodTerm {
  const selector = term.labelSelector ? withLabelKeys(term, term.labelSelector, owner) : undefined;
  const names = new Set(term.namespaces ?? []);
  const namespaces = term.namespaceSelector ? fromLabelSelector(term.namespaceSelector) : undefined;
  if (names.size === 0 && !namespaces) names.add(owner.metadata.namespace);
  const inScope = (namespace: string) =>
    names.has(namespace) || (namespaces !== undefined && matches(namespaces, namespaceLabels(namespace)));
  return {
    topologyKey: term.topologyKey,
    matchesPod: (other) =>
      selector !== undefined && matches(selector, other.metadata.labels) && inScope(other.metadata.namespace),
  };
}

interface LabelKeys {
  readonly matchLabelKeys?: readonly string[];
  readonly mismatchLabelKeys?: readonly string[];
}

/** KEP-3633: the values of these labels of the pod itself are added to the selector. */
export function withLabelKeys(keys: LabelKeys, selector: LabelSelector, pod: Pod): Selector {
  const own = (key: string) => pod.metadata.labels?.[key];
  const added = (names: readonly string[] | undefined, operator: 'In' | 'NotIn'): Requirement[] =>
    (names ?? []).flatMap((key) => {
      const value = own(key);
      return value === undefined ? [] : [{ key, operator, values: [value] }];
    });
  return [
    ...fromLabelSelector(selector),
    ...added(keys.matchLabelKeys, 'In'),
    ...added(keys.mismatchLabelKeys, 'NotIn'),
  ];
}

export function requiredPodTerms(pod: Pod, type: 'podAffinity' | 'podAntiAffinity'): readonly corev1.PodAffinityTerm[] {
  return pod.spec.affinity?.[type]?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
}

export function preferredPodTerms(
  pod: Pod,
  type: 'podAffinity' | 'podAntiAffinity',
): readonly corev1.WeightedPodAffinityTerm[] {
  return pod.spec.affinity?.[type]?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
}
