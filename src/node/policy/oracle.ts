/**
 * Says of one packet whether NetworkPolicy allows it, and which policies and rules decided: for explanations, for what-if
 * questions, and as the yardstick for the kernel's rules. It is written from the words of the API's documentation
 * (networking.k8s.io/v1) and shares nothing with the model: no identities, no classes, no compiled policies. Slow and plain.
 *
 * It sees the whole cluster, so it judges both ends: the packet passes when the sender's egress and the receiver's ingress
 * allow it. Addresses are those after Service translation.
 */
import { cidrContains, isIp, parseCidr, parseIp } from '../../base/ip.ts';
import type {
  ClusterNetworkPolicy,
  LabelSelector,
  Namespace,
  NetworkPolicy,
  Node,
  networkingv1,
  Pod,
} from '../../kube/types.ts';
import { type ClusterRuleMatch, firstMatch, type TierView } from './oracle-tiers.ts';

export interface Packet {
  readonly srcIp: string;
  readonly dstIp: string;
  /** "TCP", "UDP", "SCTP", or anything else ("ICMP"), which only rules without ports allow. */
  readonly protocol: string;
  /** Absent for protocols without ports. */
  readonly dport?: number;
  /** Part of a connection that was allowed when it began, or an error about one (conntrack: established, related). */
  readonly established?: boolean;
}

export interface ClusterState {
  readonly pods: Iterable<Pod>;
  readonly namespaces: Iterable<Namespace>;
  readonly policies: Iterable<NetworkPolicy>;
  readonly clusterPolicies?: Iterable<ClusterNetworkPolicy>;
  /** For the rule that a pod and its own node always reach each other, and as peers of ClusterNetworkPolicies. */
  readonly nodes?: Iterable<Node>;
  /** By address: the domain names for which the node's DNS server gave it lately. */
  readonly domainNames?: ReadonlyMap<string, readonly string[]>;
}

export type Decision = 'allow' | 'deny';

/** Why one direction was decided as it was. */
export type Cause =
  | 'established'
  | 'itself'
  | 'own-node'
  | 'not-a-pod'
  | 'not-isolated'
  | 'rule'
  | 'no-rule'
  /** A rule of a ClusterNetworkPolicy, named in `tiers`, accepts or denies. */
  | 'admin'
  | 'baseline'
  | 'contested-address';

/** The place of a rule's part that matched: "spec.ingress[2].from[0]". */
export interface MatchedRule {
  /** "namespace/name". */
  readonly policy: string;
  readonly rule: string;
  /** Absent when the rule names no peers, and so means everyone. */
  readonly peer?: string;
  /** Absent when the rule names no ports, and so means all. */
  readonly port?: string;
}

export interface Reason {
  readonly direction: 'egress' | 'ingress';
  readonly verdict: Decision;
  readonly cause: Cause;
  /** The pod whose policies were asked, "namespace/name". */
  readonly pod?: string;
  /** The policies that isolate it in this direction. */
  readonly policies: readonly string[];
  /** The rules that allow the packet; every one of them would do. */
  readonly rules: readonly MatchedRule[];
  /** The rules of ClusterNetworkPolicies that were met, the Admin tier first; one that passes leaves it to the next tier. */
  readonly tiers?: readonly ClusterRuleMatch[];
}

export interface Verdict {
  readonly verdict: Decision;
  /** The egress side first. */
  readonly reasons: readonly [egress: Reason, ingress: Reason];
}

interface Context {
  /** By canonical address: the pods that have an address of their own there. */
  readonly podsAt: ReadonlyMap<string, readonly Pod[]>;
  readonly namespaces: ReadonlyMap<string, Namespace>;
  readonly policies: readonly NetworkPolicy[];
  readonly clusterPolicies: readonly ClusterNetworkPolicy[];
  readonly nodes: readonly Node[];
  readonly domainNames: ReadonlyMap<string, readonly string[]>;
}

export function evaluate(packet: Packet, state: ClusterState): Verdict {
  return evaluator(state)(packet);
}

