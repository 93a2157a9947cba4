/**
 * Classes: one for each distinct set of policies that isolates a local pod in a direction. All pods of a class share its
 * elements, so that a thousand pods under one policy cost as much as one.
 */
import type { Family } from '../../base/ip.ts';
import type { Block } from './blocks.ts';
import { type BlockGrant, boxesOf, formatAddressRange } from './blocks.ts';
import type { CompiledPolicy, CompiledRule, Direction, PodPeers } from './compile.ts';
import { formatClass } from './elements.ts';
import type { Identity, PeerGroup } from './peers.ts';
import type { NamedPort, PodFacts } from './pod-facts.ts';
import {
  lastPort,
  noPorts,
  type PortName,
  type PortRange,
  type PortSet,
  portSet,
  protocols,
  unionPorts,
} from './ports.ts';
import type { SetName } from './sets.ts';

/** The identity of rules without peers: whoever it is, pod or not. No pod ever has this number. */
export const everyone = 1;
/** The class without any element: nothing is allowed. For addresses of which it is not known whose they are. */
export const isolated = 1;

/** "Every pod of every namespace": the pods that can have a named port. */
export const allPods: PodPeers = { kind: 'pods', key: 'all', namespaces: { selector: [] }, podSelector: [] };

export interface Grant {
  readonly ports: PortSet;
  /** Names to be resolved on the peer: egress only. */
  readonly names: readonly PortName[];
}

export interface PolicyClass {
  readonly key: string;
  readonly number: number;
  readonly direction: Direction;
  readonly policies: readonly string[];
  /** Ingress: the named ports of its pods, those that its policies use. */
  readonly namedPorts: readonly NamedPort[];
  /** Local pods in it; 0 when it is about to go. */
  refs: number;
  grants: Map<PeerGroup, Grant>;
  /** What each identity may do, as written to the elements. */
  readonly pairs: Map<Identity, PortSet>;
  /** Elements that depend on no pod: by "set key". */
  fixed: Map<string, { set: SetName; key: string }>;
  /** Egress: named ports on pods inside address blocks. */
  namedBlocks: readonly { readonly block: Block; readonly names: readonly PortName[] }[];
}

/** What the rules of a class say, by kind of peer. */
export interface ClassContent {
  readonly pods: ReadonlyMap<string, { readonly peers: PodPeers; readonly grant: Grant }>;
  readonly everyone: PortSet;
  readonly blocks: readonly BlockGrant[];
  readonly namedBlocks: PolicyClass['namedBlocks'];
}

function resolve(names: readonly PortName[], ports: readonly NamedPort[]): PortSet {
  const ranges = names.flatMap(({ name, protocol }) =>
    ports
      .filter((port) => port.name === name && port.protocol === protocol)
      .map(({ port }): PortRange => ({ protocol, from: port, to: port })),
  );
  return portSet(ranges);
}

/** What a grant gives to a peer with these named ports. */
export function grantedPorts(grant: Grant, ports: readonly NamedPort[]): PortSet {
  return grant.names.length ? unionPorts([grant.ports, resolve(grant.names, ports)]) : grant.ports;
}

/** The named ports of a pod that the policies' ingress rules use: all that tells apart pods of the same policies. */
export function usedNamedPorts(facts: PodFacts, policies: readonly CompiledPolicy[]): readonly NamedPort[] {
  if (facts.namedPorts.length === 0) return [];
  const used = new Set<string>();
  for (const policy of policies) {
    for (const rule of policy.ingress ?? [])
      for (const { name, protocol } of rule.names) used.add(`${protocol} ${name}`);
  }
  return facts.namedPorts.filter(({ name, protocol }) => used.has(`${protocol} ${name}`));
}

export function classKey(direction: Direction, policies: readonly string[], ports: readonly NamedPort[]): string {
  return JSON.stringify([direction, policies, ports.map(({ name, protocol, port }) => [name, protocol, port])]);
}

