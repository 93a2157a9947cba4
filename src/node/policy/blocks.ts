/**
 * Address blocks of rules (`ipBlock` with `except`) as disjoint boxes of addresses and ports. The kernel's set of
 * concatenated ranges (pipapo) refuses elements that overlap partly, so overlaps are resolved here.
 */
import { type Cidr, cidrSize, type Family, formatIp, ipToBigInt } from '../../base/ip.ts';
import { type PortSet, unionPorts } from './ports.ts';

/** Addresses from `from` to `to`, both included, as numbers. */
export interface AddressRange {
  readonly from: bigint;
  readonly to: bigint;
}

export interface Block {
  readonly cidr: Cidr;
  readonly except: readonly Cidr[];
}

export interface BlockGrant {
  readonly block: Block;
  readonly ports: PortSet;
}

/** One disjoint stretch of addresses and what is allowed there. */
export interface AddressBox {
  readonly range: AddressRange;
  readonly ports: PortSet;
}

function rangeOf(cidr: Cidr): AddressRange {
  const from = ipToBigInt(cidr.address);
  return { from, to: from + cidrSize(cidr) - 1n };
}

/** The block without its exceptions, in order. Exceptions of the other family or outside the block change nothing. */
export function rangesOf({ cidr, except }: Block): AddressRange[] {
  const whole = rangeOf(cidr);
  const holes = except
    .filter(({ family }) => family === cidr.family)
    .map(rangeOf)
    .filter((hole) => hole.to >= whole.from && hole.from <= whole.to)
    .sort((a, b) => (a.from < b.from ? -1 : 1));
  const ranges: AddressRange[] = [];
  let next = whole.from;
  for (const hole of holes) {
    if (hole.from > next) ranges.push({ from: next, to: hole.from - 1n });
    if (hole.to >= next) next = hole.to + 1n;
  }
  if (next <= whole.to) ranges.push({ from: next, to: whole.to });
  return ranges;
}

export function blockContains(block: Block, family: Family, address: bigint): boolean {
  return block.cidr.family === family && rangesOf(block).some(({ from, to }) => from <= address && address <= to);
}

/** All grants of a family as disjoint boxes in order of address; neighbours with equal ports are joined. */
export function boxesOf(grants: readonly BlockGrant[], family: Family): AddressBox[] {
  const events = new Map<bigint, { begin: PortSet[]; end: PortSet[] }>();
  const at = (address: bigint) => {
    let event = events.get(address);
    if (!event) {
      event = { begin: [], end: [] };
      events.set(address, event);
    }
    return event;
  };
  for (const { block, ports } of grants) {
    if (block.cidr.family !== family || !ports.key) continue;
    for (const { from, to } of rangesOf(block)) {
      at(from).begin.push(ports);
      at(to + 1n).end.push(ports);
    }
  }
  return sweep(events);
}

function sweep(events: ReadonlyMap<bigint, { begin: PortSet[]; end: PortSet[] }>): AddressBox[] {
  const boundaries = [...events.keys()].sort((a, b) => (a < b ? -1 : 1));
  const open = new Map<string, { ports: PortSet; count: number }>();
  const boxes: AddressBox[] = [];
  boundaries.forEach((from, i) => {
    const event = events.get(from)!;
    for (const ports of event.begin) {
      const entry = open.get(ports.key);
      if (entry) entry.count++;
      else open.set(ports.key, { ports, count: 1 });
    }
    for (const ports of event.end) if (--open.get(ports.key)!.count === 0) open.delete(ports.key);
    const next = boundaries[i + 1];
    if (next === undefined || open.size === 0) return;
    const ports = unionPorts([...open.values()].map((entry) => entry.ports));
    const last = boxes.at(-1);
    if (last && last.range.to + 1n === from && last.ports.key === ports.key) {
      boxes[boxes.length - 1] = { range: { from: last.range.from, to: next - 1n }, ports };
    } else boxes.push({ range: { from, to: next - 1n }, ports });
  });
  return boxes;
}

/**
 * Always as a range, also of one address: nft 1.0.6 fails to find an element of a concatenated interval set again when it
 * is written without any range (it forgets to swap the bytes of the fields that are in host order).
 */
export function formatAddressRange(family: Family, { from, to }: AddressRange): string {
  return `${formatIp(family, from)}-${formatIp(family, to)}`;
}
