/**
 * The model: Pods, Namespaces and NetworkPolicies in, elements of the kernel's sets out. It is kept up to date change by
 * change; the work of a change depends on what it touches, not on the size of the cluster. Its result does not depend on
 * the order of changes: a model fed with the same objects from nothing holds the same elements.
 *
 * Pure: no kernel, no clock. Call the setters for what changed, then `settle` once.
 */
import type { IpAddress } from '../../base/ip.ts';
import { type Labels, matches } from '../../kube/selectors.ts';
import type { ClusterNetworkPolicy, Namespace, NetworkPolicy, Node, Pod } from '../../kube/types.ts';
import { AddressPeers, canonicalName } from './address-peers.ts';
import { AddressTable, type Attachment, type Owner } from './addresses.ts';
import { ClassModel, type PodClasses } from './class-model.ts';
import { isolated } from './classes.ts';
import type { CompiledPolicy, Direction } from './compile.ts';
import { type CompiledClusterPolicy, type Tier, tiers } from './compile-cluster.ts';
import { Deniers } from './deniers.ts';
import { Elements, familyOfAddress, formatClass } from './elements.ts';
import { type Identity, PeerRegistry } from './peers.ts';
import { type PodFacts, podFacts } from './pod-facts.ts';
import type { TierClass } from './tier-classes.ts';
import { TierModel } from './tier-model.ts';

interface PodState {
  facts: PodFacts;
  /** Its namespace is known and it has addresses of its own: a peer that selectors can mean. */
  isPeer: boolean;
  classes: PodClasses;
  tiers: TierClasses;
}

type TierClasses = Partial<Record<`${Tier}_${Direction}`, TierClass>>;

const directions = ['ingress', 'egress'] as const satisfies readonly Direction[];
const noClasses: PodClasses = { ingress: undefined, egress: undefined };

export class PolicyModel {
  /** What the kernel shall hold, after `settle`. */
  readonly elements = new Elements();
  /** Who stands behind the counters of denied packets. */
  readonly deniers = new Deniers(this.elements);
  readonly #nodeName: string;
  /** By uid: a name may be used again while the address table still knows the old pod. */
  readonly #pods = new Map<string, PodState>();
  readonly #uidOf = new Map<string, string>();
  readonly #podsByNamespace = new Map<string, Set<string>>();
  readonly #localByNamespace = new Map<string, Set<string>>();
  readonly #namespaceLabels = new Map<string, string>();
  /** Each counts as one use of the identity. */
  readonly #identityOfAddress = new Map<IpAddress, Identity>();
  readonly #dirtyPods = new Set<string>();
  readonly #dirtyAddresses = new Set<IpAddress>();

