/**
 * Passes a packet through the rendered elements as the kernel's forward chain would, lookup by lookup: for tests over
 * thousands of states, and to tell what a node would do without asking its kernel. The chains are those of render.ts.
 */
import { ipToBigInt, parseIp } from '../../base/ip.ts';
import { everyone } from './classes.ts';
import type { Direction } from './compile.ts';
import { denyBit, type Elements, familyOfAddress, tierCodes } from './elements.ts';
import type { TierVerdict } from './tier-ports.ts';

export interface SimulatedPacket {
  readonly saddr: string;
  readonly daddr: string;
  /** The number of the transport protocol: 6, 17, 132, 1 … */
  readonly l4proto: number;
  /** What stands where TCP, UDP and SCTP have the destination port. */
  readonly dport: number;
}

export type SimulatedVerdict = 'accept' | { readonly drop: Direction };

/** One node's forward chain, for the first packet of a connection. */
export function simulate(elements: Elements, packet: SimulatedPacket): SimulatedVerdict {
  const saddr = parseIp(packet.saddr);
  const daddr = parseIp(packet.daddr);
  const family = familyOfAddress(saddr);
  if (elements.get(`self${family}`, `${saddr} . ${daddr}`) !== undefined) return 'accept';
  if (!side(elements, 'egress', saddr, daddr, packet)) return { drop: 'egress' };
  if (!side(elements, 'ingress', daddr, saddr, packet)) return { drop: 'ingress' };
  return 'accept';
}

/** The tiers in their order; whether the packet passes. */
function side(elements: Elements, direction: Direction, own: string, peer: string, packet: SimulatedPacket): boolean {
  const place = `${direction}${familyOfAddress(own)}`;
  const admin = tierVerdict(elements, elements.get(`admin_${place}`, own), direction, peer, packet);
  if (admin !== 'pass') return admin === 'accept';
  const policies = elements.get(place, own);
  if (policies !== undefined) return allows(elements, direction, policies, peer, packet);
  return tierVerdict(elements, elements.get(`baseline_${place}`, own), direction, peer, packet) !== 'deny';
}

function tierVerdict(
  elements: Elements,
  tierClass: string | undefined,
  direction: Direction,
  peer: string,
  { l4proto, dport }: SimulatedPacket,
): TierVerdict {
  if (tierClass === undefined) return 'pass';
  const family = familyOfAddress(peer);
  const identity = elements.get(`identity${family}`, peer) ?? '0';
  const exact = (set: string, ...fields: (string | number)[]) =>
    elements.get(`tier_${direction}_${set}`, [tierClass, ...fields].join(' . '));
  const ranged = (set: string, ...fields: (string | number)[]) =>
    [...elements.entries(`tier_${direction}_${set}`)].find(([key]) => inRanges(key, [tierClass, ...fields]))?.[1];
  const found =
    exact('port', identity, l4proto, dport) ??
    ranged('range', identity, l4proto, dport) ??
    exact('protocol', identity, l4proto) ??
    exact('any', identity) ??
    (identity === '0' && direction === 'egress'
      ? (ranged(`blockport${family}`, peer, l4proto, dport) ?? ranged(`block${family}`, peer))
      : undefined);
  if (Number(found) >= denyBit) return 'deny';
  return found === String(tierCodes.accept) ? 'accept' : 'pass';
}

function allows(
  elements: Elements,
  direction: Direction,
  policyClass: string,
  peer: string,
  { l4proto, dport }: SimulatedPacket,
): boolean {
  const family = familyOfAddress(peer);
  const identity = elements.get(`identity${family}`, peer) ?? '0';
  const exact = (set: string, ...fields: (string | number)[]) =>
    elements.get(`${direction}_${set}`, [policyClass, ...fields].join(' . ')) !== undefined;
  const ranged = (set: string, ...fields: (string | number)[]) =>
    [...elements.entries(`${direction}_${set}`).keys()].some((key) => inRanges(key, [policyClass, ...fields]));
  for (const who of [identity, String(everyone)]) {
    if (exact('any', who) || exact('protocol', who, l4proto) || exact('port', who, l4proto, dport)) return true;
    if (ranged('range', who, l4proto, dport)) return true;
  }
  if (direction === 'egress' && exact(`podport${family}`, peer, l4proto, dport)) return true;
  return ranged(`block${family}`, peer) || ranged(`blockport${family}`, peer, l4proto, dport);
}

function inRanges(key: string, fields: readonly (string | number)[]): boolean {
  return key.split(' . ').every((part, i) => {
    const field = String(fields[i]);
    const [from, to] = part.split('-') as [string, string | undefined];
    if (to === undefined) return part === field;
    return numberOf(from) <= numberOf(field) && numberOf(field) <= numberOf(to);
  });
}

function numberOf(text: string): bigint {
  return /^\d+$/.test(text) ? BigInt(text) : ipToBigInt(text);
}
