/** The TCP sockets of a network namespace, whoever has them, as the kernel tells of them (sock_diag(7)). */
import type { Family } from '../base/ip.ts';
import { NETLINK_SOCK_DIAG, NetlinkSocket } from './netlink/socket.ts';
import { MessageWriter } from './netlink/writer.ts';
import type { NetworkNamespace } from './netns.ts';
import { decodeTcpSocket, encodeDumpTcpSockets, type TcpSocket } from './sock-diag/codec.ts';

export type { TcpSocket, TcpState, TcpStream } from './sock-diag/codec.ts';

/** All but those in TIME_WAIT, of both families, in the namespace or in the current one. */
export function listTcpSockets(ns?: NetworkNamespace): TcpSocket[] {
  using socket = NetlinkSocket.open(NETLINK_SOCK_DIAG, ns);
  const list = (family: Family) => {
    const write = () => {
      const writer = new MessageWriter();
      encodeDumpTcpSockets(writer, family);
      return writer;
    };
    return socket.dump(write, `list TCP sockets over IPv${family}`, decodeTcpSocket);
  };
  return [...list(4), ...list(6)];
}
