/**
 * One NetworkPolicy as the engine wants it: defaults made explicit, selectors parsed, ports normalised. What cannot be
 * understood is a `Problem` and fails closed: a peer or port that is not understood grants nothing, a podSelector that is
 * not understood selects every pod of the namespace. The API server refuses such objects, but an engine must not depend
 * on who wrote them.
 */
import { type Cidr, cidrContains, formatCidr, parseCidr } from '../../base/ip.ts';
import { fromLabelSelector, type Selector } from '../../kube/selectors.ts';
import type { NetworkPolicy, networkingv1 } from '../../kube/types.ts';
import type { Block } from './blocks.ts';
import { anyPorts, lastPort, type PortName, type PortRange, type PortSet, portSet, protocolOf } from './ports.ts';

export type Direction = 'ingress' | 'egress';

/** Pods chosen by labels: in one namespace, or in those that a selector chooses. */
export interface PodPeers {
  readonly kind: 'pods';
  /** Equal for equal choices; the name under which all rules share one set of members. */
  readonly key: string;
  readonly namespaces: { readonly name: string } | { readonly selector: Selector };
  readonly podSelector: Selector;
}

export type Peer = { readonly kind: 'everyone' } | PodPeers | { readonly kind: 'block'; readonly block: Block };

export interface CompiledRule {
  readonly peers: readonly Peer[];
  /** What is granted by number. */
  readonly ports: PortSet;
  /** What is granted by name, resolved on the destination pod. */
  readonly names: readonly PortName[];
}

export interface Problem {
  /** As in "spec.ingress[0].from[1].ipBlock.cidr". */
  readonly field: string;
  readonly message: string;
}

export interface CompiledPolicy {
  /** "namespace/name". */
  readonly key: string;
  readonly namespace: string;
  readonly podSelector: Selector;
  /** Absent when the policy does not isolate in that direction. */
  readonly ingress: readonly CompiledRule[] | undefined;
  readonly egress: readonly CompiledRule[] | undefined;
  readonly problems: readonly Problem[];
}

type Spec = networkingv1.NetworkPolicySpec;

/**
 * The directions in which the policy isolates. Absent or empty policyTypes mean Ingress, and Egress too when there is an
 * egress rule (pkg/apis/networking/v1/defaults.go).
 */
export function policyTypesOf(spec: Spec): readonly Direction[] {
  const types = spec.policyTypes ?? [];
  if (types.length === 0) return spec.egress?.length ? ['ingress', 'egress'] : ['ingress'];
  return (['ingress', 'egress'] as const).filter((direction) => types.some((type) => type.toLowerCase() === direction));
}

export function compilePolicy(policy: NetworkPolicy): CompiledPolicy {
  const { namespace, name } = policy.metadata;
  const compiler = new Compiler(namespace);
  const { spec } = policy;
  const types = compiler.policyTypes(spec);
  const podSelector = compiler.selector(spec.podSelector ?? {}, 'spec.podSelector') ?? [];
  const rules = (direction: Direction) => {
    if (!types.includes(direction)) return undefined;
    return direction === 'ingress'
      ? (spec.ingress ?? []).map((rule, i) => compiler.rule(rule.from, rule.ports, `spec.ingress[${i}]`, 'from'))
      : (spec.egress ?? []).map((rule, i) => compiler.rule(rule.to, rule.ports, `spec.egress[${i}]`, 'to'));
  };
  const ingress = rules('ingress');
  const egress = rules('egress');
  return { key: `${namespace}/${name}`, namespace, podSelector, ingress, egress, problems: compiler.problems };
}

