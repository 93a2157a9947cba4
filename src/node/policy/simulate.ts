/**
 * Passes a packet through the rendered elements as the kernel's forward chain would, lookup by lookup: for tests over
 * thousands of states, and to tell what a node would do without asking its kernel. The chains are those of render.ts.
 */
import { ipToBigInt, parseIp } from '../../base/ip.ts';
import { everyone } from './classes.ts';
import type { Direction } from './compile.ts';
import { type Elements, familyOfAddress } from './elements.ts';

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
  const egress = elements.get(`egress${family}`, saddr);
  if (egress !== undefined && !allows(elements, 'egress', egress, daddr, packet)) return { drop: 'egress' };
  const ingress = elements.get(`ingress${family}`, daddr);
  if (ingress !== undefined && !allows(elements, 'ingress', ingress, saddr, packet)) return { drop: 'ingress' };
  return 'accept';
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
