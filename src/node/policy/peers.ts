/**
 * Identities and the groups of them that rules name as peers. An identity stands for all pods that no policy can tell
 * apart (`PodFacts.identityKey`); a group for one pair of namespace and pod selectors, shared by all rules that have it.
 * Members are kept up to date from both sides: a new identity looks for its groups, a new group for its members.
 */
import { type Labels, matches } from '../../kube/selectors.ts';
import type { AddressPeer } from './address-peers.ts';
import type { PodPeers } from './compile.ts';
import { Numbers } from './numbers.ts';
import type { NamedPort, PodFacts } from './pod-facts.ts';
import { demandedLabels, labelText, SelectorIndex } from './selector-index.ts';

export interface Identity {
  readonly key: string;
  readonly number: number;
  /** '' of addresses that are no pod's. */
  readonly namespace: string;
  readonly labels: Labels;
  readonly namedPorts: readonly NamedPort[];
  /** The peers of ClusterNetworkPolicies that its addresses are by themselves: `AddressPeer.key`. */
  readonly addressPeers: readonly string[];
  /** Addresses that have it; 0 when it is about to go. */
  refs: number;
}

export interface PeerGroup {
  readonly peers: PodPeers | AddressPeer;
  readonly members: Set<Identity>;
  refs: number;
}

export class PeerRegistry {
  readonly #numbers = new Numbers();
  readonly #identities = new Map<string, Identity>();
  readonly #byNamespace = new Map<string, Set<Identity>>();
  readonly #byLabel = new Map<string, Set<Identity>>();
  readonly #groups = new Map<string, PeerGroup>();
  readonly #addressGroups = new Map<string, PeerGroup>();
  readonly #index = new SelectorIndex<PeerGroup>();
  readonly #namespaces = new Map<string, Labels>();
  /** Identities without pods, until `collect`: they often come back within the same change. */
  readonly #unused = new Set<Identity>();
  readonly #onChange: (group: PeerGroup, identity: Identity) => void;

  readonly #onIdentity: (identity: Identity) => void;

  /**
   * `onChange` is told of each identity that entered or left a group that existed before, `onIdentity` of each that is new,
   * and of each that is gone (then it has no `refs`).
   */
  constructor(
    onChange: (group: PeerGroup, identity: Identity) => void,
    onIdentity: (identity: Identity) => void = () => {},
  ) {
    this.#onChange = onChange;
    this.#onIdentity = onIdentity;
  }

  identities(): Iterable<Identity> {
    return this.#identities.values();
  }

  /** For one address of a pod, which is these peers by itself. */
  acquireIdentity(facts: PodFacts, addressPeers: readonly string[] = []): Identity {
    const { identityKey, namespace, labels, namedPorts } = facts;
    const key = addressPeers.length ? JSON.stringify([identityKey, ...addressPeers]) : identityKey;
    return this.#acquire(key, { addressPeers, namespace, labels, namedPorts });
  }

  /** For one address that is no pod's. No namespace has an empty name: no selector of pods chooses it. */
  acquireAddressIdentity(addressPeers: readonly string[]): Identity {
    return this.#acquire(JSON.stringify(addressPeers), { addressPeers, namespace: '', labels: {}, namedPorts: [] });
  }

  #acquire(key: string, what: Omit<Identity, 'key' | 'number' | 'refs'>): Identity {
    let identity = this.#identities.get(key);
    if (!identity) {
      identity = { ...what, key, number: this.#numbers.acquire(key), refs: 0 };
      this.#enter(identity);
    }
    identity.refs++;
    this.#unused.delete(identity);
    return identity;
  }

  releaseIdentity(identity: Identity): void {
    if (--identity.refs === 0) this.#unused.add(identity);
  }

  /** Drops the identities that no pod has any more. */
  collect(): void {
    for (const identity of this.#unused) {
      this.#numbers.release(identity.key);
      this.#identities.delete(identity.key);
      for (const [map, key] of this.#placesOf(identity)) removeFrom(map, key, identity);
      for (const group of this.#groupsNear(identity)) {
        if (group.members.delete(identity)) this.#onChange(group, identity);
      }
      this.#onIdentity(identity);
    }
    this.#unused.clear();
  }

  *#groupsNear(identity: Identity): Generator<PeerGroup> {
    yield* this.#index.candidates(identity.namespace, identity.labels);
    for (const key of identity.addressPeers) {
      const group = this.#addressGroups.get(key);
      if (group) yield group;
    }
  }

