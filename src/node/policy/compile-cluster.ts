/**
 * One ClusterNetworkPolicy as the engine wants it. What is not understood is a `Problem` and fails closed as the API demands:
 * such an Accept rule matches nothing, such a Deny or Pass rule denies everything, such a subject is every pod, and a tier
 * that nobody knows is asked first.
 */
import { formatCidr, parseCidr } from '../../base/ip.ts';
import type {
  ClusterNetworkPolicyPeer,
  ClusterNetworkPolicyProtocol,
  ClusterNetworkPolicyRule,
} from '../../kube/cluster-network-policy.ts';
import { fromLabelSelector, type Labels, matches, type Selector } from '../../kube/selectors.ts';
import type { ClusterNetworkPolicy, LabelSelector } from '../../kube/types.ts';
import { type AddressPeer, canonicalName } from './address-peers.ts';
import type { Direction, PodPeers, Problem } from './compile.ts';
import { anyPorts, lastPort, type PortName, type PortRange, type PortSet, portSet, protocols } from './ports.ts';
import type { TierVerdict } from './tier-ports.ts';

export type Tier = 'admin' | 'baseline';
export const tiers = ['admin', 'baseline'] as const satisfies readonly Tier[];

export type TierPeer = PodPeers | AddressPeer | { readonly kind: 'everyone' };

export interface TierRule {
  readonly verdict: TierVerdict;
  readonly peers: readonly TierPeer[];
  readonly ports: PortSet;
  /** Named ports, resolved on the receiving pod in each protocol in which it has the name. */
  readonly names: readonly PortName[];
}

export interface CompiledClusterPolicy {
  readonly name: string;
  readonly tier: Tier;
  readonly priority: number;
  readonly subject: { readonly namespaces: Selector; readonly pods: Selector };
  readonly ingress: readonly TierRule[];
  readonly egress: readonly TierRule[];
  readonly problems: readonly Problem[];
}

/** In the order in which they are asked. Of equal priorities the name decides, so that all nodes agree. */
export function inOrder(a: CompiledClusterPolicy, b: CompiledClusterPolicy): number {
  return a.priority - b.priority || (a.name < b.name ? -1 : 1);
}

export function selectsPod(policy: CompiledClusterPolicy, namespaceLabels: Labels, labels: Labels): boolean {
  return matches(policy.subject.namespaces, namespaceLabels) && matches(policy.subject.pods, labels);
}

export function compileClusterPolicy({ metadata, spec }: ClusterNetworkPolicy): CompiledClusterPolicy {
  const compiler = new Compiler();
  const rules = (direction: Direction): TierRule[] =>
    direction === 'ingress'
      ? (spec.ingress ?? []).map((rule, i) => compiler.rule(rule, rule.from, direction, i))
      : (spec.egress ?? []).map((rule, i) => compiler.rule(rule, rule.to, direction, i));
  return {
    name: metadata.name,
    tier: compiler.tier(spec.tier),
    priority: spec.priority,
    subject: compiler.subject(spec.subject),
    ingress: rules('ingress').filter(({ peers }) => peers.length > 0),
    egress: rules('egress').filter(({ peers }) => peers.length > 0),
    problems: compiler.problems,
  };
}

/** As the API's own pattern: two labels at least, a wildcard in front only. */
const domainPattern = /^(\*\.)?([a-z0-9]([-a-z0-9_]*[a-z0-9])?\.)+[a-z0-9]([-a-z0-9_]*[a-z0-9])?\.?$/i;

const everything: TierRule = { verdict: 'deny', peers: [{ kind: 'everyone' }], ports: anyPorts, names: [] };
const nothing: TierRule = { verdict: 'accept', peers: [], ports: anyPorts, names: [] };
const verdicts: ReadonlyMap<string, TierVerdict> = new Map([
  ['Accept', 'accept'],
  ['Deny', 'deny'],
  ['Pass', 'pass'],
]);

class Compiler {
  readonly problems: Problem[] = [];

