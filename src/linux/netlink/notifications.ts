/** Notifications of a netlink socket, taken whenever some have arrived. */
import { watchReadable } from '../fd-watch.ts';
import type { NetlinkMessage } from './reader.ts';
import type { NetlinkSocket } from './socket.ts';

/** Something that reports until it is closed. */
export interface Monitor extends Disposable {
  close(): void;
  /** Lets the process end although the monitor is open. */
  unref(): void;
}

/** Takes the notifications of a socket whenever some have arrived; owns the socket. */
export function watchNotifications(
  socket: NetlinkSocket,
  onMessage: (message: NetlinkMessage) => void,
  onResync: () => void,
): Monitor {
  const watch = watchReadable(socket.fd, () => {
    if (socket.takeArrived(onMessage) === 'overrun') onResync();
  });
  const close = (): void => {
    watch.close();
    socket.close();
  };
  return { close, unref: () => watch.unref(), [Symbol.dispose]: close };
}
