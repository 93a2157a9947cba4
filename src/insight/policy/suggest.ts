/**
 * What would change a verdict: single edits of labels, rules and policies, each tried on a copy of the cluster's state with
 * the oracle before it is told. Nothing is told that would not work; the smallest edits come first.
 */
import { familyOf } from '../../base/ip.ts';
import type { LabelSelector, NetworkPolicy, networkingv1, Pod } from '../../kube/types.ts';
import { evaluate, type Packet, type Reason, type Verdict } from '../../node/policy/oracle.ts';
import type { PolicySnapshot } from './snapshot.ts';

export interface Suggestion {
  readonly direction: 'egress' | 'ingress';
  readonly text: string;
  /** `verdict`: this edit alone changes the whole verdict. `direction`: it opens this side, the other still denies. */
  readonly changes: 'verdict' | 'direction';
}

export interface Question {
  readonly packet: Packet;
  readonly verdict: Verdict;
  readonly source?: Pod;
  readonly target?: Pod;
}

type Direction = Reason['direction'];
type Rule = networkingv1.NetworkPolicyIngressRule & networkingv1.NetworkPolicyEgressRule;
type Peer = networkingv1.NetworkPolicyPeer;

interface Edit {
  readonly text: string;
  readonly state: PolicySnapshot;
}

/** So many of each direction are told. */
const most = 4;

export function suggest(question: Question, snapshot: PolicySnapshot): Suggestion[] {
  const { verdict } = question.verdict;
  return question.verdict.reasons
    .filter((reason) => verdict === 'allow' || reason.verdict === 'deny')
    .flatMap((reason) => {
      const edits = verdict === 'allow' ? closingEdits(reason, snapshot) : openingEdits(reason, question, snapshot);
      const told: Suggestion[] = [];
      for (const { text, state } of edits) {
        if (told.length === most) break;
        const { direction } = reason;
        const after = evaluate(question.packet, state);
        const own = after.reasons.find((each) => each.direction === direction)!;
        if (after.verdict !== verdict) told.push({ direction, text, changes: 'verdict' });
        else if (verdict === 'deny' && own.verdict === 'allow') told.push({ direction, text, changes: 'direction' });
      }
      return told;
    });
}

function* openingEdits(reason: Reason, question: Question, snapshot: PolicySnapshot): Generator<Edit> {
  if (reason.cause === 'admin' || reason.cause === 'baseline') yield* tierEdits(reason, 'Accept', snapshot);
  const policies = policiesOf(reason, snapshot);
  for (const policy of policies) yield* openingEditsOf(policy, reason.direction, question, snapshot);
  for (const policy of policies) yield newRule(policy, reason.direction, question, snapshot);
  if (policies.length === 1) yield without(policies[0]!, reason, snapshot);
}

function policiesOf(reason: Reason, { policies }: PolicySnapshot): NetworkPolicy[] {
  return policies.filter(({ metadata }) => reason.policies.includes(`${metadata.namespace}/${metadata.name}`));
}

function rulesOf({ spec }: NetworkPolicy, direction: Direction): readonly Rule[] {
  return (direction === 'ingress' ? spec.ingress : spec.egress) ?? [];
}

function peersOf(rule: Rule, direction: Direction): readonly Peer[] {
  return (direction === 'ingress' ? rule.from : rule.to) ?? [];
}

/** Rules of which one half matches already: the other half is added. */
function* openingEditsOf(
  policy: NetworkPolicy,
  direction: Direction,
  question: Question,
  snapshot: PolicySnapshot,
): Generator<Edit> {
  const peerPod = direction === 'ingress' ? question.source : question.target;
  for (const [i, rule] of rulesOf(policy, direction).entries()) {
    const place = `spec.${direction}[${i}] of policy ${nameOf(policy)}`;
    if (peerPod) for (const peer of peersOf(rule, direction)) yield* labelEdits(peer, peerPod, place, snapshot);
    if (rule.ports?.length) {
      const port = portOf(question.packet);
      const state = withRule(policy, direction, i, { ...rule, ports: [...rule.ports, port] }, snapshot);
      yield { text: `allow ${portText(question.packet)} in ${place}`, state };
    }
    const cidr = cidrOf(direction === 'ingress' ? question.packet.srcIp : question.packet.dstIp);
    if (!peerPod && peersOf(rule, direction).some(({ ipBlock }) => ipBlock)) {
      const widened = withPeer(rule, direction, { ipBlock: { cidr } });
      yield { text: `add the ipBlock ${cidr} to ${place}`, state: withRule(policy, direction, i, widened, snapshot) };
    }
  }
}

