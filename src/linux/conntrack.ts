/**
 * Connection tracking of one namespace: list, delete, count, and events (ctnetlink).
 *
 * Why it is needed: a UDP flow keeps its DNAT decision for as long as packets come. When an endpoint goes, its entries
 * must go, or clients talk to nobody. Deleting an entry whose tuple is known is a hash lookup (about 10 us); deleting
 * by filter walks the kernel's whole table, which all namespaces of the machine share. Who deletes often keeps an index
 * of flows from `subscribe` and uses `deleteFlows`.
 */
import {
  type ConntrackFilter,
  type ConntrackFlow,
  CT_DELETE,
  decodeFlow,
  decodeStatsCount,
  encodeDeleteFlow,
  encodeDeleteMatching,
  encodeDumpFlows,
  encodeFlush,
  encodeGetStats,
  isKernelFilterExact,
  matchesFilter,
} from './conntrack/codec.ts';
import { ERRNO, hasCode, isNotFound, KernelError } from './errors.ts';
import { type Monitor, watchNotifications } from './netlink/notifications.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink/socket.ts';
import { MessageWriter } from './netlink/writer.ts';
import { NetworkNamespace } from './netns.ts';

export type { ConntrackFilter, ConntrackFlow, FlowProtocol, FlowTuple } from './conntrack/codec.ts';
export { matchesFilter } from './conntrack/codec.ts';

// linux/netfilter/nfnetlink.h
const NFNLGRP_CONNTRACK_NEW = 1;
const NFNLGRP_CONNTRACK_DESTROY = 3;

/** Deletions in one send. */
const BATCH = 1000;

export interface ConntrackEvent {
  readonly type: 'new' | 'destroy';
  readonly flow: ConntrackFlow;
}

export class Conntrack implements Disposable {
  readonly #socket: NetlinkSocket;
  /** Whether this kernel deletes by filter (since 6.8); asked at the first need. */
  #deletesByFilter: boolean | undefined;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** Opens a socket in the namespace, or in the current one. */
  static open(ns?: NetworkNamespace): Conntrack {
    return new Conntrack(NetlinkSocket.open(NETLINK_NETFILTER, ns));
  }

  /** The flows that match; all without a filter. */
  list(filter: ConntrackFilter = {}): ConntrackFlow[] {
    const write = (): MessageWriter => {
      const writer = new MessageWriter();
      encodeDumpFlows(writer, filter);
      return writer;
    };
    return this.#socket.dump(write, 'list flows', (message) => {
      const flow = decodeFlow(message);
      return flow && matchesFilter(flow, filter) ? flow : undefined;
    });
  }

  /** Deletes all flows that match. Refuses an empty filter: that is `flush`. */
  delete(filter: ConntrackFilter): void {
    if (Object.values(filter).every((value) => value === undefined)) {
      throw new TypeError('an empty conntrack filter: use flush() to delete every flow');
    }
    const { family } = filter;
    if (family !== undefined && isKernelFilterExact(filter) && this.#canDeleteByFilter()) {
      this.#request((w) => encodeDeleteMatching(w, { ...filter, family }), 'delete flows by filter');
      return;
    }
    this.deleteFlows(this.list(filter));
  }

  /** Deletes one flow by its tuple; false when it was gone already. */
  deleteFlow(flow: ConntrackFlow): boolean {
    try {
      this.#request((w) => encodeDeleteFlow(w, flow), describe(flow));
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  /** Deletes many flows by their tuples; those that are gone already do not matter. */
  deleteFlows(flows: readonly ConntrackFlow[]): void {
    for (let from = 0; from < flows.length; from += BATCH) this.#deleteBatch(flows.slice(from, from + BATCH));
  }

  /** How many flows the namespace has. */
  count(): number {
    let count = 0;
    this.#request(encodeGetStats, 'count flows', (payload) => {
      count = decodeStatsCount(payload) ?? count;
    });
    return count;
  }

  /** Deletes every flow of the namespace. */
  flush(): void {
    this.#request(encodeFlush, 'flush flows');
  }

  /**
   * Reports flows as they begin and end, until closed. The kernel keeps events for flows that begin while somebody
   * listens (net.netfilter.nf_conntrack_events = 2, the default) or for all (1): `list` once after subscribing.
   * `onResync`: events were lost, list again.
   */
  subscribe(onEvent: (event: ConntrackEvent) => void, onResync: () => void): Monitor {
    using ns = NetworkNamespace.fromFd(this.#socket.namespaceFd());
    const groups = [NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY];
    return watchNotifications(
      NetlinkSocket.openMonitor(NETLINK_NETFILTER, groups, ns),
      (message) => {
        const flow = decodeFlow(message);
        if (flow) onEvent({ type: message.type === CT_DELETE ? 'destroy' : 'new', flow });
      },
      onResync,
    );
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #deleteBatch(flows: readonly ConntrackFlow[]): void {
    const writer = new MessageWriter(flows.length * 128);
    for (const flow of flows) encodeDeleteFlow(writer, flow);
    const failure = this.#socket
      .batch(writer, 'delete flows')
      .find(({ errno }) => errno !== ERRNO['ENOENT'] && errno !== ERRNO['EINTR']);
    if (failure) throw new KernelError(describe(flows[failure.index]!), failure.errno, failure.message);
  }

  /**
   * Asks with a filter that matches nothing. Kernels before 6.8 take the message for the exact tuple of one flow and
   * complain that it is incomplete.
   */
  #canDeleteByFilter(): boolean {
    if (this.#deletesByFilter !== undefined) return this.#deletesByFilter;
    try {
      // 192.0.2.0/24 is for documentation (RFC 5737), and no flow goes from an address to itself under protocol 255.
      const nothing = { family: 4, protocol: 255, origSource: '192.0.2.0', origDestination: '192.0.2.0' } as const;
      this.#request((w) => encodeDeleteMatching(w, nothing), 'try deletion by filter');
      this.#deletesByFilter = true;
    } catch (error) {
      if (!hasCode(error, 'EINVAL', 'ENOENT', 'EOPNOTSUPP')) throw error;
      this.#deletesByFilter = false;
    }
    return this.#deletesByFilter;
  }

  #request(encode: (w: MessageWriter) => void, operation: string, onPayload?: (payload: Buffer) => void): void {
    const writer = new MessageWriter();
    encode(writer);
    this.#socket.request(writer, operation, onPayload && ((message) => onPayload(message.payload)));
  }
}

function describe({ protocol, orig }: ConntrackFlow): string {
  return `delete ${protocol} flow ${orig.source}:${orig.sourcePort} to ${orig.destination}:${orig.destinationPort}`;
}
