/**
 * The model: Pods, Namespaces and NetworkPolicies in, elements of the kernel's sets out. It is kept up to date change by
 * change; the work of a change depends on what it touches, not on the size of the cluster. Its result does not depend on
 * the order of changes: a model fed with the same objects from nothing holds the same elements.
 *
 * Pure: no kernel, no clock. Call the setters for what changed, then `settle` once.
 */
import { type IpAddress, ipToBigInt } from '../../base/ip.ts';

import { type Labels, matches } from '../../kube/selectors.ts';
import type { ClusterNetworkPolicy, Namespace, NetworkPolicy, Pod } from '../../kube/types.ts';
import { AddressTable, type Attachment } from './addresses.ts';
import { blockContains } from './blocks.ts';
import {
  classContent,
  classKey,
  fixedElements,
  grantedPorts,
  isolated,
  type PolicyClass,
  pairElements,
  sameGrant,
  usedNamedPorts,
} from './classes.ts';
import { type CompiledPolicy, compilePolicy, type Direction } from './compile.ts';
import { type CompiledClusterPolicy, type Tier, tiers } from './compile-cluster.ts';
import { Elements, familyOfAddress, formatClass } from './elements.ts';
import { Numbers } from './numbers.ts';
import { type Identity, type PeerGroup, PeerRegistry } from './peers.ts';
import { type PodFacts, podFacts } from './pod-facts.ts';
import { noPorts, type PortName, protocols, unionPorts } from './ports.ts';
import type { TierClass } from './tier-classes.ts';
import { TierModel } from './tier-model.ts';

interface PodState {
  facts: PodFacts;
  /** Its namespace is known and it has addresses of its own: a peer that selectors can mean. */
  isPeer: boolean;
  ingress: PolicyClass | undefined;
  egress: PolicyClass | undefined;
  tiers: TierClasses;
}

type TierClasses = Partial<Record<`${Tier}_${Direction}`, TierClass>>;

const directions = ['ingress', 'egress'] as const satisfies readonly Direction[];

export class PolicyModel {
  /** What the kernel shall hold, after `settle`. */
  readonly elements = new Elements();
  readonly #nodeName: string;
  readonly #policies = new Map<string, CompiledPolicy>();
  readonly #policiesByNamespace = new Map<string, Set<CompiledPolicy>>();
  /** By uid: a name may be used again while the address table still knows the old pod. */
  readonly #pods = new Map<string, PodState>();
  readonly #uidOf = new Map<string, string>();
  readonly #podsByNamespace = new Map<string, Set<string>>();
  readonly #localByNamespace = new Map<string, Set<string>>();
  readonly #namespaceLabels = new Map<string, string>();

  readonly #classes = new Map<string, PolicyClass>();
  readonly #classNumbers = new Numbers();
  readonly #classesByPolicy = new Map<string, Set<PolicyClass>>();
  readonly #groupUsers = new Map<PeerGroup, Set<PolicyClass>>();
  readonly #podPortClasses = new Set<PolicyClass>();
  /** Each counts as one use of the identity. */
  readonly #identityOfAddress = new Map<IpAddress, Identity>();

