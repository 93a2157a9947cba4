/** The nftables commits of a network namespace, as the kernel tells of them: what `nft monitor` shows, with the moment. */
import { ipToBytes } from '../../../src/base/ip.ts';
import { type Monitor, watchNotifications } from '../../../src/linux/netlink/notifications.ts';
import type { NetlinkMessage } from '../../../src/linux/netlink/reader.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../../../src/linux/netlink/socket.ts';
import type { NetworkNamespace } from '../../../src/linux/netns.ts';

// linux/netfilter/nfnetlink.h, nf_tables.h
const NFNLGRP_NFTABLES = 7;
const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_NEWGEN = 15;
const NEWGEN = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN;

interface Awaited {
  readonly bytes: Buffer;
  /** Seen in the transaction that the kernel is telling of. */
  seen: boolean;
  resolve(at: number | undefined): void;
}

/**
 * The kernel tells of a transaction after it is in force: of every object in it, and last of the new generation. An IPv4 address
 * that is nowhere else marks the transaction that brought it, in whatever layout: rules, anonymous sets and map elements all
 * have its four bytes.
 */
export class Commits implements Disposable {
  readonly #monitor: Monitor;
  readonly #awaited = new Set<Awaited>();

  constructor(ns: NetworkNamespace) {
    this.#monitor = watchNotifications(
      NetlinkSocket.openMonitor(NETLINK_NETFILTER, [NFNLGRP_NFTABLES], ns),
      (message) => this.#take(message),
      () => this.#settle(undefined, () => true),
    );
  }

  /** performance.now() of the generation that brought the address; undefined when the kernel lost messages meanwhile. */
  bringing(address: string): Promise<number | undefined> {
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    this.#awaited.add({ bytes: Buffer.from(ipToBytes(address)), seen: false, resolve });
    return promise;
  }

  #take({ type, payload }: NetlinkMessage): void {
    if (type === NEWGEN) this.#settle(performance.now(), ({ seen }) => seen);
    else for (const each of this.#awaited) each.seen ||= payload.includes(each.bytes);
  }

  #settle(at: number | undefined, which: (one: Awaited) => boolean): void {
    for (const each of this.#awaited) {
      if (!which(each)) continue;
      this.#awaited.delete(each);
      each.resolve(at);
    }
  }

  [Symbol.dispose](): void {
    this.#monitor.close();
  }
}
