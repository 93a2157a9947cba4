/**
 * The model's part for NetworkPolicy: policies and the pods' facts in, elements of the sets of classes out, kept up to date
 * change by change. `PolicyModel` owns it and says when a pod, a group of peers or an address changes.
 */
import { type IpAddress, ipToBigInt } from '../../base/ip.ts';
import { matches } from '../../kube/selectors.ts';
import type { NetworkPolicy } from '../../kube/types.ts';
import { blockContains } from './blocks.ts';
import {
  classContent,
  classKey,
  fixedElements,
  grantedPorts,
  type PolicyClass,
  pairElements,
  sameGrant,
  usedNamedPorts,
} from './classes.ts';
import { type CompiledPolicy, compilePolicy, type Direction } from './compile.ts';
import type { Deniers } from './deniers.ts';
import { type Elements, familyOfAddress, formatClass } from './elements.ts';
import { Numbers } from './numbers.ts';
import type { Identity, PeerGroup, PeerRegistry } from './peers.ts';
import type { PodFacts } from './pod-facts.ts';
import { noPorts, type PortName, protocols, unionPorts } from './ports.ts';

export interface ClassModelOptions {
  readonly elements: Elements;
  readonly peers: PeerRegistry;
  readonly deniers: Deniers;
  /** The identity of every address that has one. */
  readonly identities: ReadonlyMap<IpAddress, Identity>;
  /** A policy came or went: the local pods that it selects must be looked at again. */
  readonly onPolicy: (policy: CompiledPolicy) => void;
}

/** The classes of a local pod; a direction is absent when no policy isolates the pod there. */
export interface PodClasses {
  readonly ingress: PolicyClass | undefined;
  readonly egress: PolicyClass | undefined;
}

export class ClassModel {
  readonly #options: ClassModelOptions;
  readonly #policies = new Map<string, CompiledPolicy>();
  readonly #byNamespace = new Map<string, Set<CompiledPolicy>>();
  readonly #classes = new Map<string, PolicyClass>();
  readonly #numbers = new Numbers();
  readonly #classesByPolicy = new Map<string, Set<PolicyClass>>();
  readonly #users = new Map<PeerGroup, Set<PolicyClass>>();
  readonly #podPortClasses = new Set<PolicyClass>();
  readonly #dirtyClasses = new Set<PolicyClass>();
  readonly #dirtyPairs = new Map<PolicyClass, Set<Identity>>();

  constructor(options: ClassModelOptions) {
    this.#options = options;
  }

