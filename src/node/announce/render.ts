/**
 * From the model and the nodes that live: which addresses this node answers for, as its own or in the place of a node whose
 * agent is away. Pure; equal input, equal output, on every node alike.
 *
 * Rendezvous hashing (Thaler and Ravishankar 1998): each node has a weight for each address, the heaviest answers. When a
 * node goes, only its own addresses move, spread over the others; when it returns, the same ones come back.
 */
import type { IpAddress } from '../../base/ip.ts';
import type { AnnouncedAddress } from './model.ts';
import type { Presence } from './peers.ts';

/** The node that answers for an address; undefined when none may. */
export function electNode({ address, nodes }: AnnouncedAddress, live: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestWeight = -1;
  for (const node of live) {
    if (nodes && !nodes.has(node)) continue;
    const weight = weightOf(address, node);
    if (weight > bestWeight || (weight === bestWeight && node < best!)) {
      best = node;
      bestWeight = weight;
    }
  }
  return best;
}

/** What one node has to answer for. */
export interface Duties {
  /** The addresses that fall to it, sorted. */
  readonly own: readonly IpAddress[];
  /** Addresses of nodes whose agents are silent, each with the MAC of its node. */
  readonly standIn: ReadonlyMap<IpAddress, string>;
}

export const NO_DUTIES: Duties = { own: [], standIn: new Map() };

/** `living` are the nodes that live. An address of one that does not speak is spoken for by the heaviest that does. */
export function renderDuties(
  addresses: ReadonlyMap<IpAddress, AnnouncedAddress>,
  living: ReadonlyMap<string, Presence>,
  self: string,
): Duties {
  if (!living.has(self)) return NO_DUTIES;
  const own: IpAddress[] = [];
  const standIn = new Map<IpAddress, string>();
  const names = [...living.keys()];
  const speakers = names.filter((name) => living.get(name)!.speaks);
  for (const one of addresses.values()) {
    const node = electNode(one, names);
    if (node === self) own.push(one.address);
    const mac = node === undefined ? undefined : living.get(node)?.mac;
    if (mac && electNode({ ...one, nodes: undefined }, speakers) === self) standIn.set(one.address, mac);
  }
  return { own: own.sort(), standIn };
}

/** FNV-1a over both names, then mixed so that every bit of the input moves every bit of the weight (0 to 2^32 - 1). */
function weightOf(address: string, node: string): number {
  let hash = 0x811c9dc5;
  const text = `${address} ${node}`;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
