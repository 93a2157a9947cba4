/** Packets that nftables' `log group` copies to user space (linux/netfilter/nfnetlink_log.h). Pure. */
import { Attributes, type NetlinkMessage } from '../netlink/reader.ts';
import type { MessageWriter } from '../netlink/writer.ts';
import { decodePacketHeaders, type PacketHeaders } from './packet-headers.ts';

const NFNL_SUBSYS_ULOG = 4 << 8;
export const NFULNL_MSG_PACKET = NFNL_SUBSYS_ULOG | 0;
const NFULNL_MSG_CONFIG = NFNL_SUBSYS_ULOG | 1;
/** sizeof(struct nfgenmsg). */
const GENERIC_SIZE = 4;

const NFULA = { timestamp: 3, inDevice: 4, outDevice: 5, payload: 9, prefix: 10 } as const;
const NFULA_CFG = { command: 1, mode: 2, timeout: 4, threshold: 5 } as const;
const NFULNL_CFG_CMD_BIND = 1;
const NFULNL_COPY_PACKET = 2;

export interface LoggedPacket {
  /** The rule's `prefix`. */
  readonly prefix: string;
  /** Milliseconds since 1970 when the kernel stamped the packet; most are not stamped. */
  readonly timestamp: number | undefined;
  readonly inDevice: number | undefined;
  readonly outDevice: number | undefined;
  /** Undefined when the copy holds no IP header. */
  readonly headers: PacketHeaders | undefined;
}

/**
 * Makes the sender's socket the receiver of a group: the first `copyBytes` of each packet, told at once. The caller sends
 * both messages in a batch, because the second one changes the instance that the first one makes.
 */
export function encodeBind(w: MessageWriter, group: number, copyBytes: number): void {
  config(w, group).attrU8(NFULA_CFG.command, NFULNL_CFG_CMD_BIND);
  const mode = Buffer.alloc(6);
  mode.writeUInt32BE(copyBytes);
  mode.writeUInt8(NFULNL_COPY_PACKET, 4);
  // Not collected: every packet is told at once.
  config(w, group).attr(NFULA_CFG.mode, mode).attrBe32(NFULA_CFG.threshold, 1).attrBe32(NFULA_CFG.timeout, 1);
}

function config(w: MessageWriter, group: number): MessageWriter {
  return w.message(NFULNL_MSG_CONFIG).u8(0).u8(0).be16(group);
}

/** Undefined for messages that are no packets. Total: bytes that are cut off give absent fields. */
export function decodeLoggedPacket({ type, payload }: NetlinkMessage): LoggedPacket | undefined {
  if (type !== NFULNL_MSG_PACKET || payload.length < GENERIC_SIZE) return undefined;
  const attributes = new Attributes(payload, GENERIC_SIZE);
  const packet = attributes.bytes(NFULA.payload);
  return {
    prefix: attributes.string(NFULA.prefix) ?? '',
    timestamp: timestampOf(attributes.bytes(NFULA.timestamp)),
    inDevice: attributes.be32(NFULA.inDevice),
    outDevice: attributes.be32(NFULA.outDevice),
    headers: packet && decodePacketHeaders(packet),
  };
}

/** struct nfulnl_msg_packet_timestamp: seconds and microseconds, 64 bits each, in network order. */
function timestampOf(bytes: Buffer | undefined): number | undefined {
  if (!bytes || bytes.length < 16) return undefined;
  return Number(bytes.readBigUInt64BE(0)) * 1000 + Math.floor(Number(bytes.readBigUInt64BE(8)) / 1000);
}
