/**
 * The model's part for ClusterNetworkPolicy: policies and the pods' facts in, elements of the tiers' maps out, kept up to date
 * change by change. `PolicyModel` owns it and says when a pod, a group of peers or an address changes.
 */
import type { Labels } from '../../kube/selectors.ts';
import type { ClusterNetworkPolicy } from '../../kube/types.ts';
import type { AddressPeers } from './address-peers.ts';
import type { Direction } from './compile.ts';
import { type CompiledClusterPolicy, compileClusterPolicy, inOrder, selectsPod, type Tier } from './compile-cluster.ts';
import type { Deniers } from './deniers.ts';
import { denyMark, type Elements } from './elements.ts';
import { Numbers } from './numbers.ts';
import type { Identity, PeerGroup, PeerRegistry } from './peers.ts';
import type { PodFacts } from './pod-facts.ts';
import {
  fixedTierElements,
  type GroupedRule,
  namedPortsUsed,
  pairElements,
  type TierClass,
  type TierElement,
  tierClassKey,
  tierVerdicts,
} from './tier-classes.ts';
import { passAll } from './tier-ports.ts';

export interface TierModelOptions {
  readonly elements: Elements;
  readonly peers: PeerRegistry;
  readonly addressPeers: AddressPeers;
  readonly deniers: Deniers;
  /** Policies changed: all local pods must be looked at again. */
  readonly onPolicies: () => void;
}

const directions = ['ingress', 'egress'] as const satisfies readonly Direction[];

export class TierModel {
  readonly #options: TierModelOptions;
  readonly #policies = new Map<string, CompiledClusterPolicy>();
  readonly #classes = new Map<string, TierClass>();
  readonly #numbers = new Numbers();
  readonly #classesByPolicy = new Map<string, Set<TierClass>>();
  readonly #users = new Map<PeerGroup, Set<TierClass>>();
  /** What stands for a policy in the marks of the packets that it denies. */
  readonly #policyNumbers = new Numbers();
  readonly #dirtyClasses = new Set<TierClass>();
  readonly #dirtyPairs = new Map<TierClass, Set<Identity>>();

  constructor(options: TierModelOptions) {
    this.#options = options;
  }