  readonly #dirtyPods = new Set<string>();
  readonly #dirtyClasses = new Set<PolicyClass>();
  readonly #dirtyPairs = new Map<PolicyClass, Set<Identity>>();
  readonly #dirtyAddresses = new Set<IpAddress>();
  readonly #peers = new PeerRegistry(
    (group, identity) => this.#dirtyMember(group, identity),
    (identity) => this.#tiers.identityAppeared(identity),
  );
  readonly #addresses = new AddressTable((address) => this.#dirtyAddresses.add(address));
  readonly #tiers = new TierModel({
    elements: this.elements,
    peers: this.#peers,
    onPolicies: () => this.#dirtyLocal(),
    onNetworks: () => {
      for (const address of this.#identityOfAddress.keys()) this.#dirtyAddresses.add(address);
    },
  });

  constructor(options: { readonly nodeName: string }) {
    this.#nodeName = options.nodeName;
  }

  setNamespace(namespace: Namespace): void {
    const { name } = namespace.metadata;
    const labels: Labels = namespace.metadata.labels ?? {};
    const text = JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
    if (this.#namespaceLabels.get(name) === text) return;
    const isNew = !this.#namespaceLabels.has(name);
    this.#namespaceLabels.set(name, text);
    this.#peers.setNamespace(name, labels);
    if (isNew) this.#dirtyNamespace(name);
    // Subjects of ClusterNetworkPolicies are chosen by the labels of namespaces.
    else for (const uid of this.#localByNamespace.get(name) ?? []) this.#dirtyPods.add(uid);
  }

  deleteNamespace(name: string): void {
    if (!this.#namespaceLabels.delete(name)) return;
    this.#peers.setNamespace(name, undefined);
    this.#dirtyNamespace(name);
  }

  #dirtyNamespace(name: string): void {
    for (const uid of this.#podsByNamespace.get(name) ?? []) this.#dirtyPods.add(uid);
  }

  /** Takes a policy over and returns it compiled, with its problems. */
  setPolicy(policy: NetworkPolicy): CompiledPolicy {
    const compiled = compilePolicy(policy);
    this.deletePolicy(compiled.key);
    this.#policies.set(compiled.key, compiled);
    addTo(this.#policiesByNamespace, compiled.namespace, compiled);
    this.#dirtySelected(compiled);
    for (const each of this.#classesByPolicy.get(compiled.key) ?? []) this.#dirtyClasses.add(each);
    return compiled;
  }

  /** By "namespace/name"; absent is fine. */
  deletePolicy(key: string): void {
    const before = this.#policies.get(key);
    if (!before) return;
    this.#policies.delete(key);
    removeFrom(this.#policiesByNamespace, before.namespace, before);
    this.#dirtySelected(before);
  }

  /** Takes a ClusterNetworkPolicy over and returns it compiled, with its problems. */
  setClusterPolicy(policy: ClusterNetworkPolicy): CompiledClusterPolicy {
    return this.#tiers.setPolicy(policy);
  }

  /** Absent is fine. */
  deleteClusterPolicy(name: string): void {
    this.#tiers.deletePolicy(name);
  }

  #dirtyLocal(): void {
    for (const uids of this.#localByNamespace.values()) for (const uid of uids) this.#dirtyPods.add(uid);
  }

  #dirtySelected(policy: CompiledPolicy): void {
    for (const uid of this.#localByNamespace.get(policy.namespace) ?? []) {
      if (matches(policy.podSelector, this.#pods.get(uid)!.facts.labels)) this.#dirtyPods.add(uid);
    }
  }

  setPod(pod: Pod): void {
    const facts = podFacts(pod);
    const { uid, key, namespace } = facts;
    const other = this.#uidOf.get(key);
    if (other !== undefined && other !== uid) this.#forgetPod(other);
    const known = this.#pods.get(uid);
    if (known && sameFacts(known.facts, facts)) return;
    if (known) known.facts = facts;
    else {
      this.#pods.set(uid, { facts, isPeer: false, ingress: undefined, egress: undefined, tiers: {} });
      this.#uidOf.set(key, uid);
      addTo(this.#podsByNamespace, namespace, uid);
      for (const address of this.#addresses.addressesOf(uid)) this.#dirtyAddresses.add(address);
    }
    this.#dirtyPods.add(uid);
  }

  deletePod(key: string): void {
    const uid = this.#uidOf.get(key);
    if (uid !== undefined) this.#forgetPod(uid);
  }

  #forgetPod(uid: string): void {
    const state = this.#pods.get(uid);
    if (!state) return;
    for (const address of this.#addresses.addressesOf(uid)) this.#dirtyAddresses.add(address);
    this.#addresses.forget(uid);
    this.#pods.delete(uid);
    this.#dirtyPods.delete(uid);
    this.#uidOf.delete(state.facts.key);
    removeFrom(this.#podsByNamespace, state.facts.namespace, uid);
    removeFrom(this.#localByNamespace, state.facts.namespace, uid);
    this.#replace(state, {}, {});
  }

  /** Whether the API's object of this pod is known. */
  hasPod(uid: string): boolean {
    return this.#pods.has(uid);
  }

  /** A pod got its interface on this node: its addresses are certain, whatever the API says. */
  attach(attachment: Attachment): void {
    this.#addresses.attach(attachment);
    if (this.#pods.has(attachment.uid)) this.#dirtyPods.add(attachment.uid);
  }

  /** A pod of this node lost the interface with these addresses: they mean nothing from now on. */
  detach(uid: string, addresses: readonly IpAddress[]): void {
    this.#addresses.detach(uid, addresses);
    if (this.#pods.has(uid)) this.#dirtyPods.add(uid);
  }

  attachments(): Iterable<Attachment> {
    return this.#addresses.attachments();
  }

  /** Works off what changed; afterwards `elements` is exact. */
  settle(): void {
    for (const uid of this.#dirtyPods) this.#settlePod(uid);
    this.#dirtyPods.clear();
    for (const address of this.#dirtyAddresses) this.#settleAddress(address);
    this.#dirtyAddresses.clear();
    for (const each of this.#dirtyClasses) if (each.refs > 0) this.#rebuild(each);
    for (const each of this.#dirtyClasses) if (each.refs === 0) this.#discard(each);
    this.#dirtyClasses.clear();
    this.#tiers.settleClasses(() => this.#peers.identities());
    this.#peers.collect();
    for (const [each, identities] of this.#dirtyPairs) {
      for (const identity of identities) this.#settlePair(each, identity);
    }
    this.#dirtyPairs.clear();
    this.#tiers.settlePairs();
  }

  #settlePod(uid: string): void {
    const state = this.#pods.get(uid);
    if (!state) return;
    const { facts } = state;
    const attached = this.#addresses.attachment(uid) !== undefined;
    // A finished pod's address may be another's, unless its interface is still here.
    const live = !facts.hostNetwork && (attached || !facts.finished);
    const local = live && (attached || facts.nodeName === this.#nodeName);
    this.#addresses.claim(uid, live ? facts.addresses : []);
    if (local) addTo(this.#localByNamespace, facts.namespace, uid);
    else removeFrom(this.#localByNamespace, facts.namespace, uid);
    state.isPeer = live && this.#peers.hasNamespace(facts.namespace);
    const classes = local ? this.#acquireClasses(facts) : {};
    this.#replace(state, classes, local ? this.#acquireTiers(facts) : {});
    for (const address of this.#addresses.addressesOf(uid)) this.#dirtyAddresses.add(address);
  }

  /** Gives a pod what was acquired for it and releases what it had. */
  #replace(
    state: PodState,
    classes: { ingress?: PolicyClass | undefined; egress?: PolicyClass | undefined },
    tierClasses: TierClasses,
  ): void {
    const before = { ...state };
    state.tiers = tierClasses;
    for (const old of Object.values(before.tiers)) this.#tiers.release(old);
    for (const direction of directions) {
      state[direction] = classes[direction];
      const old = before[direction];
      if (old && --old.refs === 0) this.#dirtyClasses.add(old);
    }
  }

  /** None while the pod's namespace is not known: nobody can say then whose subject it is. */
  #acquireTiers(facts: PodFacts): TierClasses {
    const labels = this.#peers.namespaceLabels(facts.namespace);
    const result: TierClasses = {};
    if (!labels) return result;
    for (const tier of tiers) {
      for (const direction of directions) {
        const acquired = this.#tiers.acquire(tier, direction, facts, labels);
        if (acquired) result[`${tier}_${direction}`] = acquired;
      }
    }
    return result;
  }

  #acquireClasses(facts: PodFacts): { ingress: PolicyClass | undefined; egress: PolicyClass | undefined } {
    const selecting = [...(this.#policiesByNamespace.get(facts.namespace) ?? [])]
      .filter((policy) => matches(policy.podSelector, facts.labels))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    return {
      ingress: this.#acquireClass('ingress', facts, selecting),
      egress: this.#acquireClass('egress', facts, selecting),
    };
  }

  #acquireClass(direction: Direction, facts: PodFacts, selecting: readonly CompiledPolicy[]): PolicyClass | undefined {
    const isolating = selecting.filter((policy) => policy[direction] !== undefined);
    if (isolating.length === 0) return undefined;
    const namedPorts = direction === 'ingress' ? usedNamedPorts(facts, isolating) : [];
    const policies = isolating.map((policy) => policy.key);
    const key = classKey(direction, policies, namedPorts);
    let found = this.#classes.get(key);
    if (!found) {
      found = {
        key,
        number: this.#classNumbers.acquire(key),
        direction,
        policies,
        namedPorts,
        refs: 0,
        grants: new Map(),
        pairs: new Map(),
        fixed: new Map(),
        namedBlocks: [],
      };
      this.#classes.set(key, found);
      for (const policy of policies) addTo(this.#classesByPolicy, policy, found);
      this.#dirtyClasses.add(found);
    }
    found.refs++;
    return found;
  }

  #rebuild(each: PolicyClass): void {
    const rules = each.policies.flatMap((key) => this.#policies.get(key)?.[each.direction] ?? []);
    const content = classContent(each.direction, rules, each.namedPorts);
    const before = each.grants;
    each.grants = new Map();
    for (const { peers, grant } of content.pods.values()) {
      const group = this.#peers.acquireGroup(peers);
      each.grants.set(group, grant);
      addTo(this.#groupUsers, group, each);
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
      removeFrom(this.#groupUsers, group, each);
      for (const member of group.members) this.#dirtyPair(each, member);
    }
    this.#peers.releaseGroup(group);
  }

  #discard(each: PolicyClass): void {
    this.#classes.delete(each.key);
    this.#classNumbers.release(each.key);
    for (const policy of each.policies) removeFrom(this.#classesByPolicy, policy, each);
    const groups = [...each.grants.keys()];
    each.grants = new Map();
    for (const group of groups) this.#leaveGroup(each, group);
    this.#writeFixed(each, [], true);
    this.#setNamedBlocks(each, []);
  }

  #writeFixed(each: PolicyClass, wanted: readonly { set: string; key: string }[], garbage: boolean): void {
    const fixed = new Map(wanted.map((element) => [`${element.set} ${element.key}`, element]));
    for (const [text, { set, key }] of each.fixed) if (!fixed.has(text)) this.elements.delete(set, key, garbage);
    for (const { set, key } of fixed.values()) this.elements.put(set, key);
    each.fixed = fixed;
  }

  #dirtyMember(group: PeerGroup, identity: Identity): void {
    this.#tiers.memberChanged(group, identity);
    for (const each of this.#groupUsers.get(group) ?? []) this.#dirtyPair(each, identity);
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
    const garbage = each.refs === 0 || identity.refs === 0;
    const wanted = pairElements(each, identity.number, after);
    const keys = new Set(wanted.map(({ set, key }) => `${set} ${key}`));
    for (const { set, key } of pairElements(each, identity.number, before)) {
      if (!keys.has(`${set} ${key}`)) this.elements.delete(set, key, garbage);
    }
    for (const { set, key } of wanted) this.elements.put(set, key);
  }

  #settleAddress(address: IpAddress): void {
    const family = familyOfAddress(address);
    const owner = this.#addresses.owner(address);
    const pod = owner && owner !== 'contested' ? this.#pods.get(owner.uid) : undefined;
    const before = this.#identityOfAddress.get(address);
    const identity = pod?.isPeer ? this.#peers.acquireIdentity(pod.facts, this.#tiers.networksOf(address)) : undefined;
    if (before) this.#peers.releaseIdentity(before);
    this.#write(`identity${family}`, address, identity && String(identity.number));
    const unsure = !pod && (this.#addresses.isAttached(address) || this.#claimedHere(address));
    for (const direction of directions) {
      const number = unsure ? isolated : pod?.[direction]?.number;
      this.#writeClass(`${direction}${family}`, address, number);
      this.#writeClass(`admin_${direction}${family}`, address, pod?.tiers[`admin_${direction}`]?.number);
      // NetworkPolicies have the last word about the pods that they isolate.
      const baseline = number === undefined ? pod?.tiers[`baseline_${direction}`]?.number : undefined;
      this.#writeClass(`baseline_${direction}${family}`, address, baseline);
    }
    const judged = unsure || pod?.ingress || pod?.egress || Object.keys(pod?.tiers ?? {}).length > 0;
    this.#write(`self${family}`, `${address} . ${address}`, judged ? '' : undefined);
    this.#placeIdentity(address, identity);
  }

  #writeClass(set: string, address: IpAddress, number: number | undefined): void {
    this.#write(set, address, number === undefined ? undefined : formatClass(number));
  }

  #claimedHere(address: IpAddress): boolean {
    return this.#addresses.claimants(address).some((uid) => this.#pods.get(uid)?.facts.nodeName === this.#nodeName);
  }

  #write(set: string, key: string, value: string | undefined): void {
    if (value === undefined) this.elements.delete(set, key);
    else this.elements.put(set, key, value);
  }

  /** Keeps the rules "named port on a pod inside an address block" up to date: the only ones that know pods' addresses. */
  #placeIdentity(address: IpAddress, identity: Identity | undefined): void {
    const before = this.#identityOfAddress.get(address);
    if (before === identity) return;
    for (const each of this.#podPortClasses) this.#writePodPorts(each, address, before, identity);
    if (identity) this.#identityOfAddress.set(address, identity);
    else this.#identityOfAddress.delete(address);
  }

  #setNamedBlocks(each: PolicyClass, namedBlocks: PolicyClass['namedBlocks']): void {
    if (each.namedBlocks.length === 0 && namedBlocks.length === 0) return;
    const keysBefore = new Set<string>();
    const keysAfter = new Set<string>();
    for (const [address, identity] of this.#identityOfAddress) {
      for (const key of podPortKeys(each.number, each.namedBlocks, address, identity)) keysBefore.add(key);
      for (const key of podPortKeys(each.number, namedBlocks, address, identity)) keysAfter.add(key);
    }
    each.namedBlocks = namedBlocks;
    if (namedBlocks.length) this.#podPortClasses.add(each);
    else this.#podPortClasses.delete(each);
    this.#writePodPortKeys(keysBefore, keysAfter, each.refs === 0);
  }

  #writePodPorts(
    each: PolicyClass,
    address: IpAddress,
    before: Identity | undefined,
    after: Identity | undefined,
  ): void {
    const keys = (identity: Identity | undefined) =>
      new Set(identity ? podPortKeys(each.number, each.namedBlocks, address, identity) : []);
    this.#writePodPortKeys(keys(before), keys(after), false);
  }

  #writePodPortKeys(before: ReadonlySet<string>, after: ReadonlySet<string>, garbage: boolean): void {
    const setOf = (key: string) => `egress_podport${familyOfAddress(key.split(' . ')[1]!)}`;
    for (const key of before) if (!after.has(key)) this.elements.delete(setOf(key), key, garbage);
    for (const key of after) this.elements.put(setOf(key), key);
  }
}

/** Whether nothing changed that policies look at; most updates of a pod are of its status and change nothing here. */
function sameFacts(a: PodFacts, b: PodFacts): boolean {
  return (
    a.identityKey === b.identityKey &&
    a.nodeName === b.nodeName &&
    a.hostNetwork === b.hostNetwork &&
    a.finished === b.finished &&
    a.addresses.join() === b.addresses.join()
  );
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