/** For many packets over one state, which must not change meanwhile. */
export function evaluator(state: ClusterState): (packet: Packet) => Verdict {
  const context: Context = {
    podsAt: Map.groupBy(
      [...state.pods].flatMap((pod) => addressesOf(pod).map((address) => ({ pod, address }))),
      ({ address }) => address,
    )
      .entries()
      .reduce(
        (map, [address, owners]) =>
          map.set(
            address,
            owners.map(({ pod }) => pod),
          ),
        new Map<string, Pod[]>(),
      ),
    namespaces: new Map([...state.namespaces].map((each) => [each.metadata.name, each])),
    policies: [...state.policies],
    clusterPolicies: [...(state.clusterPolicies ?? [])],
    nodes: [...(state.nodes ?? [])],
    domainNames: state.domainNames ?? new Map(),
  };
  return ({ srcIp, dstIp, ...rest }) => {
    const packet: Packet = { ...rest, srcIp: parseIp(srcIp), dstIp: parseIp(dstIp) };
    const egress = judge('egress', packet, context);
    const ingress = judge('ingress', packet, context);
    const verdict = egress.verdict === 'allow' && ingress.verdict === 'allow' ? 'allow' : 'deny';
    return { verdict, reasons: [egress, ingress] };
  };
}

/** None for pods of the node's own network, and none for those that have ended: their address may be another's. */
function addressesOf({ spec, status }: Pod): string[] {
  if (spec.hostNetwork || status?.phase === 'Succeeded' || status?.phase === 'Failed') return [];
  const addresses = status?.podIPs?.length ? status.podIPs.map((each) => each.ip) : [status?.podIP];
  return [
    ...new Set(addresses.filter((address) => address !== undefined && isIp(address)).map((each) => parseIp(each!))),
  ];
}

function judge(direction: 'egress' | 'ingress', packet: Packet, context: Context): Reason {
  const [own, other] = direction === 'egress' ? [packet.srcIp, packet.dstIp] : [packet.dstIp, packet.srcIp];
  const owners = podsAt(own, context);
  const pod = owners.length === 1 ? owners[0] : undefined;
  const name = pod && `${pod.metadata.namespace}/${pod.metadata.name}`;
  const because = (verdict: Decision, cause: Cause, more: Partial<Reason> = {}): Reason => ({
    direction,
    verdict,
    cause,
    ...(name ? { pod: name } : {}),
    policies: [],
    rules: [],
    ...more,
  });
  if (packet.established) return because('allow', 'established');
  if (own === other) return because('allow', 'itself');
  if (owners.length > 1) {
    return owners.some((each) => isNodeOf(each, other, context))
      ? because('allow', 'own-node')
      : because('deny', 'contested-address');
  }
  if (!pod) return because('allow', 'not-a-pod');
  // "Traffic to and from the node where a Pod is running is always allowed, regardless of the IP address of the Pod or the node."
  if (isNodeOf(pod, other, context)) return because('allow', 'own-node');
  const view = tierView(direction, pod, other, packet, context);
  const admin = firstMatch('Admin', direction, view, context.clusterPolicies);
  const passed = admin ? [admin] : [];
  if (admin && admin.action !== 'Pass') {
    return because(admin.action === 'Accept' ? 'allow' : 'deny', 'admin', { tiers: passed });
  }
  const isolating = context.policies.filter((policy) => isolates(policy, pod, direction));
  const policies = isolating.map((policy) => `${policy.metadata.namespace}/${policy.metadata.name}`).sort();
  if (isolating.length > 0) {
    const rules = isolating.flatMap((policy) => matchingRules(policy, direction, packet, other, context));
    const tiers = passed.length ? { tiers: passed } : {};
    return rules.length > 0
      ? because('allow', 'rule', { policies, rules, ...tiers })
      : because('deny', 'no-rule', { policies, ...tiers });
  }
  const baseline = firstMatch('Baseline', direction, view, context.clusterPolicies);
  const tiers = baseline ? [...passed, baseline] : passed;
  if (!baseline || baseline.action === 'Pass') return because('allow', 'not-isolated', tiers.length ? { tiers } : {});
  return because(baseline.action === 'Accept' ? 'allow' : 'deny', 'baseline', { tiers });
}