class Compiler {
  readonly problems: Problem[] = [];
  readonly #namespace: string;

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  #refuse(field: string, message: string): undefined {
    this.problems.push({ field, message });
    return undefined;
  }

  /** An unknown policy type may mean more isolation than is known here: both directions are isolated then. */
  policyTypes(spec: Spec): readonly Direction[] {
    const unknown = (spec.policyTypes ?? []).filter((type) => type !== 'Ingress' && type !== 'Egress');
    if (unknown.length === 0) return policyTypesOf(spec);
    this.#refuse('spec.policyTypes', `unknown policy type ${JSON.stringify(unknown[0])}`);
    return ['ingress', 'egress'];
  }

  selector(selector: networkingv1.NetworkPolicySpec['podSelector'], field: string): Selector | undefined {
    try {
      const parsed = fromLabelSelector(selector);
      for (const requirement of parsed) {
        const needsValues = requirement.operator === 'In' || requirement.operator === 'NotIn';
        if (needsValues && requirement.values.length === 0) {
          return this.#refuse(`${field}.matchExpressions`, `operator ${requirement.operator} needs values`);
        }
      }
      return parsed;
    } catch (error) {
      return this.#refuse(`${field}.matchExpressions`, error instanceof Error ? error.message : String(error));
    }
  }

  rule(
    peers: readonly networkingv1.NetworkPolicyPeer[] | undefined,
    ports: readonly networkingv1.NetworkPolicyPort[] | undefined,
    field: string,
    peersField: 'from' | 'to',
  ): CompiledRule {
    const compiled: Peer[] = peers?.length
      ? peers.map((peer, i) => this.#peer(peer, `${field}.${peersField}[${i}]`)).filter((peer) => peer !== undefined)
      : [{ kind: 'everyone' }];
    if (!ports?.length) return { peers: compiled, ports: anyPorts, names: [] };
    const ranges: PortRange[] = [];
    const names: PortName[] = [];
    ports.forEach((port, i) => {
      const parsed = this.#port(port, `${field}.ports[${i}]`);
      if (!parsed) return;
      if ('name' in parsed) names.push(parsed);
      else ranges.push(parsed);
    });
    return { peers: compiled, ports: portSet(ranges), names };
  }

  #peer(peer: networkingv1.NetworkPolicyPeer, field: string): Peer | undefined {
    const { ipBlock, podSelector, namespaceSelector } = peer;
    if (ipBlock) {
      if (podSelector || namespaceSelector) {
        return this.#refuse(field, 'may not specify both ipBlock and another peer');
      }
      return this.#block(ipBlock, `${field}.ipBlock`);
    }
    if (!podSelector && !namespaceSelector) return this.#refuse(field, 'must specify a peer');
    const pods = podSelector ? this.selector(podSelector, `${field}.podSelector`) : [];
    const spaces = namespaceSelector ? this.selector(namespaceSelector, `${field}.namespaceSelector`) : undefined;
    if (!pods || (namespaceSelector && !spaces)) return undefined;
    const namespaces = spaces ? { selector: spaces } : { name: this.#namespace };
    return { kind: 'pods', key: JSON.stringify([namespaces, pods]), namespaces, podSelector: pods };
  }

  #block(ipBlock: networkingv1.IPBlock, field: string): Peer | undefined {
    const cidr = this.#cidr(ipBlock.cidr, `${field}.cidr`);
    const except = (ipBlock.except ?? []).map((text, i) => this.#cidr(text, `${field}.except[${i}]`));
    // An exception that is not understood might have been any part of the block: nothing of it is granted.
    if (!cidr || except.includes(undefined)) return undefined;
    const holes = except.filter((hole) => hole !== undefined);
    holes.forEach((hole, i) => {
      if (!cidrContains(cidr, hole.address) || hole.prefix < cidr.prefix) {
        this.#refuse(`${field}.except[${i}]`, `${formatCidr(hole)} is not inside ${formatCidr(cidr)}`);
      }
    });
    return { kind: 'block', block: { cidr, except: holes } };
  }

  #cidr(text: string, field: string): Cidr | undefined {
    try {
      return parseCidr(text);
    } catch {
      return this.#refuse(field, `must be a valid CIDR value, not ${JSON.stringify(text)}`);
    }
  }

  #port(port: networkingv1.NetworkPolicyPort, field: string): PortRange | PortName | undefined {
    const protocol = protocolOf(port.protocol);
    if (!protocol) return this.#refuse(`${field}.protocol`, `unknown protocol ${JSON.stringify(port.protocol)}`);
    const { endPort } = port;
    if (port.port === undefined || port.port === null) {
      if (endPort !== undefined) return this.#refuse(`${field}.endPort`, 'may not be specified when `port` is not');
      return { protocol, from: 0, to: lastPort };
    }
    if (typeof port.port === 'string') {
      if (endPort !== undefined) return this.#refuse(`${field}.endPort`, 'may not be specified when `port` is a name');
      return { protocol, name: port.port };
    }
    const to = endPort ?? port.port;
    if (!isPort(port.port)) return this.#refuse(`${field}.port`, 'must be between 1 and 65535, inclusive');
    if (!isPort(to) || to < port.port)
      return this.#refuse(`${field}.endPort`, 'must be at least `port`, at most 65535');
    return { protocol, from: port.port, to };
  }
}

function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= lastPort;
}
