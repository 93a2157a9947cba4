/**
 * IP addresses and CIDR blocks of both families, as canonical text and as bytes.
 *
 * Text is the form that crosses component borders (it is what the Kubernetes API carries); numbers are used only inside
 * arithmetic. Canonical means: IPv4 dotted without leading zeros, IPv6 as RFC 5952 writes it. Parsing is strict: what
 * `net.ParseIP` of today's Go refuses (leading zeros, zones, IPv4-mapped text in a v6 position is allowed) is refused.
 */
import { isIPv4, isIPv6 } from 'node:net';

/** 4 or 6, as the API's ipFamilies "IPv4" and "IPv6". */
export type Family = 4 | 6;

/** An address in canonical text. */
export type IpAddress = string & { readonly __brand: 'IpAddress' };

/** A block of addresses: canonical network address and prefix length, host bits zero. */
export interface Cidr {
  readonly family: Family;
  /** The network address, host bits cleared. */
  readonly address: IpAddress;
  readonly prefix: number;
}

const bitsOf = (family: Family): number => (family === 4 ? 32 : 128);

/** The family of an address text. Throws on anything that is no address. */
export function familyOf(address: string): Family {
  if (isIPv4(address)) return 4;
  if (isIPv6(address) && !address.includes('%')) return 6;
  throw new TypeError(`not an IP address: ${JSON.stringify(address)}`);
}

/** Whether the text is an address of either family (no zone, no leading zeros). */
export function isIp(text: string): boolean {
  return isIPv4(text) || (isIPv6(text) && !text.includes('%'));
}

/** Canonical text of an address. Throws TypeError on anything else. */
export function parseIp(text: string): IpAddress {
  return formatIp(familyOf(text), ipToBigInt(text));
}

/** The address as an unsigned number, most significant byte first. */
export function ipToBigInt(address: string): bigint {
  let value = 0n;
  for (const byte of ipToBytes(address)) value = (value << 8n) | BigInt(byte);
  return value;
}

/** The value of dotted text that is known to be IPv4. */
function ipv4ToNumber(address: string): number {
  let value = 0;
  let part = 0;
  for (let i = 0; i < address.length; i++) {
    const code = address.charCodeAt(i);
    if (code === 0x2e) {
      value = (value << 8) | part;
      part = 0;
    } else part = part * 10 + code - 0x30;
  }
  return (value << 8) | part;
}

/** The address as 4 or 16 bytes in network order. */
export function ipToBytes(address: string): Uint8Array {
  if (familyOf(address) === 4) return Uint8Array.from(address.split('.'), Number);
  let text = address;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (dotted) {
    const [a, b, c, d] = dotted[2]!.split('.').map(Number) as [number, number, number, number];
    text = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head, tail] = text.split('::') as [string, string | undefined];
  const front = head ? head.split(':') : [];
  const back = tail ? tail.split(':') : [];
  const words =
    tail === undefined ? front : [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back];
  const bytes = new Uint8Array(16);
  words.forEach((word, i) => {
    const value = Number.parseInt(word, 16);
    bytes[2 * i] = value >> 8;
    bytes[2 * i + 1] = value & 0xff;
  });
  return bytes;
}

/** Canonical text from 4 or 16 bytes in network order. */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length !== 4 && bytes.length !== 16)
    throw new TypeError(`an IP address has 4 or 16 bytes, not ${bytes.length}`);
  if (bytes.length === 4) return bytes.join('.') as IpAddress;
  const words: number[] = [];
  for (let i = 0; i < 16; i += 2) words.push((bytes[i]! << 8) | bytes[i + 1]!);
  return compressWords(words) as IpAddress;
}

/** RFC 5952 section 4: lower case, no leading zeros, the first longest run of two or more zero words as "::". */
function compressWords(words: readonly number[]): string {
  let best = { start: -1, length: 1 };
  for (let i = 0; i < 8; ) {
    let end = i;
    while (end < 8 && words[end] === 0) end++;
    if (end - i > best.length) best = { start: i, length: end - i };
    i = end + 1;
  }
  const text = (part: readonly number[]) => part.map((word) => word.toString(16)).join(':');
  if (best.start < 0) return text(words);
  return `${text(words.slice(0, best.start))}::${text(words.slice(best.start + best.length))}`;
}

