/**
 * Classes of ClusterNetworkPolicies: one for each distinct list of policies of a tier that a local pod is a subject of, in a
 * direction. Within a class the ordered rules come to one verdict for each identity, protocol and port, so a packet asks a
 * few maps once, however many policies and priorities there are.
 */
import type { Family } from '../../base/ip.ts';
import { cidrSize, ipToBigInt } from '../../base/ip.ts';
import { formatAddressRange } from './blocks.ts';
import type { Direction } from './compile.ts';
import type { CompiledClusterPolicy, Tier, TierRule } from './compile-cluster.ts';
import { denyMark, formatClass, tierCodes } from './elements.ts';
import type { Identity, PeerGroup } from './peers.ts';
import type { NamedPort } from './pod-facts.ts';
import { lastPort, type PortRange, portSet, protocols, unionPorts } from './ports.ts';
import { type OrderedPorts, passAll, resolveOrder, type TierDecision, type TierPorts } from './tier-ports.ts';

export interface TierClass {
  readonly key: string;
  readonly number: number;
  readonly tier: Tier;
  readonly direction: Direction;
  /** Names, in the order in which they are asked. */
  readonly policies: readonly string[];
  /** Ingress: the named ports of its pods, those that its rules use. */
  readonly namedPorts: readonly NamedPort[];
  /** Local pods in it; 0 when it is about to go. */
  refs: number;
  rules: readonly GroupedRule[];
  readonly pairs: Map<Identity, TierPorts>;
  fixed: Map<string, TierElement>;
}

/** A rule with the groups of its peers, and with who denies when it does. */
export interface GroupedRule {
  readonly rule: TierRule;
  readonly decision: TierDecision;
  readonly groups: readonly PeerGroup[];
  readonly everyone: boolean;
}

export interface TierElement {
  readonly set: string;
  readonly key: string;
  readonly value: string;
}

export function tierClassKey(
  tier: Tier,
  direction: Direction,
  policies: readonly string[],
  ports: readonly NamedPort[],
): string {
  return JSON.stringify([tier, direction, policies, ports.map(({ name, protocol, port }) => [name, protocol, port])]);
}

/** The named ports of a pod that the rules of its policies use. */
export function namedPortsUsed(
  ports: readonly NamedPort[],
  policies: readonly CompiledClusterPolicy[],
): readonly NamedPort[] {
  if (ports.length === 0) return [];
  const used = new Set(
    policies.flatMap(({ ingress }) => ingress.flatMap(({ names }) => names.map((each) => each.name))),
  );
  return ports.filter(({ name }) => used.has(name));
}

function portsOf({ rule, decision: verdict }: GroupedRule, named: readonly NamedPort[]): OrderedPorts {
  const { ports, names } = rule;
  if (names.length === 0) return { ports, verdict };
  const ranges = names.flatMap(({ name, protocol }) =>
    named
      .filter((port) => port.name === name && port.protocol === protocol)
      .map(({ port }): PortRange => ({ protocol, from: port, to: port })),
  );
  return { ports: unionPorts([ports, portSet(ranges)]), verdict };
}

/** What the class does to packets from or to a pod of the identity. */
export function tierVerdicts({ rules, direction, namedPorts }: TierClass, identity: Identity): TierPorts {
  const named = direction === 'ingress' ? namedPorts : identity.namedPorts;
  const met = rules.filter(({ everyone, groups }) => everyone || groups.some(({ members }) => members.has(identity)));
  return met.length ? resolveOrder(met.map((each) => portsOf(each, named))) : passAll;
}

export function pairElements(each: TierClass, identity: number, ports: TierPorts): TierElement[] {
  const prefix = `tier_${each.direction}`;
  const pair = `${formatClass(each.number)} . ${identity}`;
  const elements: TierElement[] = [];
  if (ports.rest !== 'pass') elements.push({ set: `${prefix}_any`, key: pair, value: code(ports.rest) });
  for (const { protocol, from, to, verdict } of ports.exceptions) {
    const head = `${pair} . ${protocols[protocol]}`;
    const value = code(verdict);
    if (from === 0 && to === lastPort) elements.push({ set: `${prefix}_protocol`, key: head, value });
    else if (from === to) elements.push({ set: `${prefix}_port`, key: `${head} . ${from}`, value });
    else elements.push({ set: `${prefix}_range`, key: `${head} . ${from}-${to}`, value });
  }
  return elements;
}

function code(decision: TierDecision): string {
  if (decision === 'accept' || decision === 'pass') return String(tierCodes[decision]);
  return String(denyMark(Number(decision.slice('deny '.length))));
}

/** What holds for addresses that are no pod's that is known: identity 0 as a sender, networks as destinations. */
export function fixedTierElements(each: TierClass): TierElement[] {
  if (each.direction === 'ingress') {
    const met = each.rules.filter(({ everyone }) => everyone);
    return pairElements(each, 0, resolveOrder(met.map((rule) => portsOf(rule, each.namedPorts))));
  }
  return ([4, 6] as const).flatMap((family) => blockElements(each, family));
}

interface Stretch {
  readonly from: bigint;
  readonly to: bigint;
}

function stretchesOf({ rule, everyone }: GroupedRule, family: Family): Stretch[] {
  if (everyone) return [{ from: 0n, to: (1n << (family === 4 ? 32n : 128n)) - 1n }];
  return rule.peers.flatMap((peer) => {
    if (peer.kind !== 'network' || peer.cidr.family !== family) return [];
    const from = ipToBigInt(peer.cidr.address);
    return [{ from, to: from + cidrSize(peer.cidr) - 1n }];
  });
}

function blockElements(each: TierClass, family: Family): TierElement[] {
  const rules = each.rules.map((grouped) => ({ grouped, stretches: stretchesOf(grouped, family) }));
  const edges = new Set(rules.flatMap(({ stretches }) => stretches.flatMap(({ from, to }) => [from, to + 1n])));
  const sorted = [...edges].sort((a, b) => (a < b ? -1 : 1));
  const boxes: (Stretch & { ports: TierPorts })[] = [];
  sorted.slice(0, -1).forEach((from, i) => {
    const to = sorted[i + 1]! - 1n;
    const met = rules.filter(({ stretches }) => stretches.some((one) => one.from <= from && to <= one.to));
    const ports = resolveOrder(met.map(({ grouped }) => portsOf(grouped, [])));
    const last = boxes.at(-1);
    if (last && last.to + 1n === from && last.ports.key === ports.key) boxes[boxes.length - 1] = { ...last, to };
    else if (ports.key) boxes.push({ from, to, ports });
  });
  return boxes.flatMap((box) => boxElements(each, family, box));
}

function boxElements(
  each: TierClass,
  family: Family,
  { from, to, ports }: Stretch & { ports: TierPorts },
): TierElement[] {
  const addresses = `${formatClass(each.number)} . ${formatAddressRange(family, { from, to })}`;
  const rest =
    ports.rest === 'pass' ? [] : [{ set: `tier_egress_block${family}`, key: addresses, value: code(ports.rest) }];
  const exceptions = ports.exceptions.map((port) => {
    const numbers = port.from === port.to ? port.from : `${port.from}-${port.to}`;
    const key = `${addresses} . ${protocols[port.protocol]} . ${numbers}`;
    return { set: `tier_egress_blockport${family}`, key, value: code(port.verdict) };
  });
  return [...rest, ...exceptions];
}
