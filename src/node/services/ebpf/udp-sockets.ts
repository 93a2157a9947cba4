/**
 * Moves connected UDP sockets off endpoints that are gone. A socket is translated when it connects and never again, so a
 * client that keeps its socket would talk to nobody for good; conntrack, which other modes clear, knows nothing of it.
 *
 * The programs keep a list of connected UDP sockets. Those at an endpoint that its frontend has no more are connected again,
 * by this process, on a second descriptor of the same socket: to the Service's address, which the connect program translates
 * as for anybody. The client notices nothing, and keeps its source port. Where the Service has no endpoint, or is no more, the
 * socket is connected to the Service's address itself, and the nftables rules refuse what it sends.
 */
import { type Clock, systemClock, type Timer } from '../../../base/clock.ts';
import { messageOf } from '../../../base/errors.ts';
import type { Logger } from '../../../base/log.ts';
import { cgroupTree } from '../../../linux/cgroup.ts';
import { connectAgain, peerAddress, visitSockets } from '../../../linux/foreign-sockets.ts';
import type { EndpointText } from '../model.ts';
import { plainAddress, type UdpSocket } from './schema.ts';

/** The least time between the starts of two passes, in milliseconds. */
const MIN_PASS_MS = 50;

export interface UdpSocketsOptions {
  /** The node's control group: processes below it may hold sockets. */
  readonly cgroup: string;
  readonly list: () => readonly UdpSocket[];
  /** The endpoints of a frontend now; undefined when sockets are not translated there. */
  readonly endpointsOf: (frontend: string) => readonly EndpointText[] | undefined;
  readonly log: Logger;
  readonly clock?: Clock;
}

export class UdpSockets {
  readonly #options: UdpSocketsOptions;
  readonly #clock: Clock;
  #stale = false;
  #lastPass = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  readonly stats = { passes: 0, moved: 0 };

  constructor(options: UdpSocketsOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Notes that some UDP frontend has lost an endpoint. Call `clear` when that is in force. */
  note(before: readonly EndpointText[], after: readonly EndpointText[]): void {
    if (this.#stale || before.length === 0 || before === after) return;
    const left = new Set(after);
    this.#stale = before.some((endpoint) => !left.has(endpoint));
  }

  /** Moves sockets if anything was noted, now or a little later. Never throws: a failure is logged. */
  clear(): void {
    if (!this.#stale || this.#timer) return;
    const wait = this.#lastPass + MIN_PASS_MS - this.#clock.now();
    if (wait <= 0) this.#pass();
    else {
      this.#timer = this.#clock.after(wait, () => {
        this.#timer = undefined;
        this.#pass();
      });
    }
  }

  /** Compares all of them: after a start or a rebuild, when nobody knows what changed. */
  clearAll(): void {
    this.#stale = true;
    this.clear();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #pass(): void {
    this.#stale = false;
    this.#lastPass = this.#clock.now();
    this.stats.passes++;
    try {
      const stale = new Map(this.#staleSockets().map((socket) => [socket.cookie, socket]));
      for (const process of new Set([...stale.values()].map((socket) => socket.process))) this.#move(process, stale);
      if (stale.size === 0) return;
      for (const process of cgroupTree(this.#options.cgroup)) this.#move(process, stale);
    } catch (error) {
      this.#options.log.warn({ error }, `UDP sockets of endpoints that are gone: ${messageOf(error)}`);
    }
  }

  #staleSockets(): readonly UdpSocket[] {
    const known = new Map<string, ReadonlySet<EndpointText>>();
    return this.#options.list().filter(({ frontend, endpoint }) => {
      let endpoints = known.get(frontend);
      if (!endpoints) {
        endpoints = new Set(this.#options.endpointsOf(frontend) ?? []);
        known.set(frontend, endpoints);
      }
      return !endpoints.has(endpoint);
    });
  }

  /** Connects the sockets that a process has again, and takes them off the list. */
  #move(process: number, stale: Map<bigint, UdpSocket>): void {
    if (stale.size === 0) return;
    visitSockets(
      process,
      (cookie) => stale.has(cookie),
      (fd, cookie) => {
        const { frontend } = stale.get(cookie)!;
        stale.delete(cookie);
        const peer = peerAddress(fd);
        // Meanwhile it may have been connected to something else, or to nothing.
        if (!peer || `${plainAddress(peer.address)} . udp . ${peer.port}` !== frontend) return;
        try {
          connectAgain(fd, peer.bytes);
          this.stats.moved++;
        } catch (error) {
          this.#options.log.warn({ error, frontend }, `a UDP socket could not be moved: ${messageOf(error)}`);
        }
      },
    );
  }
}
