/** Addresses as Services meet them: canonical at once when they are IPv4, which the strict parser of Node tells cheaply. */
import { isIPv4 } from 'node:net';
import { type Family, familyName, type IpAddress, ipToBytes, isIp, parseIp } from '../../base/ip.ts';

/** Canonical text, or undefined for what is no address. An IPv4 address that `isIPv4` takes is canonical already. */
export function canonicalIp(text: string | undefined): IpAddress | undefined {
  if (text === undefined) return undefined;
  if (isIPv4(text)) return text as IpAddress;
  return isIp(text) ? parseIp(text) : undefined;
}

/** The family of canonical text. */
export function familyOfCanonical(address: IpAddress): Family {
  return address.includes(':') ? 6 : 4;
}

type Usable = { readonly ok: true; readonly value: IpAddress } | { readonly ok: false; readonly reason: string };

/** An address that a Service may lead to, in canonical text, or why it may not. */
export function usableAddress(text: string | undefined, family: Family): Usable {
  const value = canonicalIp(text);
  if (value === undefined) return { ok: false, reason: 'not an IP address' };
  if (familyOfCanonical(value) !== family) return { ok: false, reason: `not ${familyName(family)}` };
  const reason = family === 4 ? unusable4(value) : unusable6(ipToBytes(value));
  return reason ? { ok: false, reason } : { ok: true, value };
}

/** Whether it is in 127.0.0.0/8 or ::1; of canonical text. */
export function isLoopback(address: IpAddress): boolean {
  return address === '::1' || address.startsWith('127.');
}

function unusable4(address: IpAddress): string | undefined {
  const first = Number.parseInt(address, 10);
  if (first === 0) return 'unspecified';
  if (first === 127) return 'loopback';
  if (address.startsWith('169.254.')) return 'link-local';
  if (first >= 240) return 'reserved or broadcast';
  return first >= 224 ? 'multicast' : undefined;
}

function unusable6(bytes: Uint8Array): string | undefined {
  const zeros = bytes.findIndex((byte) => byte !== 0);
  if (zeros === -1) return 'unspecified';
  if (zeros === 15 && bytes[15] === 1) return 'loopback';
  if (zeros === 10 && bytes[10] === 0xff && bytes[11] === 0xff) return 'IPv4-mapped';
  if (bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80) return 'link-local';
  return bytes[0] === 0xff ? 'multicast' : undefined;
}
