/** Ranges of addresses that need not be CIDRs: what people write for pools. */
import { type Cidr, cidrSize, type Family, familyOf, formatIp, ipToBigInt, isIp, parseCidrStrict } from './ip.ts';

/** Addresses from `first` to `last`, both included, as numbers. */
export interface AddressRange {
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
}

/**
 * "172.18.200.0/24", "172.18.200.10-172.18.200.20" or one address. Of a CIDR the first address is left out, and of an IPv4
 * one the last too: they may be taken for the network's, the broadcast, or the routers' anycast address (RFC 4291 section
 * 2.6.1). A range has them if it says so. Throws TypeError.
 */
export function parseRange(text: string): AddressRange {
  const ends = text.split('-').map((part) => part.trim());
  if (ends.length === 1 && !isIp(text)) {
    const cidr = parseCidrStrict(text);
    const { family, first, last } = rangeOfCidr(cidr);
    if (last - first < 2n) return { family, first, last };
    return { family, first: first + 1n, last: family === 4 ? last - 1n : last };
  }
  const [from, to = from] = ends as [string, string?];
  if (ends.length > 2 || !isIp(from) || !isIp(to))
    throw new TypeError(`not a CIDR, a range "first-last" or an address: ${JSON.stringify(text)}`);
  const range = { family: familyOf(from), first: ipToBigInt(from), last: ipToBigInt(to) };
  if (familyOf(to) !== range.family) throw new TypeError(`a range of two families: ${text}`);
  if (range.last < range.first) throw new TypeError(`a range that ends before it begins: ${text}`);
  return range;
}

/** All addresses of a CIDR. */
export function rangeOfCidr(cidr: Cidr): AddressRange {
  const first = ipToBigInt(cidr.address);
  return { family: cidr.family, first, last: first + cidrSize(cidr) - 1n };
}

/** "172.18.200.1-172.18.200.254", or one address. */
export function formatRange({ family, first, last }: AddressRange): string {
  const ends = [formatIp(family, first), formatIp(family, last)];
  return first === last ? ends[0]! : ends.join('-');
}