/** What the rules of ClusterNetworkPolicies look at, found by this file's own means. */
function tierView(
  direction: 'egress' | 'ingress',
  pod: Pod,
  other: string,
  packet: Packet,
  context: Context,
): TierView {
  const peers = podsAt(other, context);
  const peer = peers.length === 1 && context.namespaces.has(peers[0]!.metadata.namespace) ? peers[0] : undefined;
  const labelsOf = (each: Pod) => ({
    namespace: context.namespaces.get(each.metadata.namespace)?.metadata.labels,
    pod: each.metadata.labels ?? {},
  });
  return {
    subject: context.namespaces.has(pod.metadata.namespace) ? labelsOf(pod) : undefined,
    peer: peer && labelsOf(peer),
    address: other,
    // An address that a pod claims is that pod's, whatever a Node's status says.
    nodes: peers.length
      ? []
      : context.nodes.filter((node) => hasAddress(node, other)).map(({ metadata }) => metadata.labels ?? {}),
    // A pod of which not all is known is nobody yet, under a name too.
    domainNames: peers.length > 0 && !peer ? [] : (context.domainNames.get(other) ?? []),
    protocol: packet.protocol,
    dport: packet.dport,
    portsNamed: (name) => portsNamed(name, packet, direction, context),
    selects,
  };
}

function podsAt(ip: string, context: Context): readonly Pod[] {
  return context.podsAt.get(ip) ?? [];
}

function isNodeOf(pod: Pod, ip: string, context: Context): boolean {
  const node = context.nodes.find((each) => each.metadata.name === pod.spec.nodeName);
  return node !== undefined && hasAddress(node, ip);
}

function hasAddress({ status }: Node, ip: string): boolean {
  return (status?.addresses ?? []).some(({ address }) => isIp(address) && parseIp(address) === ip);
}

/** A policy isolates the pods of its own namespace that its podSelector chooses, in the directions of its policyTypes. */
function isolates(policy: NetworkPolicy, pod: Pod, direction: 'egress' | 'ingress'): boolean {
  if (policy.metadata.namespace !== pod.metadata.namespace) return false;
  const chosen = selects(policy.spec.podSelector, pod.metadata.labels);
  // A selector that cannot be understood might have meant this pod.
  if (chosen === false) return false;
  const types = policy.spec.policyTypes ?? [];
  if (types.some((type) => type !== 'Ingress' && type !== 'Egress')) return true;
  // "If this field is not specified, it will default based on the existence of ingress or egress rules; policies that
  // contain an egress section are assumed to affect egress, and all policies are assumed to affect ingress."
  if (types.length === 0) return direction === 'ingress' || (policy.spec.egress ?? []).length > 0;
  return types.includes(direction === 'ingress' ? 'Ingress' : 'Egress');
}

/** Whether a label selector chooses these labels; undefined when the selector cannot be understood. */
function selects(
  selector: LabelSelector | undefined,
  labels: { readonly [key: string]: string } = {},
): boolean | undefined {
  for (const { operator, values } of selector?.matchExpressions ?? []) {
    if (!['In', 'NotIn', 'Exists', 'DoesNotExist'].includes(operator)) return undefined;
    if ((operator === 'In' || operator === 'NotIn') && !values?.length) return undefined;
  }
  const has = (key: string) => Object.hasOwn(labels, key);
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) {
    if (!has(key) || labels[key] !== value) return false;
  }
  for (const { key, operator, values = [] } of selector?.matchExpressions ?? []) {
    const isIn = has(key) && values.includes(labels[key]!);
    if (operator === 'In' && !isIn) return false;
    if (operator === 'NotIn' && isIn) return false;
    if (operator === 'Exists' && !has(key)) return false;
    if (operator === 'DoesNotExist' && has(key)) return false;
  }
  return true;
}