  readonly #peers = new PeerRegistry(
    (group, identity) => {
      this.#tiers.memberChanged(group, identity);
      this.#classes.memberChanged(group, identity);
    },
    (identity) => this.#tiers.identityAppeared(identity),
  );
  readonly #addresses = new AddressTable((address) => this.#dirtyAddresses.add(address));
  readonly #addressPeers = new AddressPeers(
    (address) => this.#dirtyAddresses.add(address),
    () => {
      for (const address of this.#identityOfAddress.keys()) this.#dirtyAddresses.add(address);
      for (const address of this.#addressPeers.addresses()) this.#dirtyAddresses.add(address);
    },
  );
  readonly #classes = new ClassModel({
    elements: this.elements,
    peers: this.#peers,
    deniers: this.deniers,
    identities: this.#identityOfAddress,
    onPolicy: (policy) => this.#dirtySelected(policy),
  });
  readonly #tiers = new TierModel({
    elements: this.elements,
    peers: this.#peers,
    addressPeers: this.#addressPeers,
    deniers: this.deniers,
    onPolicies: () => this.#dirtyLocal(),
  });

  constructor(options: { readonly nodeName: string }) {
    this.#nodeName = options.nodeName;
    for (const direction of directions) this.deniers.add(`denied_${direction}`, formatClass(isolated), []);
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
    return this.#classes.setPolicy(policy);
  }

  /** By "namespace/name"; absent is fine. */
  deletePolicy(key: string): void {
    this.#classes.deletePolicy(key);
  }

  /** Takes a ClusterNetworkPolicy over and returns it compiled, with its problems. */
  setClusterPolicy(policy: ClusterNetworkPolicy): CompiledClusterPolicy {
    return this.#tiers.setPolicy(policy);
  }

  /** Absent is fine. */
  deleteClusterPolicy(name: string): void {
    this.#tiers.deletePolicy(name);
  }

  /** Nodes are peers of ClusterNetworkPolicies by their labels. */
  setNode(node: Node): void {
    this.#addressPeers.setNode(node);
  }

  /** Absent is fine. */
  deleteNode(name: string): void {
    this.#addressPeers.deleteNode(name);
  }

  /** Whether a policy names this domain name, or a wildcard over it. */
  wantsName(name: string): boolean {
    return this.#addressPeers.wantsName(canonicalName(name));
  }

  /** The domain names that DNS answers gave to an address, those that are still good. */
  setNames(address: IpAddress, names: readonly string[]): void {
    this.#addressPeers.setNames(address, names.map(canonicalName));
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
      this.#pods.set(uid, { facts, isPeer: false, classes: noClasses, tiers: {} });
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
    this.#replace(state, noClasses, {});
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
    this.#classes.settleClasses();
    this.#tiers.settleClasses(() => this.#peers.identities());
    this.#peers.collect();
    this.#classes.settlePairs();
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
    this.#replace(state, local ? this.#classes.acquire(facts) : noClasses, local ? this.#acquireTiers(facts) : {});
    for (const address of this.#addresses.addressesOf(uid)) this.#dirtyAddresses.add(address);
  }

  /** Gives a pod what was acquired for it and releases what it had. */
  #replace(state: PodState, classes: PodClasses, tierClasses: TierClasses): void {
    const before = { ...state };
    state.classes = classes;
    state.tiers = tierClasses;
    for (const old of Object.values(before.tiers)) this.#tiers.release(old);
    for (const direction of directions) {
      const old = before.classes[direction];
      if (old) this.#classes.release(old);
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

  #settleAddress(address: IpAddress): void {
    const family = familyOfAddress(address);
    const owner = this.#addresses.owner(address);
    const pod = owner && owner !== 'contested' ? this.#pods.get(owner.uid) : undefined;
    const before = this.#identityOfAddress.get(address);
    const identity = pod ? this.#identityOfPod(pod, address) : this.#identityOfOther(address, owner);
    if (before) this.#peers.releaseIdentity(before);
    this.#write(`identity${family}`, address, identity && String(identity.number));
    const unsure = !pod && (this.#addresses.isAttached(address) || this.#claimedHere(address));
    for (const direction of directions) {
      const number = unsure ? isolated : pod?.classes[direction]?.number;
      this.#writeClass(`${direction}${family}`, address, number);
      this.#writeClass(`admin_${direction}${family}`, address, pod?.tiers[`admin_${direction}`]?.number);
      // NetworkPolicies have the last word about the pods that they isolate.
      const baseline = number === undefined ? pod?.tiers[`baseline_${direction}`]?.number : undefined;
      this.#writeClass(`baseline_${direction}${family}`, address, baseline);
    }
    const judged = unsure || pod?.classes.ingress || pod?.classes.egress || Object.keys(pod?.tiers ?? {}).length > 0;
    this.#write(`self${family}`, `${address} . ${address}`, judged ? '' : undefined);
    this.#placeIdentity(address, identity);
  }

  #identityOfPod({ isPeer, facts }: PodState, address: IpAddress): Identity | undefined {
    return isPeer ? this.#peers.acquireIdentity(facts, this.#addressPeers.ofPod(address)) : undefined;
  }

  /** An address that pods claim is no node's and has no name, whoever of them has it. */
  #identityOfOther(address: IpAddress, owner: Owner): Identity | undefined {
    const keys = owner ? undefined : this.#addressPeers.ofOther(address);
    return keys && this.#peers.acquireAddressIdentity(keys);
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

  #placeIdentity(address: IpAddress, identity: Identity | undefined): void {
    const before = this.#identityOfAddress.get(address);
    if (before === identity) return;
    this.#classes.addressChanged(address, before, identity);
    if (identity) this.#identityOfAddress.set(address, identity);
    else this.#identityOfAddress.delete(address);
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
