/**
 * Peers that ClusterNetworkPolicies choose by address, not by pod: networks, nodes by their labels, domain names. Which of
 * them an address is, is part of its identity (`PeerRegistry`); so a node's new label, or an address that a name got, moves
 * one address to another identity, and no rule changes.
 */
import { type Cidr, cidrContains, type IpAddress, isIp, parseIp } from '../../base/ip.ts';
import { type Labels, matches, type Selector } from '../../kube/selectors.ts';
import type { Node } from '../../kube/types.ts';

/** Addresses, whoever has them. One peer is one CIDR, so that all rules share it. */
export interface NetworkPeer {
  readonly kind: 'network';
  readonly key: string;
  readonly cidr: Cidr;
}

/** The addresses in the status of the nodes with these labels. */
export interface NodesPeer {
  readonly kind: 'nodes';
  readonly key: string;
  readonly selector: Selector;
}

/** The addresses that DNS answers gave for a name: "example.com", or "*.example.com" for all names below it. */
export interface DomainPeer {
  readonly kind: 'domain';
  readonly key: string;
  readonly pattern: string;
}

export type AddressPeer = NetworkPeer | NodesPeer | DomainPeer;

interface NodeFacts {
  readonly labels: Labels;
  readonly addresses: readonly IpAddress[];
}

/** Lower case, without the dot at the end. */
export function canonicalName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

/** The wildcard stands for one or more whole labels. Both canonical. */
export function nameMatches(pattern: string, name: string): boolean {
  return pattern.startsWith('*.')
    ? name.endsWith(pattern.slice(1)) && name.length > pattern.length - 1
    : name === pattern;
}

export class AddressPeers {
  /** Sorted by key. */
  #peers: readonly AddressPeer[] = [];
  readonly #nodes = new Map<string, NodeFacts>();
  readonly #nodesAt = new Map<IpAddress, Set<string>>();
  readonly #namesAt = new Map<IpAddress, readonly string[]>();
  readonly #onAddress: (address: IpAddress) => void;
  readonly #onPeers: () => void;

  /** `onAddress` is told of an address that may be other peers now, `onPeers` that all of them may be. */
  constructor(onAddress: (address: IpAddress) => void, onPeers: () => void) {
    this.#onAddress = onAddress;
    this.#onPeers = onPeers;
  }

  /** All that policies name now; each key may come more than once. */
  setPeers(peers: readonly AddressPeer[]): void {
    const distinct = new Map(peers.map((peer) => [peer.key, peer]));
    const sorted = [...distinct.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    if (sorted.map(({ key }) => key).join() === this.#peers.map(({ key }) => key).join()) return;
    this.#peers = sorted;
    this.#onPeers();
  }

  /** A node's labels and addresses; heartbeats change neither and cost a comparison. */
  setNode({ metadata, status }: Node): void {
    const { name, labels = {} } = metadata;
    const texts = (status?.addresses ?? []).map(({ address }) => address).filter(isIp);
    const facts: NodeFacts = { labels, addresses: [...new Set(texts.map(parseIp))] };
    const before = this.#nodes.get(name);
    if (before && JSON.stringify(before) === JSON.stringify(facts)) return;
    this.deleteNode(name);
    this.#nodes.set(name, facts);
    for (const address of facts.addresses) {
      this.#nodesAt.set(address, (this.#nodesAt.get(address) ?? new Set()).add(name));
      this.#onAddress(address);
    }
  }

  /** Absent is fine. */
  deleteNode(name: string): void {
    const before = this.#nodes.get(name);
    this.#nodes.delete(name);
    for (const address of before?.addresses ?? []) {
      const names = this.#nodesAt.get(address);
      names?.delete(name);
      if (names?.size === 0) this.#nodesAt.delete(address);
      this.#onAddress(address);
    }
  }

  /** The domain names (canonical) that an address has now; none when the last has expired. */
  setNames(address: IpAddress, names: readonly string[]): void {
    if (names.length) this.#namesAt.set(address, names);
    else this.#namesAt.delete(address);
    this.#onAddress(address);
  }

  /** Whether a policy would like to know the addresses of this name (canonical). */
  wantsName(name: string): boolean {
    return this.#peers.some((peer) => peer.kind === 'domain' && nameMatches(peer.pattern, name));
  }

  /** The addresses that are more than networks can say. */
  addresses(): Iterable<IpAddress> {
    return new Set([...this.#nodesAt.keys(), ...this.#namesAt.keys()]);
  }

  /** The keys of the peers that a pod's address is. A pod is no node, whatever a Node's status says. */
  ofPod(address: IpAddress): string[] {
    return this.#keys(address, []);
  }

  /**
   * The keys of the peers that an address of no pod is, when one of them is more than a network. Networks alone need no
   * identity: the interval maps know them.
   */
  ofOther(address: IpAddress): string[] | undefined {
    const nodes = [...(this.#nodesAt.get(address) ?? [])].map((name) => this.#nodes.get(name)!.labels);
    if (nodes.length === 0 && !this.#namesAt.has(address)) return undefined;
    const keys = this.#keys(address, nodes);
    const chosen = new Set(keys);
    return this.#peers.some(({ kind, key }) => kind !== 'network' && chosen.has(key)) ? keys : undefined;
  }

  #keys(address: IpAddress, nodes: readonly Labels[]): string[] {
    const names = this.#namesAt.get(address) ?? [];
    return this.#peers
      .filter((peer) => {
        if (peer.kind === 'network') return cidrContains(peer.cidr, address);
        if (peer.kind === 'nodes') return nodes.some((labels) => matches(peer.selector, labels));
        return names.some((name) => nameMatches(peer.pattern, name));
      })
      .map(({ key }) => key);
  }
}
