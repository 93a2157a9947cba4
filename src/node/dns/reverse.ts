/** Names of the reverse trees: in-addr.arpa (RFC 1035 section 3.5) and ip6.arpa (RFC 3596 section 2.5). */
import { ipFromBytes, ipToBytes } from '../../base/ip.ts';

/** The reverse name of an address, without the final dot. */
export function reverseName(address: string): string {
  const bytes = ipToBytes(address);
  if (bytes.length === 4) return `${[...bytes].reverse().join('.')}.in-addr.arpa`;
  const nibbles = [...Buffer.from(bytes).toString('hex')].reverse();
  return `${nibbles.join('.')}.ip6.arpa`;
}

/** The address of a complete reverse name, or undefined. */
export function addressOfReverseName(name: string): string | undefined {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  if (four) {
    const bytes = four.slice(1, 5).reverse().map(Number);
    return bytes.every((byte) => byte <= 255) ? ipFromBytes(Uint8Array.from(bytes)) : undefined;
  }
  const six = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name);
  if (!six) return undefined;
  const hex = six[1]!.split('.').filter(Boolean).reverse().join('');
  return ipFromBytes(Buffer.from(hex, 'hex'));
}

export function isReverseName(name: string): boolean {
  return name.endsWith('.in-addr.arpa') || name.endsWith('.ip6.arpa');
}