  #refuse(field: string, message: string): undefined {
    this.problems.push({ field, message });
    return undefined;
  }

  tier(text: string): Tier {
    if (text === 'Baseline') return 'baseline';
    if (text !== 'Admin') this.#refuse('spec.tier', `unknown tier ${JSON.stringify(text)}`);
    return 'admin';
  }

  subject(subject: ClusterNetworkPolicy['spec']['subject'] | undefined): CompiledClusterPolicy['subject'] {
    const fields = Object.keys(subject ?? {});
    const { namespaces, pods } = subject ?? {};
    if (fields.length === 1 && namespaces) {
      return { namespaces: this.#selector(namespaces, 'spec.subject.namespaces') ?? [], pods: [] };
    }
    if (fields.length === 1 && pods) {
      return {
        namespaces: this.#selector(pods.namespaceSelector, 'spec.subject.pods.namespaceSelector') ?? [],
        pods: this.#selector(pods.podSelector, 'spec.subject.pods.podSelector') ?? [],
      };
    }
    this.#refuse('spec.subject', `must be namespaces or pods, not ${fields.join(' and ') || 'empty'}`);
    return { namespaces: [], pods: [] };
  }

  #selector(selector: LabelSelector | undefined, field: string): Selector | undefined {
    try {
      const parsed = fromLabelSelector(selector ?? {});
      const empty = parsed.some(
        (each) => (each.operator === 'In' || each.operator === 'NotIn') && each.values.length === 0,
      );
      return empty ? this.#refuse(field, 'operators In and NotIn need values') : parsed;
    } catch (error) {
      return this.#refuse(field, error instanceof Error ? error.message : String(error));
    }
  }

  rule(
    rule: ClusterNetworkPolicyRule,
    peers: readonly ClusterNetworkPolicyPeer[] | undefined,
    direction: Direction,
    index: number,
  ): TierRule {
    const field = `spec.${direction}[${index}]`;
    const word = direction === 'ingress' ? 'from' : 'to';
    const before = this.problems.length;
    const verdict = verdicts.get(rule.action) ?? this.#refuse(`${field}.action`, `unknown action ${rule.action}`);
    if (!peers?.length) this.#refuse(`${field}.${word}`, 'must have a peer');
    const compiled = (peers ?? []).flatMap((peer, i) =>
      this.#peer(peer, rule.action, direction, `${field}.${word}[${i}]`),
    );
    const ranges: PortRange[] = [];
    const names: PortName[] = [];
    (rule.protocols ?? []).forEach((protocol, i) => {
      this.#port(protocol, `${field}.protocols[${i}]`, ranges, names);
    });
    if (!verdict || this.problems.length > before) return rule.action === 'Accept' ? nothing : everything;
    return { verdict, peers: compiled, ports: rule.protocols?.length ? portSet(ranges) : anyPorts, names };
  }

  #peer(peer: ClusterNetworkPolicyPeer, action: string, direction: Direction, field: string): TierPeer[] {
    const [kind, more] = Object.keys(peer);
    const { namespaces, pods, networks, nodes, domainNames } = peer;
    if (kind && !more) {
      if (namespaces) return this.#pods(namespaces, {}, `${field}.namespaces`);
      if (pods) return this.#pods(pods.namespaceSelector, pods.podSelector, `${field}.pods`);
      if (networks?.length && direction === 'egress') {
        return networks.flatMap((text, i) => this.#network(text, `${field}.networks[${i}]`));
      }
      if (nodes && direction === 'egress') return this.#nodes(nodes, `${field}.nodes`);
      if (domainNames?.length && direction === 'egress') {
        if (action !== 'Accept') this.#refuse(`${field}.domainNames`, 'is for rules that Accept only');
        return domainNames.flatMap((text, i) => this.#domain(text, `${field}.domainNames[${i}]`));
      }
    }
    this.#refuse(field, kind ? `this peer is not supported: ${Object.keys(peer).join(', ')}` : 'must have a peer');
    return [];
  }

  #pods(namespaceSelector: LabelSelector | undefined, podSelector: LabelSelector, field: string): TierPeer[] {
    const selector = this.#selector(namespaceSelector, field);
    const pods = this.#selector(podSelector, field);
    if (!selector || !pods) return [];
    const namespaces = { selector };
    return [{ kind: 'pods', key: JSON.stringify([namespaces, pods]), namespaces, podSelector: pods }];
  }

  #nodes(labels: LabelSelector, field: string): TierPeer[] {
    const selector = this.#selector(labels, field);
    return selector ? [{ kind: 'nodes', key: `nodes ${JSON.stringify(selector)}`, selector }] : [];
  }

  #domain(text: string, field: string): TierPeer[] {
    const pattern = canonicalName(text);
    if (domainPattern.test(text)) return [{ kind: 'domain', key: `name ${pattern}`, pattern }];
    this.#refuse(field, `must be a domain name, with "*." before it or without, not ${JSON.stringify(text)}`);
    return [];
  }

  #network(text: string, field: string): TierPeer[] {
    try {
      const cidr = parseCidr(text);
      return [{ kind: 'network', key: formatCidr(cidr), cidr }];
    } catch {
      this.#refuse(field, `must be a valid CIDR value, not ${JSON.stringify(text)}`);
      return [];
    }
  }

  #port(protocol: ClusterNetworkPolicyProtocol, field: string, ranges: PortRange[], names: PortName[]): void {
    const { destinationNamedPort: name } = protocol;
    const fields = Object.keys(protocol);
    const known = (['tcp', 'udp', 'sctp'] as const).find((each) => protocol[each]);
    if (fields.length === 1 && name) {
      for (const each of Object.keys(protocols) as (keyof typeof protocols)[]) names.push({ protocol: each, name });
      return;
    }
    const port = known && protocol[known]?.destinationPort;
    if (fields.length !== 1 || !known || !port) {
      this.#refuse(field, 'must be a port of tcp, udp or sctp, or the name of a port');
      return;
    }
    const { number, range } = port;
    const [from, to] = range ? [range.start, range.end] : [number, number];
    const valid = (range === undefined) !== (number === undefined) && isPort(from) && isPort(to) && from <= to;
    if (valid) ranges.push({ protocol: known, from, to });
    else this.#refuse(`${field}.${known}.destinationPort`, 'must be a number or a range, from 1 to 65535');
  }
}

function isPort(value: number | undefined): value is number {
  return Number.isInteger(value) && value! >= 1 && value! <= lastPort;
}