/** Labels that make the pod, or its namespace, one that the peer means. */
function* labelEdits(peer: Peer, pod: Pod, place: string, snapshot: PolicySnapshot): Generator<Edit> {
  if (peer.ipBlock) return;
  const podLabels = missingLabels(peer.podSelector, pod.metadata.labels);
  const space = snapshot.namespaces.find((each) => each.metadata.name === pod.metadata.namespace);
  const spaceLabels = missingLabels(peer.namespaceSelector, space?.metadata.labels);
  if (!podLabels || !spaceLabels || podLabels.length + spaceLabels.length === 0) return;
  // The label with a namespace's own name cannot be changed.
  if (spaceLabels.some(([key]) => key === 'kubernetes.io/metadata.name')) return;
  const texts = [
    ...(podLabels.length ? [`add ${labelText(podLabels)} to pod ${nameOf(pod)}`] : []),
    ...(spaceLabels.length ? [`add ${labelText(spaceLabels)} to namespace ${pod.metadata.namespace}`] : []),
  ];
  yield {
    text: `${texts.join(' and ')} (${place})`,
    state: {
      ...snapshot,
      pods: snapshot.pods.map((each) => (each === pod ? labelled(each, podLabels) : each)),
      namespaces: snapshot.namespaces.map((each) => (each === space ? labelled(each, spaceLabels) : each)),
    },
  };
}

type LabelPair = readonly [key: string, value: string];

/** The labels to be added; undefined when adding labels cannot make the selector match. */
function missingLabels(
  selector: LabelSelector | undefined,
  labels: { readonly [key: string]: string } = {},
): LabelPair[] | undefined {
  const missing: LabelPair[] = Object.entries(selector?.matchLabels ?? {}).filter(
    ([key, value]) => labels[key] !== value,
  );
  for (const { key, operator, values = [] } of selector?.matchExpressions ?? []) {
    const value = labels[key];
    if (operator === 'In' && !(value !== undefined && values.includes(value))) missing.push([key, values[0] ?? '']);
    if (operator === 'Exists' && value === undefined) missing.push([key, '']);
    if (operator === 'DoesNotExist' && value !== undefined) return undefined;
    if (operator === 'NotIn' && value !== undefined && values.includes(value)) return undefined;
  }
  return missing;
}

function labelText(pairs: readonly LabelPair[]): string {
  const texts = pairs.map(([key, value]) => `${key}=${value}`);
  return `label${texts.length > 1 ? 's' : ''} ${texts.join(', ')}`;
}

function labelled<T extends { metadata: { labels?: { [key: string]: string } } }>(
  object: T,
  pairs: readonly LabelPair[],
): T {
  const labels = { ...object.metadata.labels, ...Object.fromEntries(pairs) };
  return { ...object, metadata: { ...object.metadata, labels } };
}

function newRule(
  policy: NetworkPolicy,
  direction: Direction,
  { packet, source, target }: Question,
  snapshot: PolicySnapshot,
): Edit {
  const pod = direction === 'ingress' ? source : target;
  const cidr = cidrOf(direction === 'ingress' ? packet.srcIp : packet.dstIp);
  const { peer, who } = pod ? podPeer(pod, policy) : { peer: { ipBlock: { cidr } }, who: cidr };
  const rule = withPeer({ ports: [portOf(packet)] }, direction, peer);
  const word = direction === 'ingress' ? 'from' : 'to';
  return {
    text: `add an ${direction} rule to policy ${nameOf(policy)}: ${word} ${who}, ${portText(packet)}`,
    state: withRule(policy, direction, rulesOf(policy, direction).length, rule, snapshot),
  };
}

/** The pod by its labels; a pod without labels by its whole namespace. */
function podPeer(pod: Pod, policy: NetworkPolicy): { peer: Peer; who: string } {
  const { namespace, labels = {} } = pod.metadata;
  const podSelector = { matchLabels: { ...labels } };
  const named = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  const pods = named.length ? `pods with ${named.join(',')}` : 'all pods';
  if (namespace === policy.metadata.namespace) return { peer: { podSelector }, who: pods };
  const namespaceSelector = { matchLabels: { 'kubernetes.io/metadata.name': namespace } };
  return { peer: { podSelector, namespaceSelector }, who: `${pods} of namespace ${namespace}` };
}

function withPeer(rule: Rule, direction: Direction, peer: Peer): Rule {
  return direction === 'ingress'
    ? { ...rule, from: [...(rule.from ?? []), peer] }
    : { ...rule, to: [...(rule.to ?? []), peer] };
}

