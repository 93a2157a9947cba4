/** Names of the reverse trees: in-addr.arpa (RFC 1035 section 3.5) and ip6.arpa (RFC 3596 section 2.5). */
import { type Cidr, type Family, type IpAddress, ipFromBytes, ipToBytes } from '../../base/ip.ts';

/** What a reverse name stands for: an address, or, with fewer labels, all addresses that begin so. */
export interface ReverseName {
  readonly family: Family;
  /** The address, the missing rest filled with zeros. */
  readonly address: IpAddress;
  /** How many labels of the address are there: up to 4 (bytes) or 32 (half bytes). */
  readonly labels: number;
}

const TREE = { 4: 'in-addr.arpa', 6: 'ip6.arpa' } as const;
const LABELS = { 4: 4, 6: 32 } as const;
const BITS_PER_LABEL = { 4: 8, 6: 4 } as const;

/** The labels of an address, most significant first. */
function labelsOf(address: string): string[] {
  const bytes = ipToBytes(address);
  return bytes.length === 4 ? Array.from(bytes, String) : [...Buffer.from(bytes).toString('hex')];
}

function nameOf(family: Family, labels: readonly string[]): string {
  return [...labels.toReversed(), TREE[family]].join('.');
}

/** The reverse name of an address, without the final dot. */
export function reverseName(address: string): string {
  const labels = labelsOf(address);
  return nameOf(labels.length === 4 ? 4 : 6, labels);
}

/** Reads a reverse name, complete or not; undefined for any other name. The name is lower case, without the final dot. */
export function decodeReverseName(name: string): ReverseName | undefined {
  const family = name.endsWith(`.${TREE[4]}`) ? 4 : name.endsWith(`.${TREE[6]}`) ? 6 : undefined;
  if (family === undefined) return undefined;
  const labels = name
    .slice(0, -TREE[family].length - 1)
    .split('.')
    .reverse();
  if (labels.length > LABELS[family] || !labels.every((label) => isLabel(family, label))) return undefined;
  const all = [...labels, ...Array<string>(LABELS[family] - labels.length).fill('0')];
  const bytes = family === 4 ? Uint8Array.from(all, Number) : Buffer.from(all.join(''), 'hex');
  return { family, address: ipFromBytes(bytes), labels: labels.length };
}

function isLabel(family: Family, label: string): boolean {
  return family === 4 ? /^(0|[1-9]\d{0,2})$/.test(label) && Number(label) <= 255 : /^[0-9a-f]$/.test(label);
}

export function isComplete({ family, labels }: ReverseName): boolean {
  return labels === LABELS[family];
}

/**
 * The reverse zone in which an address of a block stands: cut at the next whole label, so a /12 has 16 zones of a /16 each.
 * "244.10.in-addr.arpa" for 10.244.0.0/16.
 */
export function reverseZoneOf(cidr: Cidr, address: string): { readonly name: string; readonly labels: number } {
  const labels = Math.ceil(cidr.prefix / BITS_PER_LABEL[cidr.family]);
  return { labels, name: nameOf(cidr.family, labelsOf(address).slice(0, labels)) };
}
