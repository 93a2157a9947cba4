/** CIDRs in the form that an nftables interval set takes: disjoint and sorted. */
import { type Cidr, cidrContains, formatCidr } from '../../base/ip.ts';

/** The same addresses without overlaps: CIDR blocks either nest or are disjoint, so the inner ones go. */
export function disjointRanges(ranges: readonly Cidr[]): readonly Cidr[] {
  const kept: Cidr[] = [];
  for (const range of [...ranges].sort((a, b) => a.prefix - b.prefix)) {
    if (!kept.some((wider) => cidrContains(wider, range.address))) kept.push(range);
  }
  return kept;
}

/** nftables' text of a block: a single address without its prefix length, as nft lists it. */
export function rangeText(range: Cidr): string {
  return range.prefix === (range.family === 4 ? 32 : 128) ? range.address : formatCidr(range);
}

/** loadBalancerSourceRanges of one family as text. Undefined when they hold every address: nothing is restricted. */
export function minimalRanges(ranges: readonly Cidr[]): readonly string[] | undefined {
  const kept = disjointRanges(ranges);
  return kept.some((range) => range.prefix === 0) ? undefined : kept.map(rangeText).sort();
}
