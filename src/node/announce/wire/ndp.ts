/** Neighbour Discovery for IPv6 (RFC 4861): solicitations in, advertisements out. Pure. */
import { type IpAddress, ipFromBytes, ipToBytes, parseIp } from '../../../base/ip.ts';
import type { BpfInstruction } from '../../../linux/packet-socket.ts';
import { HEADER_BYTES, readMac, writeHeader, writeMac } from './ethernet.ts';

export const IPV6_PROTOCOL = 0x86dd;
const IPV6_BYTES = 40;
const NEXT_HEADER_ICMPV6 = 58;
const NEIGHBOUR_SOLICITATION = 135;
const NEIGHBOUR_ADVERTISEMENT = 136;
/** Only a neighbour's packet still has it: routers lower it (RFC 4861 section 7.1). */
const HOP_LIMIT = 255;
/** Type, code, checksum, flags, target. */
const MESSAGE_BYTES = 24;
const OPTION_BYTES = 8;
const OPTION_SOURCE_MAC = 1;
const OPTION_TARGET_MAC = 2;
const FLAG_SOLICITED = 0x40000000;
const FLAG_OVERRIDE = 0x20000000;
const ALL_NODES = parseIp('ff02::1');
const ALL_NODES_MAC = '33:33:00:00:00:01';

/** For a packet socket: only solicitations and advertisements reach it, of all the IPv6 that passes. */
export const NDP_FILTER: readonly BpfInstruction[] = [
  [0x30, 0, 0, HEADER_BYTES + 6],
  [0x15, 0, 4, NEXT_HEADER_ICMPV6],
  [0x30, 0, 0, HEADER_BYTES + IPV6_BYTES],
  [0x15, 1, 0, NEIGHBOUR_SOLICITATION],
  [0x15, 0, 1, NEIGHBOUR_ADVERTISEMENT],
  [0x06, 0, 0, 0x40000],
  [0x06, 0, 0, 0],
];

export interface NeighbourMessage {
  readonly type: 'solicitation' | 'advertisement';
  readonly senderMac: string;
  /** "::" in duplicate address detection: whoever asks has no address yet. */
  readonly sender: IpAddress;
  readonly target: IpAddress;
}

/** Undefined for anything that is no valid solicitation or advertisement (RFC 4861 sections 7.1.1, 7.1.2). */
export function decodeNeighbourMessage(frame: Buffer): NeighbourMessage | undefined {
  const ip = HEADER_BYTES;
  const message = ip + IPV6_BYTES;
  if (frame.length < message + MESSAGE_BYTES || frame.readUInt8(ip) >> 4 !== 6) return undefined;
  if (frame.readUInt8(ip + 6) !== NEXT_HEADER_ICMPV6 || frame.readUInt8(ip + 7) !== HOP_LIMIT) return undefined;
  const length = frame.readUInt16BE(ip + 4);
  if (length < MESSAGE_BYTES || frame.length < message + length) return undefined;
  const type = typeOf(frame.readUInt8(message));
  if (!type || frame.readUInt8(message + 1) !== 0) return undefined;
  if (checksum(frame.subarray(ip, message + length)) !== 0) return undefined;
  const target = ipFromBytes(frame.subarray(message + 8, message + 24));
  if (target.startsWith('ff')) return undefined;
  return { type, senderMac: readMac(frame, 6), sender: ipFromBytes(frame.subarray(ip + 8, ip + 24)), target };
}

function typeOf(code: number): NeighbourMessage['type'] | undefined {
  if (code === NEIGHBOUR_SOLICITATION) return 'solicitation';
  return code === NEIGHBOUR_ADVERTISEMENT ? 'advertisement' : undefined;
}

/**
 * The answer to a solicitation: to the one who asks, or to all when it has no address yet (section 7.2.4); from the link
 * whose MAC is `from`, which is the one that switches learn.
 */