  setPolicy(policy: ClusterNetworkPolicy): CompiledClusterPolicy {
    const compiled = compileClusterPolicy(policy);
    const { name } = compiled;
    this.#policies.set(name, compiled);
    const mark = String(denyMark(this.#policyNumbers.acquire(name)));
    for (const direction of directions) this.#options.deniers.add(`tier_denied_${direction}`, mark, [name]);
    this.#changed(name);
    return compiled;
  }

  deletePolicy(name: string): void {
    if (!this.#policies.delete(name)) return;
    this.#changed(name);
    const mark = String(denyMark(this.#policyNumbers.acquire(name)));
    for (const direction of directions) this.#options.deniers.delete(`tier_denied_${direction}`, mark);
    this.#policyNumbers.release(name);
  }

  #changed(name: string): void {
    for (const each of this.#classesByPolicy.get(name) ?? []) this.#dirtyClasses.add(each);
    this.#options.onPolicies();
    const peers = [...this.#policies.values()].flatMap(({ egress }) => egress.flatMap((rule) => rule.peers));
    this.#options.addressPeers.setPeers(
      peers.flatMap((peer) => (peer.kind === 'everyone' || peer.kind === 'pods' ? [] : [peer])),
    );
  }

  /** The class of a local pod; counted until it is released. */
  acquire(tier: Tier, direction: Direction, facts: PodFacts, namespaceLabels: Labels): TierClass | undefined {
    const policies = [...this.#policies.values()]
      .filter((policy) => policy.tier === tier && policy[direction].length > 0)
      .filter((policy) => selectsPod(policy, namespaceLabels, facts.labels))
      .sort(inOrder);
    if (policies.length === 0) return undefined;
    const namedPorts = direction === 'ingress' ? namedPortsUsed(facts.namedPorts, policies) : [];
    const names = policies.map(({ name }) => name);
    const key = tierClassKey(tier, direction, names, namedPorts);
    const found = this.#classes.get(key) ?? this.#create(key, { tier, direction, policies: names, namedPorts });
    found.refs++;
    return found;
  }

  #create(key: string, what: Pick<TierClass, 'tier' | 'direction' | 'policies' | 'namedPorts'>): TierClass {
    const number = this.#numbers.acquire(key);
    const created: TierClass = { ...what, key, number, refs: 0, rules: [], pairs: new Map(), fixed: new Map() };
    this.#classes.set(key, created);
    for (const policy of what.policies) addTo(this.#classesByPolicy, policy, created);
    this.#dirtyClasses.add(created);
    return created;
  }

  release(each: TierClass): void {
    if (--each.refs === 0) this.#dirtyClasses.add(each);
  }

  /** An identity entered or left a group. */
  memberChanged(group: PeerGroup, identity: Identity): void {
    for (const each of this.#users.get(group) ?? []) addTo(this.#dirtyPairs, each, identity);
  }

  /** Every identity, new ones too, is met by rules for everyone. */
  identityAppeared(identity: Identity): void {
    for (const each of this.#classes.values()) {
      if (each.rules.some(({ everyone }) => everyone)) addTo(this.#dirtyPairs, each, identity);
    }
  }

  /** Before the registry collects what is not used any more. `identities` is asked for classes with rules for everyone. */
  settleClasses(identities: () => Iterable<Identity>): void {
    for (const each of this.#dirtyClasses) if (each.refs > 0) this.#rebuild(each, identities);
    for (const each of this.#dirtyClasses) if (each.refs === 0) this.#discard(each);
    this.#dirtyClasses.clear();
  }

  /** Afterwards the elements are exact. */
  settlePairs(): void {
    for (const [each, identities] of this.#dirtyPairs) {
      for (const identity of identities) this.#settlePair(each, identity);
    }
    this.#dirtyPairs.clear();
  }

  #rebuild(each: TierClass, identities: () => Iterable<Identity>): void {
    const before = each.rules;
    each.rules = each.policies.flatMap((name) =>
      (this.#policies.get(name)?.[each.direction] ?? []).map((rule): GroupedRule => {
        const groups = rule.peers.flatMap((peer) => (peer.kind === 'everyone' ? [] : [this.#use(peer, each)]));
        const decision =
          rule.verdict === 'deny' ? (`deny ${this.#policyNumbers.acquire(name)}` as const) : rule.verdict;
        return { rule, decision, groups, everyone: rule.peers.some(({ kind }) => kind === 'everyone') };
      }),
    );
    // The order may have changed: everything that was or is met.
    if (each.rules.some(({ everyone }) => everyone)) {
      for (const identity of identities()) addTo(this.#dirtyPairs, each, identity);
    }
    this.#leave(before, each);
    for (const identity of each.pairs.keys()) addTo(this.#dirtyPairs, each, identity);
    this.#writeFixed(each, fixedTierElements(each), false);
  }

  #use(peer: Parameters<PeerRegistry['acquireGroup']>[0], each: TierClass): PeerGroup {
    const group = this.#options.peers.acquireGroup(peer);
    addTo(this.#users, group, each);
    for (const identity of group.members) addTo(this.#dirtyPairs, each, identity);
    return group;
  }

  /** Gives back the groups of former rules. */
  #leave(rules: readonly GroupedRule[], each: TierClass): void {
    const used = new Set(each.rules.flatMap(({ groups }) => groups));
    for (const group of rules.flatMap(({ groups }) => groups)) {
      if (!used.has(group)) removeFrom(this.#users, group, each);
      this.#options.peers.releaseGroup(group);
    }
  }

  #discard(each: TierClass): void {
    this.#classes.delete(each.key);
    this.#numbers.release(each.key);
    for (const policy of each.policies) removeFrom(this.#classesByPolicy, policy, each);
    const before = each.rules;
    each.rules = [];
    this.#leave(before, each);
    for (const identity of each.pairs.keys()) addTo(this.#dirtyPairs, each, identity);
    this.#writeFixed(each, [], true);
  }

  #writeFixed(each: TierClass, wanted: readonly TierElement[], garbage: boolean): void {
    const fixed = new Map(wanted.map((element) => [`${element.set} ${element.key}`, element]));
    for (const [text, { set, key }] of each.fixed) {
      if (!fixed.has(text)) this.#options.elements.delete(set, key, garbage);
    }
    for (const { set, key, value } of fixed.values()) this.#options.elements.put(set, key, value);
    each.fixed = fixed;
  }

  #settlePair(each: TierClass, identity: Identity): void {
    const before = each.pairs.get(identity) ?? passAll;
    const after = identity.refs > 0 ? tierVerdicts(each, identity) : passAll;
    if (before.key === after.key) return;
    if (after.key) each.pairs.set(identity, after);
    else each.pairs.delete(identity);
    const garbage = each.refs === 0 || identity.refs === 0;
    const wanted = pairElements(each, identity.number, after);
    const keys = new Set(wanted.map(({ set, key }) => `${set} ${key}`));
    for (const { set, key } of pairElements(each, identity.number, before)) {
      if (!keys.has(`${set} ${key}`)) this.#options.elements.delete(set, key, garbage);
    }
    for (const { set, key, value } of wanted) this.#options.elements.put(set, key, value);
  }
}

function addTo<K, T>(map: Map<K, Set<T>>, key: K, item: T): void {
  const items = map.get(key);
  if (items) items.add(item);
  else map.set(key, new Set([item]));
}

function removeFrom<K, T>(map: Map<K, Set<T>>, key: K, item: T): void {
  const items = map.get(key);
  items?.delete(item);
  if (items?.size === 0) map.delete(key);
}
