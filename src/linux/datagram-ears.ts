/**
 * Hears every UDP datagram that the kernel of a namespace takes in, whoever it is for: raw(7). A raw socket gets a copy of
 * each datagram that arrives at an address of the namespace, before any socket is looked for; so it tells arrival from loss
 * even on ports where nobody listens, and takes nothing away from those who do.
 */

import { type Watch, watchReadable } from './fd-watch.ts';
import { AF_INET, AF_INET6, check, libc, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW } from './libc.ts';
import { type NetworkNamespace, runIn } from './netns.ts';

// linux/in.h
const IPPROTO_UDP = 17;
const MSG_DONTWAIT = 0x40;
const UDP_HEADER = 8;
/** Longer datagrams are cut. */
const longest = 2048;

export class DatagramEars implements Disposable {
  readonly #fd: number;
  readonly #watch: Watch;
  readonly #buffer = Buffer.allocUnsafeSlow(longest);

  /** `onDatagram` gets the payload, valid during the call. Throws EPERM without CAP_NET_RAW. */
  constructor(ns: NetworkNamespace | undefined, family: 4 | 6, onDatagram: (payload: Buffer) => void) {
    const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
    const domain = family === 4 ? AF_INET : AF_INET6;
    this.#fd = runIn(ns, () => check('open a raw socket for UDP', libc.socket(domain, type, IPPROTO_UDP)));
    this.#watch = watchReadable(this.#fd, () => this.#take(family, onDatagram));
  }

  #take(family: 4 | 6, onDatagram: (payload: Buffer) => void): void {
    for (;;) {
      const length = libc.recv(this.#fd, this.#buffer, longest, MSG_DONTWAIT);
      if (length < 0) return;
      // Of IPv4 the IP header comes along, its length in units of four bytes; of IPv6 it does not.
      const header = (family === 4 ? (this.#buffer[0]! & 0xf) * 4 : 0) + UDP_HEADER;
      if (length >= header) onDatagram(this.#buffer.subarray(header, length));
    }
  }

  [Symbol.dispose](): void {
    this.#watch.close();
    libc.close(this.#fd);
  }
}
