/**
 * Membership in IPv6 multicast groups on a link, for whoever reads the packets by other means (a packet socket): the
 * kernel tells switches by MLD (RFC 3810) and lets the network card take the group's frames in.
 */
import { ipToBytes } from '../base/ip.ts';
import { hasCode } from './errors.ts';
import { AF_INET6, check, libc, SOCK_CLOEXEC, SOCK_DGRAM } from './libc.ts';
import { type NetworkNamespace, runIn } from './netns.ts';

// linux/in6.h
const IPPROTO_IPV6 = 41;
const IPV6_ADD_MEMBERSHIP = 20;
const IPV6_DROP_MEMBERSHIP = 21;

export class Ipv6Groups implements Disposable {
  readonly #ifindex: number;
  #fd: number;

  private constructor(fd: number, ifindex: number) {
    this.#fd = fd;
    this.#ifindex = ifindex;
  }

  static open({ ns, ifindex }: { readonly ns?: NetworkNamespace | undefined; readonly ifindex: number }): Ipv6Groups {
    const open = () => check('open a socket for groups', libc.socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    return new Ipv6Groups(runIn(ns, open), ifindex);
  }

  /** Joining twice is joining once. Throws ENODEV when the link is gone. */
  join(group: string): void {
    try {
      this.#change('join', IPV6_ADD_MEMBERSHIP, group);
    } catch (error) {
      if (!hasCode(error, 'EADDRINUSE')) throw error;
    }
  }

  /** Leaving a group that was not joined does nothing. */
  leave(group: string): void {
    try {
      this.#change('leave', IPV6_DROP_MEMBERSHIP, group);
    } catch (error) {
      if (!hasCode(error, 'EADDRNOTAVAIL', 'ENODEV')) throw error;
    }
  }

  /** struct ipv6_mreq */
  #change(verb: string, option: number, group: string): void {
    const request = Buffer.alloc(20);
    request.set(ipToBytes(group));
    request.writeInt32LE(this.#ifindex, 16);
    const result = libc.setsockopt(this.#fd, IPPROTO_IPV6, option, request, request.length);
    check(`${verb} group ${group} on link ${this.#ifindex}`, result);
  }

  /** Leaves all groups. */
  close(): void {
    if (this.#fd < 0) return;
    libc.close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