  acquireGroup(peers: PodPeers | AddressPeer): PeerGroup {
    return peers.kind === 'pods' ? this.#acquirePods(peers) : this.#acquireByAddress(peers);
  }

  #acquireByAddress(peers: AddressPeer): PeerGroup {
    let group = this.#addressGroups.get(peers.key);
    if (!group) {
      group = { peers, members: new Set(), refs: 0 };
      this.#addressGroups.set(peers.key, group);
      for (const identity of this.#identities.values()) {
        if (identity.addressPeers.includes(peers.key)) group.members.add(identity);
      }
    }
    group.refs++;
    return group;
  }

  #acquirePods(peers: PodPeers): PeerGroup {
    let group = this.#groups.get(peers.key);
    if (!group) {
      group = { peers, members: new Set(), refs: 0 };
      this.#groups.set(peers.key, group);
      this.#index.add(scopeOf(peers), peers.podSelector, group);
      for (const identity of this.#candidates(peers)) if (this.#belongs(group, identity)) group.members.add(identity);
    }
    group.refs++;
    return group;
  }

  releaseGroup(group: PeerGroup): void {
    if (--group.refs > 0) return;
    const { peers } = group;
    if (peers.kind !== 'pods') {
      this.#addressGroups.delete(peers.key);
      return;
    }
    this.#groups.delete(peers.key);
    this.#index.delete(scopeOf(peers), peers.podSelector, group);
  }

  hasNamespace(name: string): boolean {
    return this.#namespaces.has(name);
  }

  namespaceLabels(name: string): Labels | undefined {
    return this.#namespaces.get(name);
  }

  /** Sets a namespace's labels; undefined when it is gone. Only its own identities are looked at. */
  setNamespace(name: string, labels: Labels | undefined): void {
    if (labels) this.#namespaces.set(name, labels);
    else this.#namespaces.delete(name);
    for (const identity of this.#byNamespace.get(name) ?? []) {
      for (const group of this.#index.candidates(name, identity.labels)) this.#review(group, identity);
    }
  }

  #enter(identity: Identity): void {
    this.#identities.set(identity.key, identity);
    for (const [map, key] of this.#placesOf(identity)) addTo(map, key, identity);
    for (const group of this.#groupsNear(identity)) this.#review(group, identity);
    this.#onIdentity(identity);
  }

  #review(group: PeerGroup, identity: Identity): void {
    const belongs = this.#belongs(group, identity);
    if (belongs === group.members.has(identity)) return;
    if (belongs) group.members.add(identity);
    else group.members.delete(identity);
    this.#onChange(group, identity);
  }

  #belongs({ peers }: PeerGroup, identity: Identity): boolean {
    if (peers.kind !== 'pods') return identity.addressPeers.includes(peers.key);
    if (!matches(peers.podSelector, identity.labels)) return false;
    if ('name' in peers.namespaces) return peers.namespaces.name === identity.namespace;
    const labels = this.#namespaces.get(identity.namespace);
    // A namespace that is not known is chosen by no selector, not even by the empty one: nothing by accident.
    return labels !== undefined && matches(peers.namespaces.selector, labels);
  }

  *#candidates(peers: PodPeers): Iterable<Identity> {
    if ('name' in peers.namespaces) yield* this.#byNamespace.get(peers.namespaces.name) ?? [];
    else {
      const demanded = demandedLabels(peers.podSelector);
      if (!demanded) yield* this.#identities.values();
      for (const text of demanded ?? []) yield* this.#byLabel.get(text) ?? [];
    }
  }

  #placesOf({ namespace, labels }: Identity): [Map<string, Set<Identity>>, string][] {
    return [
      [this.#byNamespace, namespace],
      ...Object.entries(labels).map(([key, value]): [Map<string, Set<Identity>>, string] => [
        this.#byLabel,
        labelText(key, value),
      ]),
    ];
  }
}

function scopeOf(peers: PodPeers): string {
  return 'name' in peers.namespaces ? peers.namespaces.name : '';
}

function addTo<T>(map: Map<string, Set<T>>, key: string, item: T): void {
  const items = map.get(key);
  if (items) items.add(item);
  else map.set(key, new Set([item]));
}

function removeFrom<T>(map: Map<string, Set<T>>, key: string, item: T): void {
  const items = map.get(key);
  items?.delete(item);
  if (items?.size === 0) map.delete(key);
}
