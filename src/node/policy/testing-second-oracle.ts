/**
 * A second oracle, for tests only: written from the API's documentation and from docs/policy.md, without a look at the first
 * one (`oracle.ts`) and without anything of it. It works the other way round: it never judges a packet, it writes down for
 * each pod the whole set of connections that policies leave it, over a small universe of addresses and ports, rule by rule.
 * Two programs that go different ways rarely make the same mistake.
 */
import { BlockList, isIP } from 'node:net';
import type {
  ClusterNetworkPolicyPeer,
  ClusterNetworkPolicyProtocol,
  ClusterNetworkPolicySubject,
} from '../../kube/cluster-network-policy.ts';
import type { ClusterNetworkPolicy, LabelSelector, NetworkPolicy, networkingv1, Pod } from '../../kube/types.ts';
import type { ClusterState } from './oracle.ts';

export interface Universe {
  /** Canonical. */
  readonly addresses: readonly string[];
  readonly ports: readonly { readonly protocol: string; readonly dport: number }[];
}

type Labels = Readonly<Record<string, string>>;
type Way = 'in' | 'out';
/** "address protocol dport": the other end of a connection, and the port where it is received. */
type Link = string;

/** The connections that policies deny: "source destination protocol dport". A pod's own node is not asked about. */
export function deniedConnections(state: ClusterState, universe: Universe): Set<string> {
  const world = new World(state, universe);
  const open = { in: world.openLinks('in'), out: world.openLinks('out') };
  const denied = new Set<string>();
  for (const source of universe.addresses) {
    for (const destination of universe.addresses) {
      if (isIP(source) !== isIP(destination) || source === destination) continue;
      for (const { protocol, dport } of universe.ports) {
        const leaves = open.out.get(source)?.has(`${destination} ${protocol} ${dport}`) ?? true;
        const enters = open.in.get(destination)?.has(`${source} ${protocol} ${dport}`) ?? true;
        if (!leaves || !enters) denied.add(`${source} ${destination} ${protocol} ${dport}`);
      }
    }
  }
  return denied;
}

class World {
  readonly #state: ClusterState;
  readonly #universe: Universe;
  readonly #namespaces: ReadonlyMap<string, Labels>;
  /** Pods with addresses of their own, by address. */
  readonly #holders = new Map<string, Pod[]>();

  constructor(state: ClusterState, universe: Universe) {
    this.#state = state;
    this.#universe = universe;
    this.#namespaces = new Map([...state.namespaces].map(({ metadata }) => [metadata.name, metadata.labels ?? {}]));
    for (const pod of state.pods) {
      const over = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
      if (over || pod.spec.hostNetwork) continue;
      for (const { ip } of pod.status?.podIPs ?? []) {
        if (ip) this.#holders.set(ip, [...(this.#holders.get(ip) ?? []), pod]);
      }
    }
  }

