/**
 * Receives the packets of one nftables log group in a namespace (NFNETLINK_LOG). The kernel has one receiver for each group
 * of a namespace; nobody has to listen, the rules work without. How many come is the rules' business (`limit rate`).
 */
import { KernelError } from './errors.ts';
import { type Monitor, watchNotifications } from './netlink/notifications.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink/socket.ts';
import { MessageWriter } from './netlink/writer.ts';
import type { NetworkNamespace } from './netns.ts';
import { decodeLoggedPacket, encodeBind, type LoggedPacket } from './nflog/codec.ts';

export type { LoggedPacket } from './nflog/codec.ts';
export type { PacketHeaders } from './nflog/packet-headers.ts';

export interface NfLogOptions {
  /** 0 to 65535, as the rules have it. */
  readonly group: number;
  /** How much of each packet is wanted, bytes; rules may give less (`snaplen`). */
  readonly copyBytes?: number;
  readonly onPacket: (packet: LoggedPacket) => void;
  /** The kernel dropped copies because they were not taken in time. */
  readonly onLost?: () => void;
  /** Where; default the current namespace. */
  readonly ns?: NetworkNamespace;
}

/** Enough for the longest IPv4 header, or IPv6 with some extensions, and the ports. */
const defaultCopyBytes = 128;

/** Receives until closed. Throws KernelError: EPERM also when somebody else receives the group. */
export function watchLogGroup({ group, copyBytes, onPacket, onLost, ns }: NfLogOptions): Monitor {
  const socket = NetlinkSocket.open(NETLINK_NETFILTER, ns);
  try {
    const writer = new MessageWriter();
    encodeBind(writer, group, copyBytes ?? defaultCopyBytes);
    const [failure] = socket.batch(writer, `receive log group ${group}`);
    if (failure) throw new KernelError(`receive log group ${group}`, failure.errno, failure.message);
  } catch (error) {
    socket.close();
    throw error;
  }
  return watchNotifications(
    socket,
    (message) => {
      const packet = decodeLoggedPacket(message);
      if (packet) onPacket(packet);
    },
    () => onLost?.(),
  );
}