/** Canonical text of a number as an address of the family. Throws RangeError when it does not fit. */
export function formatIp(family: Family, value: bigint): IpAddress {
  if (value < 0n || value >> BigInt(bitsOf(family)))
    throw new RangeError(`no IPv${family} address has the value ${value}`);
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  for (let i = bytes.length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return ipFromBytes(bytes);
}

/** Parses "address/prefix". Host bits are cleared; `parseCidrStrict` refuses them instead. */
export function parseCidr(text: string): Cidr {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  if (!match || !isIp(match[1]!)) throw new TypeError(`not a CIDR: ${JSON.stringify(text)}`);
  const family = familyOf(match[1]!);
  const prefix = Number(match[2]);
  if (prefix > bitsOf(family)) throw new TypeError(`not a CIDR: ${JSON.stringify(text)}`);
  const mask = BigInt(bitsOf(family) - prefix);
  return { family, prefix, address: formatIp(family, (ipToBigInt(match[1]!) >> mask) << mask) };
}

/** Parses "address/prefix" and refuses set host bits. */
export function parseCidrStrict(text: string): Cidr {
  const cidr = parseCidr(text);
  if (parseIp(text.split('/')[0]!) !== cidr.address) throw new TypeError(`host bits are set in ${text}`);
  return cidr;
}

export function isCidr(text: string): boolean {
  try {
    parseCidr(text);
    return true;
  } catch {
    return false;
  }
}

export function formatCidr(cidr: Cidr): string {
  return `${cidr.address}/${cidr.prefix}`;
}

/** The number of addresses in the block. */
export function cidrSize(cidr: Cidr): bigint {
  return 1n << BigInt(bitsOf(cidr.family) - cidr.prefix);
}

/** The address at an offset from the network address; offset 0 is the network address itself. */
export function cidrAddress(cidr: Cidr, offset: bigint | number): IpAddress {
  const index = BigInt(offset);
  if (index < 0n || index >= cidrSize(cidr))
    throw new RangeError(`${formatCidr(cidr)} has no address at offset ${index}`);
  return formatIp(cidr.family, ipToBigInt(cidr.address) + index);
}

/** Whether the block holds the address. False for the other family. */
export function cidrContains(cidr: Cidr, address: string): boolean {
  if (familyOf(address) !== cidr.family) return false;
  if (cidr.family === 4) {
    const differing = ipv4ToNumber(address) ^ ipv4ToNumber(cidr.address);
    return cidr.prefix === 0 || differing >>> (32 - cidr.prefix) === 0;
  }
  const shift = BigInt(bitsOf(cidr.family) - cidr.prefix);
  return ipToBigInt(address) >> shift === ipToBigInt(cidr.address) >> shift;
}

/** As `cidrContains`, for many addresses that are known to be of the block's family. */
export function blockTest(cidr: Cidr): (address: IpAddress) => boolean {
  if (cidr.family === 6) return (address) => cidrContains(cidr, address);
  const network = ipv4ToNumber(cidr.address);
  const hostBits = 32 - cidr.prefix;
  return hostBits === 32 ? () => true : (address) => (ipv4ToNumber(address) ^ network) >>> hostBits === 0;
}

export function cidrsOverlap(a: Cidr, b: Cidr): boolean {
  return cidrContains(a, b.address) || cidrContains(b, a.address);
}

/** The index-th block of the given prefix length inside a block: subnet 0, 1, 2 … */
export function subnet(cidr: Cidr, prefix: number, index: number): Cidr {
  const count = 1n << BigInt(prefix - cidr.prefix);
  if (prefix < cidr.prefix || prefix > bitsOf(cidr.family) || BigInt(index) >= count || index < 0) {
    throw new RangeError(`${formatCidr(cidr)} has no /${prefix} at index ${index}`);
  }
  const address = formatIp(
    cidr.family,
    ipToBigInt(cidr.address) + (BigInt(index) << BigInt(bitsOf(cidr.family) - prefix)),
  );
  return { family: cidr.family, prefix, address };
}

/** "IPv4" or "IPv6", as the API writes it. */
export function familyName(family: Family): 'IPv4' | 'IPv6' {
  return family === 4 ? 'IPv4' : 'IPv6';
}

/** "[fd00::1]:80" or "10.0.0.1:80", as URLs and logs want it. */
export function hostPort(address: string, port: number | string): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