function withRule(
  policy: NetworkPolicy,
  direction: Direction,
  index: number,
  rule: Rule,
  snapshot: PolicySnapshot,
): PolicySnapshot {
  const rules = [...rulesOf(policy, direction)];
  rules[index] = rule;
  const changed: NetworkPolicy = { ...policy, spec: { ...policy.spec, [direction]: rules } };
  return { ...snapshot, policies: snapshot.policies.map((each) => (each === policy ? changed : each)) };
}

function without(policy: NetworkPolicy, { direction, pod }: Reason, snapshot: PolicySnapshot): Edit {
  return {
    text: `delete policy ${nameOf(policy)}, the only one that isolates pod ${pod} for ${direction}`,
    state: { ...snapshot, policies: snapshot.policies.filter((each) => each !== policy) },
  };
}

/** What would deny an allowed packet. */
function* closingEdits(reason: Reason, snapshot: PolicySnapshot): Generator<Edit> {
  const { direction } = reason;
  if (reason.cause === 'admin' || reason.cause === 'baseline') return yield* tierEdits(reason, 'Deny', snapshot);
  if (reason.cause === 'not-isolated' && reason.pod) return yield denyAll(reason.pod, direction, snapshot);
  if (reason.cause !== 'rule') return;
  let state = snapshot;
  const places: string[] = [];
  for (const policy of policiesOf(reason, snapshot)) {
    const allowing = new Set(reason.rules.filter((each) => each.policy === nameOf(policy)).map((each) => each.rule));
    if (allowing.size === 0) continue;
    const rules = rulesOf(policy, direction).filter((_, i) => !allowing.has(`spec.${direction}[${i}]`));
    const types = policy.spec.policyTypes ?? typesOf(policy);
    const changed: NetworkPolicy = { ...policy, spec: { ...policy.spec, policyTypes: types, [direction]: rules } };
    state = { ...state, policies: state.policies.map((each) => (each === policy ? changed : each)) };
    places.push(`${[...allowing].join(' and ')} of policy ${nameOf(policy)}`);
  }
  yield { text: `remove ${places.join(' and ')}`, state };
}

function typesOf({ spec }: NetworkPolicy): string[] {
  return spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
}

function denyAll(pod: string, direction: Direction, snapshot: PolicySnapshot): Edit {
  const [namespace] = pod.split('/') as [string];
  const type = direction === 'ingress' ? 'Ingress' : 'Egress';
  const policy: NetworkPolicy = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'deny-all', namespace, uid: '', resourceVersion: '', creationTimestamp: '' },
    spec: { podSelector: {}, policyTypes: [type] },
  };
  return {
    text: `a policy in namespace ${namespace} that selects pod ${pod} with policyTypes ${type} and no rule for this`,
    state: { ...snapshot, policies: [...snapshot.policies, policy] },
  };
}

/** The rule of a ClusterNetworkPolicy that decides, with another action. */
function* tierEdits(reason: Reason, action: string, snapshot: PolicySnapshot): Generator<Edit> {
  const decided = reason.tiers?.at(-1);
  const policy = snapshot.clusterPolicies.find((each) => each.metadata.name === decided?.policy);
  if (!decided || !policy) return;
  const index = Number(/\[(\d+)\]$/.exec(decided.rule)?.[1]);
  const { direction } = reason;
  for (const each of action === 'Accept' ? ['Pass', 'Accept'] : ['Pass', 'Deny']) {
    const rules = (policy.spec[direction] ?? []).map((rule, i) => (i === index ? { ...rule, action: each } : rule));
    const changed = { ...policy, spec: { ...policy.spec, [direction]: rules } };
    yield {
      text: `change the action of ${decided.rule} of ClusterNetworkPolicy ${decided.policy} to ${each}`,
      state: {
        ...snapshot,
        clusterPolicies: snapshot.clusterPolicies.map((one) => (one === policy ? changed : one)),
      },
    };
  }
}

function portOf({ protocol, dport }: Packet): networkingv1.NetworkPolicyPort {
  return dport === undefined ? { protocol } : { protocol, port: dport };
}

function portText({ protocol, dport }: Packet): string {
  return dport === undefined ? `protocol ${protocol}` : `port ${protocol} ${dport}`;
}

function cidrOf(address: string): string {
  return `${address}/${familyOf(address) === 4 ? 32 : 128}`;
}

function nameOf({ metadata }: { readonly metadata: { readonly namespace: string; readonly name: string } }): string {
  return `${metadata.namespace}/${metadata.name}`;
}