  /** Of each address that a pod holds: what its policies leave open. Other addresses are not in it: open to all. */
  openLinks(way: Way): Map<string, Set<Link>> {
    const result = new Map<string, Set<Link>>();
    for (const [address, holders] of this.#holders) {
      // An address of two pods is nobody's: isolated completely.
      result.set(address, holders.length > 1 ? new Set() : this.#linksOf(holders[0]!, address, way));
    }
    return result;
  }

  #linksOf(pod: Pod, address: string, way: Way): Set<Link> {
    const all = this.#universe.addresses.flatMap((other) =>
      isIP(other) === isIP(address)
        ? this.#universe.ports.map(({ protocol, dport }) => ({
            other,
            protocol,
            dport,
            receiver: way === 'in' ? pod : this.#only(other),
          }))
        : [],
    );
    const name = ({ other, protocol, dport }: (typeof all)[number]) => `${other} ${protocol} ${dport}`;
    const admin = this.#tier('Admin', pod, way, all);
    const baseline = this.#tier('Baseline', pod, way, all);
    const isolating = [...this.#state.policies].filter((policy) => isolatesPod(policy, pod, way));
    return new Set(
      all
        .filter((link) => {
          const first = admin.get(name(link));
          if (first === 'Accept' || first === 'Deny') return first === 'Accept';
          if (isolating.length > 0) return isolating.some((policy) => this.#grants(policy, way, link));
          return baseline.get(name(link)) !== 'Deny';
        })
        .map(name),
    );
  }

  #only(address: string): Pod | undefined {
    const holders = this.#holders.get(address) ?? [];
    return holders.length === 1 ? holders[0] : undefined;
  }

  #grants(policy: NetworkPolicy, way: Way, link: LinkParts): boolean {
    const rules: readonly { peers?: networkingv1.NetworkPolicyPeer[]; ports?: networkingv1.NetworkPolicyPort[] }[] =
      way === 'in'
        ? (policy.spec.ingress ?? []).map((rule) => ({ peers: rule.from, ports: rule.ports }) as never)
        : (policy.spec.egress ?? []).map((rule) => ({ peers: rule.to, ports: rule.ports }) as never);
    return rules.some(({ peers = [], ports = [] }) => {
      const who = peers.length === 0 || peers.some((peer) => this.#isPeer(peer, policy.metadata.namespace, link.other));
      return who && (ports.length === 0 || ports.some((port) => this.#isPort(port, way, link)));
    });
  }

  #isPeer(peer: networkingv1.NetworkPolicyPeer, home: string, address: string): boolean {
    const { ipBlock, podSelector, namespaceSelector } = peer;
    if (ipBlock) {
      const { cidr, except = [] } = ipBlock;
      if (podSelector || namespaceSelector || ![cidr, ...except].every(isNetwork)) return false;
      return isInside(cidr, address) && !except.some((hole) => isInside(hole, address));
    }
    const pod = this.#only(address);
    const labels = pod && this.#namespaces.get(pod.metadata.namespace);
    if (!pod || !labels || (!podSelector && !namespaceSelector)) return false;
    const place = namespaceSelector ? chooses(namespaceSelector, labels) === 'yes' : pod.metadata.namespace === home;
    return place && (!podSelector || chooses(podSelector, pod.metadata.labels ?? {}) === 'yes');
  }

  #isPort({ protocol = 'TCP', port, endPort }: networkingv1.NetworkPolicyPort, way: Way, link: LinkParts): boolean {
    if (link.protocol !== protocol || protocol === 'ICMP') return false;
    if (port === undefined) return endPort === undefined;
    if (typeof port === 'number') return port <= link.dport && link.dport <= (endPort ?? port);
    return endPort === undefined && this.#named(port, way, link);
  }

  /** A port's name is the receiver's; a peer of a namespace that nobody knows is nobody. */
  #named(name: string, way: Way, { receiver, protocol, dport }: LinkParts): boolean {
    if (!receiver || (way === 'out' && !this.#namespaces.has(receiver.metadata.namespace))) return false;
    const ports = receiver.spec.containers.flatMap((container) => container.ports ?? []);
    return ports.some(
      (port) => port.name === name && (port.protocol ?? 'TCP') === protocol && port.containerPort === dport,
    );
  }

  /** What the rules of a tier say, rule after rule: the first that matches a link has it. */
  #tier(tier: 'Admin' | 'Baseline', pod: Pod, way: Way, all: readonly LinkParts[]): Map<Link, string> {
    const said = new Map<Link, string>();
    const home = this.#namespaces.get(pod.metadata.namespace);
    if (!home) return said;
    const policies = [...(this.#state.clusterPolicies ?? [])]
      .filter(({ spec }) => (spec.tier === 'Baseline') === (tier === 'Baseline'))
      .filter(({ spec }) => isSubject(spec.subject, home, pod.metadata.labels ?? {}))
      .sort((a, b) => a.spec.priority - b.spec.priority || (a.metadata.name < b.metadata.name ? -1 : 1));
    for (const policy of policies) {
      for (const rule of rulesOf(policy, way)) {
        for (const link of all) {
          const key = `${link.other} ${link.protocol} ${link.dport}`;
          if (said.has(key)) continue;
          const action = this.#says(rule, way, link);
          if (action) said.set(key, action);
        }
      }
    }
    return said;
  }

  #says({ action, peers, protocols }: TierRule, way: Way, link: LinkParts): string | undefined {
    const who = peers.map((peer) => this.#isTierPeer(peer, action, way, link.other));
    const what = protocols?.map((protocol) => this.#isProtocol(protocol, way, link)) ?? ['yes'];
    const known = ['Accept', 'Deny', 'Pass'].includes(action) && who.length > 0 && !who.includes('unclear');
    // "For Accept rules, fail closed means: treat the rule as matching no traffic. For Deny and Pass rules …: Deny all."
    if (!known || what.includes('unclear')) return action === 'Accept' ? undefined : 'Deny';
    return who.includes('yes') && what.includes('yes') ? action : undefined;
  }

  #isTierPeer(peer: ClusterNetworkPolicyPeer, action: string, way: Way, address: string): Answer {
    const fields = Object.keys(peer);
    const { namespaces, pods, nodes, networks, domainNames } = peer;
    if (fields.length !== 1) return 'unclear';
    if (namespaces || pods) {
      const places = namespaces ?? pods?.namespaceSelector ?? {};
      const who = pods?.podSelector ?? {};
      if (chooses(places, {}) === 'unclear' || chooses(who, {}) === 'unclear') return 'unclear';
      const pod = this.#only(address);
      const labels = pod && this.#namespaces.get(pod.metadata.namespace);
      if (!pod || !labels) return 'no';
      return both(chooses(places, labels), chooses(who, pod.metadata.labels ?? {}));
    }
    if (way === 'in') return 'unclear';
    if (nodes) return this.#isNode(nodes, address);
    if (domainNames?.length) return this.#isNamed(domainNames, action, address);
    if (!networks?.length || !networks.every(isNetwork)) return 'unclear';
    return networks.some((network) => isInside(network, address)) ? 'yes' : 'no';
  }

  #isNode(selector: LabelSelector, address: string): Answer {
    if (chooses(selector, {}) === 'unclear') return 'unclear';
    if (this.#holders.has(address)) return 'no';
    const nodes = [...(this.#state.nodes ?? [])].filter(({ status }) =>
      status?.addresses?.some((each) => each.address === address),
    );
    return nodes.some(({ metadata }) => chooses(selector, metadata.labels ?? {}) === 'yes') ? 'yes' : 'no';
  }

  #isNamed(patterns: readonly string[], action: string, address: string): Answer {
    if (action !== 'Accept' || patterns.some((pattern) => !/^(\*\.)?[^*.]+(\.[^*.]+)+\.?$/.test(pattern)))
      return 'unclear';
    const holders = this.#holders.get(address) ?? [];
    if (holders.length > 1 || !holders.every(({ metadata }) => this.#namespaces.has(metadata.namespace))) return 'no';
    const names = this.#state.domainNames?.get(address) ?? [];
    const expressions = patterns.map((pattern) => {
      const text = pattern.replace(/\.$/, '').replaceAll('.', '\\.');
      return new RegExp(`^${text.startsWith('*') ? `([^.]+\\.)+${text.slice(3)}` : text}$`, 'i');
    });
    return names.some((name) => expressions.some((expression) => expression.test(name))) ? 'yes' : 'no';
  }

  #isProtocol(protocol: ClusterNetworkPolicyProtocol, way: Way, link: LinkParts): Answer {
    const fields = Object.entries(protocol);
    if (fields.length !== 1) return 'unclear';
    if (protocol.destinationNamedPort) return this.#named(protocol.destinationNamedPort, way, link) ? 'yes' : 'no';
    const [kind, details] = fields[0] as [
      string,
      { destinationPort?: { number?: number; range?: { start: number; end: number } } },
    ];
    const { number, range } = details.destinationPort ?? {};
    if (number === undefined && !range) return 'unclear';
    const [from, to] = range ? [range.start, range.end] : [number!, number!];
    return link.protocol === kind.toUpperCase() && from <= link.dport && link.dport <= to ? 'yes' : 'no';
  }
}

interface LinkParts {
  readonly other: string;
  readonly protocol: string;
  readonly dport: number;
  /** The pod where the connection ends, when it is one pod. */
  readonly receiver: Pod | undefined;
}

interface TierRule {
  readonly action: string;
  readonly peers: readonly ClusterNetworkPolicyPeer[];
  readonly protocols: readonly ClusterNetworkPolicyProtocol[] | undefined;
}

function rulesOf({ spec }: ClusterNetworkPolicy, way: Way): TierRule[] {
  return way === 'in'
    ? (spec.ingress ?? []).map(({ action, from, protocols }) => ({ action, peers: from ?? [], protocols }))
    : (spec.egress ?? []).map(({ action, to, protocols }) => ({ action, peers: to ?? [], protocols }));
}

/** An unclear subject might be any pod. */
function isSubject(subject: ClusterNetworkPolicySubject, namespace: Labels, labels: Labels): boolean {
  const { namespaces, pods } = subject;
  if (Object.keys(subject).length !== 1) return true;
  if (namespaces) return chooses(namespaces, namespace) !== 'no';
  if (!pods) return true;
  return chooses(pods.namespaceSelector ?? {}, namespace) !== 'no' && chooses(pods.podSelector, labels) !== 'no';
}

/** "podSelector selects the pods to which this NetworkPolicy object applies", in its own namespace. */
function isolatesPod({ metadata, spec }: NetworkPolicy, pod: Pod, way: Way): boolean {
  if (metadata.namespace !== pod.metadata.namespace) return false;
  if (chooses(spec.podSelector ?? {}, pod.metadata.labels ?? {}) === 'no') return false;
  const types = spec.policyTypes ?? [];
  if (types.length === 0) return way === 'in' || (spec.egress?.length ?? 0) > 0;
  return types.some((type) => type === (way === 'in' ? 'Ingress' : 'Egress') || !['Ingress', 'Egress'].includes(type));
}

type Answer = 'yes' | 'no' | 'unclear';

function both(a: Answer, b: Answer): Answer {
  return a === 'yes' && b === 'yes' ? 'yes' : 'no';
}

/** All requirements of a label selector are ANDed; an empty one selects everything. */
function chooses({ matchLabels = {}, matchExpressions = [] }: LabelSelector, labels: Labels): Answer {
  const wanted = [
    ...Object.entries(matchLabels).map(([key, value]) => ({ key, operator: 'In', values: [value] })),
    ...matchExpressions,
  ];
  const answers = wanted.map(({ key, operator, values = [] }): Answer => {
    const value = labels[key];
    switch (operator) {
      case 'In':
        return values.length === 0 ? 'unclear' : value !== undefined && values.includes(value) ? 'yes' : 'no';
      case 'NotIn':
        return values.length === 0 ? 'unclear' : value === undefined || !values.includes(value) ? 'yes' : 'no';
      case 'Exists':
        return value === undefined ? 'no' : 'yes';
      case 'DoesNotExist':
        return value === undefined ? 'yes' : 'no';
      default:
        return 'unclear';
    }
  });
  if (answers.includes('unclear')) return 'unclear';
  return answers.includes('no') ? 'no' : 'yes';
}

function parts(cidr: string): { address: string; prefix: number; type: 'ipv4' | 'ipv6' } {
  const [address = '', prefix] = cidr.split('/');
  return { address, prefix: Number(prefix), type: isIP(address) === 6 ? 'ipv6' : 'ipv4' };
}

function isNetwork(text: string): boolean {
  const { address, prefix, type } = parts(text);
  return isIP(address) !== 0 && Number.isInteger(prefix) && prefix >= 0 && prefix <= (type === 'ipv4' ? 32 : 128);
}

/** By Node's own BlockList, which shares nothing with src/base/ip.ts. */
function isInside(cidr: string, address: string): boolean {
  const { address: first, prefix, type } = parts(cidr);
  if (isIP(first) !== isIP(address)) return false;
  const list = new BlockList();
  list.addSubnet(first, prefix, type);
  return list.check(address, type);
}
