/**
 * The oracle's part for ClusterNetworkPolicy (policy.networking.k8s.io), as plain as `oracle.ts`, from the words of the API:
 * within a tier the lowest priority is asked first, within a policy the rules in their order; the first that matches decides.
 *
 * Fail closed, as the API demands of what is not understood: an Accept rule then matches nothing, a Deny or Pass rule
 * denies everything; a subject that is not understood is every pod.
 */
import { cidrContains, parseCidr } from '../../base/ip.ts';
import type {
  ClusterNetworkPolicyPeer,
  ClusterNetworkPolicyProtocol,
  ClusterNetworkPolicyRule,
} from '../../kube/cluster-network-policy.ts';
import type { ClusterNetworkPolicy, LabelSelector } from '../../kube/types.ts';

export type Tier = 'Admin' | 'Baseline';
export type TierAction = 'Accept' | 'Deny' | 'Pass';

export interface ClusterRuleMatch {
  readonly policy: string;
  readonly tier: Tier;
  readonly priority: number;
  /** "spec.ingress[0]". */
  readonly rule: string;
  readonly ruleName?: string;
  readonly action: TierAction;
}

interface PodLabels {
  readonly namespace: Readonly<Record<string, string>> | undefined;
  readonly pod: Readonly<Record<string, string>>;
}

/** One packet as the rules of one pod see it. */
export interface TierView {
  /** Undefined when the pod's namespace is not known. */
  readonly subject: PodLabels | undefined;
  /** Undefined when the other end is no pod that is known. */
  readonly peer: PodLabels | undefined;
  readonly address: string;
  /** The labels of the nodes that have the address. */
  readonly nodes: readonly Readonly<Record<string, string>>[];
  /** The domain names that have it. */
  readonly domainNames: readonly string[];
  readonly protocol: string;
  readonly dport: number | undefined;
  /** The ports that the receiving pod has under a name, in the packet's protocol. */
  portsNamed(name: string): readonly number[];
  /** undefined: the selector cannot be understood. */
  selects(
    selector: LabelSelector | undefined,
    labels: Readonly<Record<string, string>> | undefined,
  ): boolean | undefined;
}

export function firstMatch(
  tier: Tier,
  direction: 'ingress' | 'egress',
  view: TierView,
  policies: readonly ClusterNetworkPolicy[],
): ClusterRuleMatch | undefined {
  const ordered = policies
    .filter(({ spec }) => tierOf(spec.tier) === tier)
    .sort((a, b) => a.spec.priority - b.spec.priority || (a.metadata.name < b.metadata.name ? -1 : 1));
  for (const { metadata, spec } of ordered) {
    if (!view.subject || !isSubject(spec.subject, view.subject, view)) continue;
    const rules: readonly [ClusterNetworkPolicyRule, readonly ClusterNetworkPolicyPeer[] | undefined][] =
      direction === 'ingress'
        ? (spec.ingress ?? []).map((rule) => [rule, rule.from])
        : (spec.egress ?? []).map((rule) => [rule, rule.to]);
    for (const [i, [rule, peers]] of rules.entries()) {
      const action = outcomeOf(rule, peers, direction, view);
      if (!action) continue;
      const name = rule.name ? { ruleName: rule.name } : {};
      return {
        policy: metadata.name,
        tier,
        priority: spec.priority,
        rule: `spec.${direction}[${i}]`,
        ...name,
        action,
      };
    }
  }
  return undefined;
}

/** A tier that nobody knows might have been the first one. */
function tierOf(tier: string): Tier {
  return tier === 'Baseline' ? 'Baseline' : 'Admin';
}

function isSubject(subject: ClusterNetworkPolicyPeer, labels: PodLabels, view: TierView): boolean {
  const keys = Object.keys(subject ?? {});
  if (keys.length !== 1) return true;
  if (subject.namespaces) return view.selects(subject.namespaces, labels.namespace) !== false;
  if (!subject.pods) return true;
  const inNamespace = view.selects(subject.pods.namespaceSelector, labels.namespace);
  const chosen = view.selects(subject.pods.podSelector, labels.pod);
  return inNamespace !== false && chosen !== false;
}

