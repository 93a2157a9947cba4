/**
 * The addresses and ports in the first bytes of an IP packet (RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 9260). Total: what
 * is cut off is absent.
 */
import { type IpAddress, ipFromBytes } from '../../base/ip.ts';

export interface PacketHeaders {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** The number of the transport protocol: 6, 17, 132, 1, 58 … */
  readonly protocol: number;
  /** Absent for protocols without ports and for later fragments. */
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
}

const withPorts: ReadonlySet<number> = new Set([6, 17, 132]);
/** IPv6 extension headers that say their length: hop-by-hop, routing, destination options. */
const extensions: ReadonlySet<number> = new Set([0, 43, 60]);
const fragment = 44;
const mostExtensions = 8;

export function decodePacketHeaders(bytes: Buffer): PacketHeaders | undefined {
  const version = bytes.length > 0 ? bytes.readUInt8(0) >> 4 : 0;
  if (version === 4) return decodeIpv4(bytes);
  return version === 6 ? decodeIpv6(bytes) : undefined;
}

function decodeIpv4(bytes: Buffer): PacketHeaders | undefined {
  if (bytes.length < 20) return undefined;
  const headerLength = (bytes.readUInt8(0) & 0x0f) * 4;
  const isFirstFragment = (bytes.readUInt16BE(6) & 0x1fff) === 0;
  const protocol = bytes.readUInt8(9);
  return {
    source: ipFromBytes(bytes.subarray(12, 16)),
    destination: ipFromBytes(bytes.subarray(16, 20)),
    protocol,
    ...portsAt(bytes, isFirstFragment && headerLength >= 20 ? headerLength : undefined, protocol),
  };
}

function decodeIpv6(bytes: Buffer): PacketHeaders | undefined {
  if (bytes.length < 40) return undefined;
  let protocol = bytes.readUInt8(6);
  let offset: number | undefined = 40;
  for (let i = 0; i < mostExtensions && offset !== undefined && offset + 8 <= bytes.length; i++) {
    if (extensions.has(protocol)) {
      const length: number = (bytes.readUInt8(offset + 1) + 1) * 8;
      protocol = bytes.readUInt8(offset);
      offset += length;
    } else if (protocol === fragment) {
      const isFirst: boolean = bytes.readUInt16BE(offset + 2) >> 3 === 0;
      protocol = bytes.readUInt8(offset);
      offset = isFirst ? offset + 8 : undefined;
    } else break;
  }
  return {
    source: ipFromBytes(bytes.subarray(8, 24)),
    destination: ipFromBytes(bytes.subarray(24, 40)),
    protocol,
    ...portsAt(bytes, offset, protocol),
  };
}

function portsAt(bytes: Buffer, offset: number | undefined, protocol: number) {
  if (offset === undefined || !withPorts.has(protocol) || offset + 4 > bytes.length) {
    return { sourcePort: undefined, destinationPort: undefined };
  }
  return { sourcePort: bytes.readUInt16BE(offset), destinationPort: bytes.readUInt16BE(offset + 2) };
}