function matchingRules(
  policy: NetworkPolicy,
  direction: 'egress' | 'ingress',
  packet: Packet,
  other: string,
  context: Context,
): MatchedRule[] {
  const { namespace, name } = policy.metadata;
  const rules =
    direction === 'ingress'
      ? (policy.spec.ingress ?? []).map(({ from, ports }) => ({ peers: from, ports, word: 'from' }))
      : (policy.spec.egress ?? []).map(({ to, ports }) => ({ peers: to, ports, word: 'to' }));
  const matched: MatchedRule[] = [];
  rules.forEach(({ peers, ports, word }, i) => {
    const field = `spec.${direction}[${i}]`;
    // "If this field is empty or missing, this rule matches all sources", and the same of ports.
    const peer = peers?.length ? peers.findIndex((each) => isPeer(each, other, namespace, context)) : undefined;
    const port = ports?.length ? ports.findIndex((each) => isPort(each, packet, direction, context)) : undefined;
    if (peer === -1 || port === -1) return;
    matched.push({
      policy: `${namespace}/${name}`,
      rule: field,
      ...(peer === undefined ? {} : { peer: `${field}.${word}[${peer}]` }),
      ...(port === undefined ? {} : { port: `${field}.ports[${port}]` }),
    });
  });
  return matched;
}

function isPeer(peer: networkingv1.NetworkPolicyPeer, ip: string, policyNamespace: string, context: Context): boolean {
  const { ipBlock, podSelector, namespaceSelector } = peer;
  // "If this field is set then neither of the other fields can be."
  if (ipBlock) return !podSelector && !namespaceSelector && isInBlock(ipBlock, ip);
  if (!podSelector && !namespaceSelector) return false;
  const pods = podsAt(ip, context);
  // An address that two pods claim is nobody's; a pod of a namespace that nobody knows is no peer.
  if (pods.length !== 1) return false;
  const pod = pods[0]!;
  const namespace = context.namespaces.get(pod.metadata.namespace);
  if (!namespace) return false;
  const inNamespace = namespaceSelector
    ? selects(namespaceSelector, namespace.metadata.labels) === true
    : pod.metadata.namespace === policyNamespace;
  return inNamespace && (!podSelector || selects(podSelector, pod.metadata.labels) === true);
}

function isInBlock({ cidr, except }: networkingv1.IPBlock, ip: string): boolean {
  try {
    const inside = cidrContains(parseCidr(cidr), ip);
    const excepted = (except ?? []).map(parseCidr).some((hole) => cidrContains(hole, ip));
    return inside && !excepted;
  } catch {
    return false;
  }
}

function isPort(
  rule: networkingv1.NetworkPolicyPort,
  packet: Packet,
  direction: 'egress' | 'ingress',
  context: Context,
): boolean {
  const protocol = rule.protocol ?? 'TCP';
  if (!['TCP', 'UDP', 'SCTP'].includes(protocol) || packet.protocol !== protocol) return false;
  const { port, endPort } = rule;
  if (port === undefined || port === null) return endPort === undefined;
  if (packet.dport === undefined) return false;
  if (typeof port === 'string')
    return endPort === undefined && portsNamed(port, packet, direction, context).includes(packet.dport);
  if (endPort !== undefined && endPort < port) return false;
  if (port < 1 || (endPort ?? port) > 65535) return false;
  return port <= packet.dport && packet.dport <= (endPort ?? port);
}

/** A named port is a name of the pod that receives: the selected pod for ingress, the peer for egress. */
function portsNamed(name: string, packet: Packet, direction: 'egress' | 'ingress', context: Context): number[] {
  const pods = podsAt(packet.dstIp, context);
  if (pods.length !== 1) return [];
  const { metadata, spec } = pods[0]!;
  // As a peer, a pod of a namespace that nobody knows is not known either.
  if (direction === 'egress' && !context.namespaces.has(metadata.namespace)) return [];
  const sidecars = (spec.initContainers ?? []).filter(
    (each) => 'restartPolicy' in each && each.restartPolicy === 'Always',
  );
  return [...spec.containers, ...sidecars]
    .flatMap((container) => container.ports ?? [])
    .filter((port) => port.name === name && (port.protocol ?? 'TCP') === packet.protocol)
    .map((port) => port.containerPort);
}