export function neighbourReply({ sender, senderMac, target }: NeighbourMessage, mac: string, from = mac): Buffer {
  if (sender === '::') return neighbourAnnouncement(target, mac, from);
  const link = { from, to: senderMac };
  return encodeAdvertisement(link, { from: target, to: sender }, target, mac, FLAG_SOLICITED | FLAG_OVERRIDE);
}

/** "This address is at this MAC now", to all (section 7.2.6). */
export function neighbourAnnouncement(address: IpAddress, mac: string, from = mac): Buffer {
  const link = { from, to: ALL_NODES_MAC };
  return encodeAdvertisement(link, { from: address, to: ALL_NODES }, address, mac, FLAG_OVERRIDE);
}

/** "Are you still there?", to one neighbour alone (section 7.3.1). */
export function neighbourQuestion(target: IpAddress, targetMac: string, sender: IpAddress, mac: string): Buffer {
  const option = { type: OPTION_SOURCE_MAC, mac };
  const link = { from: mac, to: targetMac };
  return encodeMessage(link, { from: sender, to: target }, { type: NEIGHBOUR_SOLICITATION, flags: 0, target, option });
}

interface Way<T> {
  readonly from: T;
  readonly to: T;
}

function encodeAdvertisement(
  link: Way<string>,
  ip: Way<IpAddress>,
  target: IpAddress,
  mac: string,
  flags: number,
): Buffer {
  const option = { type: OPTION_TARGET_MAC, mac };
  return encodeMessage(link, ip, { type: NEIGHBOUR_ADVERTISEMENT, flags, target, option });
}

interface MessageFields {
  readonly type: number;
  readonly flags: number;
  readonly target: IpAddress;
  /** The link-layer address of the sender or of the target (section 4.6.1). */
  readonly option: { readonly type: number; readonly mac: string };
}

function encodeMessage(link: Way<string>, { from, to }: Way<IpAddress>, fields: MessageFields): Buffer {
  const frame = Buffer.alloc(HEADER_BYTES + IPV6_BYTES + MESSAGE_BYTES + OPTION_BYTES);
  writeHeader(frame, link.to, link.from, IPV6_PROTOCOL);
  const ip = HEADER_BYTES;
  frame.writeUInt32BE(0x60000000, ip);
  frame.writeUInt16BE(MESSAGE_BYTES + OPTION_BYTES, ip + 4);
  frame.writeUInt8(NEXT_HEADER_ICMPV6, ip + 6);
  frame.writeUInt8(HOP_LIMIT, ip + 7);
  frame.set(ipToBytes(from), ip + 8);
  frame.set(ipToBytes(to), ip + 24);
  const message = ip + IPV6_BYTES;
  frame.writeUInt8(fields.type, message);
  frame.writeUInt32BE(fields.flags >>> 0, message + 4);
  frame.set(ipToBytes(fields.target), message + 8);
  frame.writeUInt8(fields.option.type, message + MESSAGE_BYTES);
  frame.writeUInt8(1, message + MESSAGE_BYTES + 1);
  writeMac(frame, message + MESSAGE_BYTES + 2, fields.option.mac);
  frame.writeUInt16BE(checksum(frame.subarray(ip)), message + 2);
  return frame;
}

/** RFC 8200 section 8.1 over an IPv6 packet without extension headers. 0 when the checksum inside is right. */
export function checksum(packet: Buffer): number {
  let sum = packet.length - IPV6_BYTES + NEXT_HEADER_ICMPV6;
  for (let i = 8; i + 1 < packet.length; i += 2) sum += packet.readUInt16BE(i);
  if (packet.length % 2 === 1) sum += packet.readUInt8(packet.length - 1) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** The multicast group that solicitations for an address go to (RFC 4291 section 2.7.1). */
export function solicitedNodeGroup(address: IpAddress): IpAddress {
  const bytes = new Uint8Array(16);
  bytes.set(ipToBytes('ff02::1:ff00:0'));
  bytes.set(ipToBytes(address).subarray(13), 13);
  return ipFromBytes(bytes);
}
