/** ARP for IPv4 over Ethernet (RFC 826), and its announcements (RFC 5227 section 3). Pure. */
import { type IpAddress, ipFromBytes, ipToBytes } from '../../../base/ip.ts';
import { BROADCAST_MAC, HEADER_BYTES, readMac, writeHeader, writeMac } from './ethernet.ts';

export const ARP_PROTOCOL = 0x0806;
const ARP_BYTES = 28;
const HARDWARE_ETHERNET = 1;
const PROTOCOL_IPV4 = 0x0800;
const OPERATION = { request: 1, reply: 2 } as const;
const NO_MAC = '00:00:00:00:00:00';

export interface ArpPacket {
  readonly operation: keyof typeof OPERATION;
  readonly senderMac: string;
  /** 0.0.0.0 in a probe: whoever asks has no address yet. */
  readonly sender: IpAddress;
  readonly targetMac: string;
  readonly target: IpAddress;
}

/** Undefined for anything that is no ARP request or reply for IPv4 over Ethernet. */
export function decodeArp(frame: Buffer): ArpPacket | undefined {
  const at = HEADER_BYTES;
  if (frame.length < at + ARP_BYTES) return undefined;
  if (frame.readUInt16BE(at) !== HARDWARE_ETHERNET || frame.readUInt16BE(at + 2) !== PROTOCOL_IPV4) return undefined;
  if (frame.readUInt8(at + 4) !== 6 || frame.readUInt8(at + 5) !== 4) return undefined;
  const code = frame.readUInt16BE(at + 6);
  if (code !== OPERATION.request && code !== OPERATION.reply) return undefined;
  return {
    operation: code === OPERATION.request ? 'request' : 'reply',
    senderMac: readMac(frame, at + 8),
    sender: ipFromBytes(frame.subarray(at + 14, at + 18)),
    targetMac: readMac(frame, at + 18),
    target: ipFromBytes(frame.subarray(at + 24, at + 28)),
  };
}

export function encodeArp(to: string, packet: ArpPacket, from = packet.senderMac): Buffer {
  const frame = Buffer.alloc(HEADER_BYTES + ARP_BYTES);
  writeHeader(frame, to, from, ARP_PROTOCOL);
  const at = HEADER_BYTES;
  frame.writeUInt16BE(HARDWARE_ETHERNET, at);
  frame.writeUInt16BE(PROTOCOL_IPV4, at + 2);
  frame.writeUInt8(6, at + 4);
  frame.writeUInt8(4, at + 5);
  frame.writeUInt16BE(OPERATION[packet.operation], at + 6);
  writeMac(frame, at + 8, packet.senderMac);
  frame.set(ipToBytes(packet.sender), at + 14);
  writeMac(frame, at + 18, packet.targetMac);
  frame.set(ipToBytes(packet.target), at + 24);
  return frame;
}

/** The answer to a request, "its target is at this MAC", from the link whose MAC is `from`: switches learn that one. */
export function arpReply(request: ArpPacket, mac: string, from = mac): Buffer {
  const { sender, senderMac, target } = request;
  const reply = { operation: 'reply', senderMac: mac, sender: target, targetMac: senderMac, target: sender } as const;
  return encodeArp(senderMac, reply, from);
}

/** "Are you still there?", to one neighbour alone. */
export function arpQuestion(target: IpAddress, targetMac: string, sender: IpAddress, mac: string): Buffer {
  return encodeArp(targetMac, { operation: 'request', senderMac: mac, sender, targetMac: NO_MAC, target });
}

/** "This address is here now": as a request and as a reply, because there are stacks that heed only one of them. */
export function arpAnnouncements(address: IpAddress, mac: string): readonly Buffer[] {
  const base = { senderMac: mac, sender: address, target: address };
  return [
    encodeArp(BROADCAST_MAC, { ...base, operation: 'request', targetMac: NO_MAC }),
    encodeArp(BROADCAST_MAC, { ...base, operation: 'reply', targetMac: mac }),
  ];
}

/** Whether somebody says that an address is at a MAC without having been asked. */
export function isArpAnnouncement({ sender, target }: ArpPacket): boolean {
  return sender === target;
}