export function classContent(
  direction: Direction,
  rules: Iterable<CompiledRule>,
  namedPorts: readonly NamedPort[],
): ClassContent {
  const pods = new Map<string, { peers: PodPeers; sets: PortSet[]; names: PortName[] }>();
  const addPods = (peers: PodPeers, ports: PortSet, names: readonly PortName[]) => {
    const entry = pods.get(peers.key) ?? { peers, sets: [], names: [] };
    entry.sets.push(ports);
    entry.names.push(...names);
    pods.set(peers.key, entry);
  };
  const all: PortSet[] = [];
  const blocks: BlockGrant[] = [];
  const namedBlocks: { block: Block; names: readonly PortName[] }[] = [];
  for (const rule of rules) {
    const own = direction === 'ingress';
    const ports = own ? unionPorts([rule.ports, resolve(rule.names, namedPorts)]) : rule.ports;
    const names = own ? [] : rule.names;
    for (const peer of rule.peers) {
      if (peer.kind === 'pods') addPods(peer, ports, names);
      else if (peer.kind === 'block') {
        blocks.push({ block: peer.block, ports });
        if (names.length) namedBlocks.push({ block: peer.block, names });
      } else {
        all.push(ports);
        if (names.length) addPods(allPods, noPorts, names);
      }
    }
  }
  const grants = [...pods].map(([key, { peers, sets, names }]) => {
    const grant: Grant = { ports: unionPorts(sets), names: distinctNames(names) };
    return [key, { peers, grant }] as const;
  });
  return { pods: new Map(grants), everyone: unionPorts(all), blocks, namedBlocks };
}

function distinctNames(names: readonly PortName[]): PortName[] {
  return [...new Map(names.map((name) => [`${name.protocol} ${name.name}`, name])).values()];
}

export function sameGrant(a: Grant, b: Grant): boolean {
  const text = ({ names }: Grant) =>
    names
      .map(({ protocol, name }) => `${protocol} ${name}`)
      .sort()
      .join();
  return a.ports.key === b.ports.key && text(a) === text(b);
}

/** The elements that let an identity do what the ports say. */
export function pairElements(
  { direction, number }: Pick<PolicyClass, 'direction' | 'number'>,
  identity: number,
  ports: PortSet,
): { set: SetName; key: string }[] {
  const peer = `${formatClass(number)} . ${identity}`;
  if (ports.any) return [{ set: `${direction}_any`, key: peer }];
  return ports.ranges.map(({ protocol, from, to }) => {
    if (from === 0 && to === lastPort) return { set: `${direction}_protocol`, key: `${peer} . ${protocols[protocol]}` };
    if (from === to) return { set: `${direction}_port`, key: `${peer} . ${protocols[protocol]} . ${from}` };
    return { set: `${direction}_range`, key: `${peer} . ${protocols[protocol]} . ${from}-${to}` };
  });
}

/** The elements of a class that depend on no pod: rules without peers, and address blocks. */
export function fixedElements(
  policyClass: Pick<PolicyClass, 'direction' | 'number'>,
  content: Pick<ClassContent, 'everyone' | 'blocks'>,
): { set: SetName; key: string }[] {
  const result = pairElements(policyClass, everyone, content.everyone);
  const prefix = formatClass(policyClass.number);
  for (const family of [4, 6] as const satisfies readonly Family[]) {
    for (const { range, ports } of boxesOf(content.blocks, family)) {
      const addresses = `${prefix} . ${formatAddressRange(family, range)}`;
      if (ports.any) result.push({ set: `${policyClass.direction}_block${family}`, key: addresses });
      for (const port of ports.ranges) {
        const text = port.from === port.to ? port.from : `${port.from}-${port.to}`;
        const key = `${addresses} . ${protocols[port.protocol]} . ${text}`;
        result.push({ set: `${policyClass.direction}_blockport${family}`, key });
      }
    }
  }
  return result;
}