/** What the rule does to the packet; undefined when it does not match. */
function outcomeOf(
  rule: ClusterNetworkPolicyRule,
  peers: readonly ClusterNetworkPolicyPeer[] | undefined,
  direction: 'ingress' | 'egress',
  view: TierView,
): TierAction | undefined {
  const peerMatches = (peers ?? []).map((peer) => isPeer(peer, rule.action, direction, view));
  const ports = rule.protocols?.map((protocol) => isPort(protocol, view));
  const understood =
    peerMatches.length > 0 && !peerMatches.includes(undefined) && !ports?.includes(undefined) && isAction(rule.action);
  if (!understood) return rule.action === 'Accept' ? undefined : 'Deny';
  return peerMatches.includes(true) && (!ports?.length || ports.includes(true))
    ? (rule.action as TierAction)
    : undefined;
}

function isAction(action: string): action is TierAction {
  return action === 'Accept' || action === 'Deny' || action === 'Pass';
}

function isPeer(
  peer: ClusterNetworkPolicyPeer,
  action: string,
  direction: 'ingress' | 'egress',
  view: TierView,
): boolean | undefined {
  const keys = Object.keys(peer);
  if (keys.length !== 1) return undefined;
  if (peer.namespaces) {
    const chosen = view.selects(peer.namespaces, {});
    if (chosen === undefined) return undefined;
    return view.peer ? view.selects(peer.namespaces, view.peer.namespace) : false;
  }
  if (peer.pods) {
    const { namespaceSelector, podSelector } = peer.pods;
    if (view.selects(namespaceSelector, {}) === undefined || view.selects(podSelector, {}) === undefined)
      return undefined;
    if (!view.peer) return false;
    return (
      view.selects(namespaceSelector, view.peer.namespace) === true && view.selects(podSelector, view.peer.pod) === true
    );
  }
  if (direction === 'ingress') return undefined;
  if (peer.nodes) {
    const { nodes } = peer;
    if (view.selects(nodes, {}) === undefined) return undefined;
    return view.nodes.some((labels) => view.selects(nodes, labels) === true);
  }
  if (peer.domainNames?.length) {
    // "DomainNames is only supported for Accept rules."
    if (action !== 'Accept' || !peer.domainNames.every(isDomainName)) return undefined;
    return peer.domainNames.some((pattern) => view.domainNames.some((name) => isNamed(name, pattern)));
  }
  if (!peer.networks?.length) return undefined;
  try {
    return peer.networks.map(parseCidr).some((cidr) => cidrContains(cidr, view.address));
  } catch {
    return undefined;
  }
}

/** Labels with dots between; an asterisk may stand in the place of the first ones. */
function isDomainName(text: string): boolean {
  const labels = text.replace(/\.$/, '').split('.');
  const own = labels[0] === '*' ? labels.slice(1) : labels;
  return own.length >= 2 && own.every((label) => /^[a-z0-9]([-a-z0-9_]*[a-z0-9])?$/i.test(label));
}

/** "'*', the wildcard specifier, matches one or more entire labels." */
function isNamed(name: string, pattern: string): boolean {
  const labels = (text: string) => text.toLowerCase().split('.').filter(Boolean);
  const [has, wanted] = [labels(name), labels(pattern)];
  if (wanted[0] !== '*') return has.join('.') === wanted.join('.');
  const parent = wanted.slice(1);
  return has.length > parent.length && has.slice(-parent.length).join('.') === parent.join('.');
}

function isPort(protocol: ClusterNetworkPolicyProtocol, view: TierView): boolean | undefined {
  const keys = Object.keys(protocol);
  if (keys.length !== 1) return undefined;
  const { destinationNamedPort, tcp, udp, sctp } = protocol;
  if (destinationNamedPort)
    return view.dport !== undefined && view.portsNamed(destinationNamedPort).includes(view.dport);
  const details = tcp ?? udp ?? sctp;
  if (!details) return undefined;
  const name = tcp ? 'TCP' : udp ? 'UDP' : 'SCTP';
  const port = details.destinationPort;
  // The API demands a port: without one, there is a field that is not known here.
  if (port === undefined) return undefined;
  const range = port.range ?? { start: port.number, end: port.number };
  const { start, end } = range;
  if ((port.range === undefined) === (port.number === undefined) || start === undefined || end === undefined)
    return undefined;
  if (!(start >= 1 && start <= end && end <= 65535)) return undefined;
  return view.protocol === name && view.dport !== undefined && start <= view.dport && view.dport <= end;
}