  setPolicy(policy: NetworkPolicy): CompiledPolicy {
    const compiled = compilePolicy(policy);
    this.deletePolicy(compiled.key);
    this.#policies.set(compiled.key, compiled);
    addTo(this.#byNamespace, compiled.namespace, compiled);
    this.#options.onPolicy(compiled);
    for (const each of this.#classesByPolicy.get(compiled.key) ?? []) this.#dirtyClasses.add(each);
    return compiled;
  }

  /** By "namespace/name"; absent is fine. */
  deletePolicy(key: string): void {
    const before = this.#policies.get(key);
    if (!before) return;
    this.#policies.delete(key);
    removeFrom(this.#byNamespace, before.namespace, before);
    this.#options.onPolicy(before);
  }

  /** The classes of a local pod; counted until they are released. */
  acquire(facts: PodFacts): PodClasses {
    const selecting = [...(this.#byNamespace.get(facts.namespace) ?? [])]
      .filter((policy) => matches(policy.podSelector, facts.labels))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    return {
      ingress: this.#acquire('ingress', facts, selecting),
      egress: this.#acquire('egress', facts, selecting),
    };
  }

  #acquire(direction: Direction, facts: PodFacts, selecting: readonly CompiledPolicy[]): PolicyClass | undefined {
    const isolating = selecting.filter((policy) => policy[direction] !== undefined);
    if (isolating.length === 0) return undefined;
    const namedPorts = direction === 'ingress' ? usedNamedPorts(facts, isolating) : [];
    const policies = isolating.map((policy) => policy.key);
    const key = classKey(direction, policies, namedPorts);
    const found = this.#classes.get(key) ?? this.#create(key, { direction, policies, namedPorts });
    found.refs++;
    return found;
  }

  #create(key: string, what: Pick<PolicyClass, 'direction' | 'policies' | 'namedPorts'>): PolicyClass {
    const created: PolicyClass = {
      ...what,
      key,
      number: this.#numbers.acquire(key),
      refs: 0,
      grants: new Map(),
      pairs: new Map(),
      fixed: new Map(),
      namedBlocks: [],
    };
    this.#classes.set(key, created);
    for (const policy of what.policies) addTo(this.#classesByPolicy, policy, created);
    this.#dirtyClasses.add(created);
    this.#options.deniers.add(`denied_${what.direction}`, formatClass(created.number), what.policies);
    return created;
  }

  release(each: PolicyClass): void {
    if (--each.refs === 0) this.#dirtyClasses.add(each);
  }

  /** An identity entered or left a group. */
  memberChanged(group: PeerGroup, identity: Identity): void {
    for (const each of this.#users.get(group) ?? []) this.#dirtyPair(each, identity);
  }

  /** Before the registry collects what is not used any more. */
  settleClasses(): void {
    for (const each of this.#dirtyClasses) if (each.refs > 0) this.#rebuild(each);
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

  #rebuild(each: PolicyClass): void {
    const rules = each.policies.flatMap((key) => this.#policies.get(key)?.[each.direction] ?? []);
    const content = classContent(each.direction, rules, each.namedPorts);
    const before = each.grants;
    each.grants = new Map();
    for (const { peers, grant } of content.pods.values()) {
      const group = this.#options.peers.acquireGroup(peers);
      each.grants.set(group, grant);
      addTo(this.#users, group, each);
      const old = before.get(group);
      if (!old || !sameGrant(old, grant)) for (const member of group.members) this.#dirtyPair(each, member);
    }
    for (const group of before.keys()) this.#leaveGroup(each, group);
    this.#writeFixed(each, fixedElements(each, content), false);
    this.#setNamedBlocks(each, content.namedBlocks);
  }

  /** Gives back one use of a group; its members are looked at again when the class does not use it any more. */
  #leaveGroup(each: PolicyClass, group: PeerGroup): void {
    if (!each.grants.has(group)) {
      removeFrom(this.#users, group, each);
      for (const member of group.members) this.#dirtyPair(each, member);
    }
    this.#options.peers.releaseGroup(group);
  }

  #discard(each: PolicyClass): void {
    this.#classes.delete(each.key);
    this.#numbers.release(each.key);
    for (const policy of each.policies) removeFrom(this.#classesByPolicy, policy, each);
    const groups = [...each.grants.keys()];
    each.grants = new Map();
    for (const group of groups) this.#leaveGroup(each, group);
    this.#writeFixed(each, [], true);
    this.#setNamedBlocks(each, []);
    this.#options.deniers.delete(`denied_${each.direction}`, formatClass(each.number));
  }

  #writeFixed(each: PolicyClass, wanted: readonly { set: string; key: string }[], garbage: boolean): void {
    const { elements } = this.#options;
    const fixed = new Map(wanted.map((element) => [`${element.set} ${element.key}`, element]));
    for (const [text, { set, key }] of each.fixed) if (!fixed.has(text)) elements.delete(set, key, garbage);
    for (const { set, key } of fixed.values()) elements.put(set, key);
    each.fixed = fixed;
  }

  #dirtyPair(each: PolicyClass, identity: Identity): void {
    addTo(this.#dirtyPairs, each, identity);
  }

  #settlePair(each: PolicyClass, identity: Identity): void {
    const before = each.pairs.get(identity) ?? noPorts;
    const after = allowedPorts(each, identity);
    if (before.key === after.key) return;
    if (after.key) each.pairs.set(identity, after);
    else each.pairs.delete(identity);
    const { elements } = this.#options;
    const garbage = each.refs === 0 || identity.refs === 0;
    const wanted = pairElements(each, identity.number, after);
    const keys = new Set(wanted.map(({ set, key }) => `${set} ${key}`));
    for (const { set, key } of pairElements(each, identity.number, before)) {
      if (!keys.has(`${set} ${key}`)) elements.delete(set, key, garbage);
    }
    for (const { set, key } of wanted) elements.put(set, key);
  }

  /** Keeps the rules "named port on a pod inside an address block" up to date: the only ones that know pods' addresses. */
  addressChanged(address: IpAddress, before: Identity | undefined, after: Identity | undefined): void {
    for (const each of this.#podPortClasses) {
      const keys = (identity: Identity | undefined) =>
        new Set(identity ? podPortKeys(each.number, each.namedBlocks, address, identity) : []);
      this.#writePodPortKeys(keys(before), keys(after), false);
    }
  }

  #setNamedBlocks(each: PolicyClass, namedBlocks: PolicyClass['namedBlocks']): void {
    if (each.namedBlocks.length === 0 && namedBlocks.length === 0) return;
    const keysBefore = new Set<string>();
    const keysAfter = new Set<string>();
    for (const [address, identity] of this.#options.identities) {
      for (const key of podPortKeys(each.number, each.namedBlocks, address, identity)) keysBefore.add(key);
      for (const key of podPortKeys(each.number, namedBlocks, address, identity)) keysAfter.add(key);
    }
    each.namedBlocks = namedBlocks;
    if (namedBlocks.length) this.#podPortClasses.add(each);
    else this.#podPortClasses.delete(each);
    this.#writePodPortKeys(keysBefore, keysAfter, each.refs === 0);
  }

  #writePodPortKeys(before: ReadonlySet<string>, after: ReadonlySet<string>, garbage: boolean): void {
    const { elements } = this.#options;
    const setOf = (key: string) => `egress_podport${familyOfAddress(key.split(' . ')[1]!)}`;
    for (const key of before) if (!after.has(key)) elements.delete(setOf(key), key, garbage);
    for (const key of after) elements.put(setOf(key), key);
  }
}

/** What all grants of a class together give to an identity. */
function allowedPorts(each: PolicyClass, identity: Identity) {
  const sets = [];
  for (const [group, grant] of each.grants) {
    if (group.members.has(identity)) sets.push(grantedPorts(grant, identity.namedPorts));
  }
  return sets.length ? unionPorts(sets) : noPorts;
}

function podPortKeys(
  number: number,
  namedBlocks: PolicyClass['namedBlocks'],
  address: IpAddress,
  identity: Identity,
): string[] {
  const family = familyOfAddress(address);
  const value = ipToBigInt(address);
  const named = (names: readonly PortName[]) =>
    identity.namedPorts.filter((port) =>
      names.some(({ name, protocol }) => name === port.name && protocol === port.protocol),
    );
  return namedBlocks
    .filter(({ block }) => blockContains(block, family, value))
    .flatMap(({ names }) => named(names))
    .map(({ protocol, port }) => `${formatClass(number)} . ${address} . ${protocols[protocol]} . ${port}`);
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
