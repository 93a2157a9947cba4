/**
 * Deletes interfaces without making anyone wait who does not ask for it.
 *
 * Deleting a veth takes the kernel 16-20 ms (it waits for RCU readers), and as long for a hundred as for one. Done in the
 * event loop it would stop every ADD for that time. So a link first goes down and into the group of the dying (0.1 ms);
 * a thread of libuv's pool then deletes the whole group by one request, and all who came meanwhile share the next.
 */
import { isNotFound, KernelError } from '../../linux/errors.ts';
import { libc } from '../../linux/libc.ts';
import { decodeAcknowledgement, NLMSG_ERROR } from '../../linux/netlink/reader.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../../linux/netlink/socket.ts';
import { MessageWriter } from '../../linux/netlink/writer.ts';
import type { NetworkNamespace } from '../../linux/netns.ts';
import { encodeDeleteGroup } from '../../linux/rtnetlink/links.ts';
import type { Rtnetlink } from '../../linux/rtnetlink.ts';
import { DYING_LINK_GROUP } from './pod-link.ts';

/** koffi gives every bound function a variant that runs on a pool thread; errno is not carried over. */
type AsyncSend = {
  async(
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
    done: (error: unknown, sent: number) => void,
  ): void;
};
const send = libc.send as unknown as AsyncSend;

export class LinkReaper {
  readonly #rtnl: Rtnetlink;
  readonly #socket: NetlinkSocket;
  #waiting: PromiseWithResolvers<void>[] = [];
  #running = false;
  #closed = false;
  #sequence = 0;

  /** `ns` is the namespace of `rtnl`; the current one when absent. */
  constructor(rtnl: Rtnetlink, ns?: NetworkNamespace) {
    this.#rtnl = rtnl;
    this.#socket = NetlinkSocket.open(NETLINK_ROUTE, ns);
  }

  /** Takes a link out of service at once: no packet passes it any more. Tells whether it was there. */
  condemn(name: string): boolean {
    try {
      this.#rtnl.setLink(name, { up: false, group: DYING_LINK_GROUP });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  /** Resolves when every link that was condemned before this call is gone. */
  reap(): Promise<void> {
    const waiter = Promise.withResolvers<void>();
    this.#waiting.push(waiter);
    this.#pump();
    return waiter.promise;
  }

  /** Stops as soon as a deletion that runs is done. */
  close(): void {
    this.#closed = true;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new Error('the link reaper is closed'));
    if (!this.#running) this.#socket.close();
  }

  #pump(): void {
    if (this.#running || this.#closed || this.#waiting.length === 0) return;
    const waiters = this.#waiting.splice(0);
    this.#running = true;
    this.#deleteDying((error) => {
      this.#running = false;
      for (const waiter of waiters) error ? waiter.reject(error) : waiter.resolve();
      if (this.#closed) this.#socket.close();
      this.#pump();
    });
  }

  #deleteDying(done: (error?: unknown) => void): void {
    const writer = new MessageWriter();
    encodeDeleteGroup(writer, DYING_LINK_GROUP);
    const bytes = writer.finish(++this.#sequence, 'ack');
    send.async(this.#socket.fd, bytes, bytes.length, 0, (error, sent) => {
      if (error || sent !== bytes.length)
        return done(error ?? new Error('cannot send to the kernel: delete dying links'));
      try {
        this.#takeAnswer();
        done();
      } catch (failure) {
        done(failure);
      }
    });
  }

  /** The kernel works inside send(), so its answer has arrived. A group without links (ENODEV) is what was wanted. */
  #takeAnswer(): void {
    this.#socket.takeArrived((message) => {
      if (message.type !== NLMSG_ERROR || message.sequence !== this.#sequence) return;
      const { errno, message: text } = decodeAcknowledgement(message);
      const failure = errno === 0 ? undefined : new KernelError('delete dying links', errno, text);
      if (failure && !isNotFound(failure)) throw failure;
    });
  }
}
