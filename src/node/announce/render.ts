/**
 * From the model and the nodes that live: which addresses this node answers for. Pure; equal input, equal output, on every
 * node alike.
 *
 * Rendezvous hashing (Thaler and Ravishankar 1998): each node has a weight for each address, the heaviest answers. When a
 * node goes, only its own addresses move, spread over the others; when it returns, the same ones come back.
 */
import type { IpAddress } from '../../base/ip.ts';
import type { AnnouncedAddress } from './model.ts';

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

/** The addresses that fall to one node, sorted. */
export function renderOwned(
  addresses: ReadonlyMap<IpAddress, AnnouncedAddress>,
  live: readonly string[],
  self: string,
): readonly IpAddress[] {
  const owned: IpAddress[] = [];
  if (!live.includes(self)) return owned;
  for (const one of addresses.values()) if (electNode(one, live) === self) owned.push(one.address);
  return owned.sort();
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
