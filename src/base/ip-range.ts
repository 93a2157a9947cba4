/** Ranges of addresses that need not be CIDRs: what people write for pools. */
import { type Cidr, cidrSize, type Family, familyOf, formatIp, ipToBigInt, isIp, parseCidrStrict } from './ip.ts';

/** Addresses from `first` to `last`, both included, as numbers. */
export interface AddressRange {
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
}

/**
 * "172.18.200.0/24", "172.18.200.10-172.18.200.20" or one address. Of an IPv4 CIDR the first and last address are left out:
 * there is equipment that takes them for the network's and the broadcast address; a range has them if it says so. Throws
 * TypeError.
 */
export function parseRange(text: string): AddressRange {
  const ends = text.split('-').map((part) => part.trim());
  if (ends.length === 1 && !isIp(text)) {
    const cidr = parseCidrStrict(text);
    const { family, first, last } = rangeOfCidr(cidr);
    const trim = family === 4 && cidr.prefix < 31 ? 1n : 0n;
    return { family, first: first + trim, last: last - trim };
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
