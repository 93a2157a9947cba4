/**
 * Answers for the addresses that fell to this node, and says so when it takes one over: in user space, from the agent's own
 * process, so that an agent that is dead or stopped is silent and never answers beside the node that took over. (A proxy
 * entry or an address on an interface would make the kernel go on answering.) For addresses of a node whose agent is away
 * while its kernel forwards it says where that node is.
 */
import { type Clock, systemClock, type Timer } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { IpAddress } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import { type Duties, NO_DUTIES } from './render.ts';
import { type ArpPacket, isArpAnnouncement } from './wire/arp.ts';
import type { Link } from './wire/link.ts';
import type { NeighbourMessage } from './wire/ndp.ts';

export interface AnnouncerOptions {
  readonly log: Logger;
  readonly clock?: Clock;
}

/** When a taken address is announced again after the first time, in milliseconds: announcements can be lost. */
const REPEATS_MS = [100, 400, 1000, 3000] as const;
/** Somebody else's claim of an address is answered at most this often (RFC 5227's DEFEND_INTERVAL is 10 s). */
const DEFEND_MS = 1000;

export class Announcer {
  readonly #log: Logger;
  readonly #clock: Clock;
  /** Each with the time of its last announcement. */
  readonly #owned = new Map<IpAddress, number>();
  readonly #timers = new Set<Timer>();
  /** With the MACs of the nodes that have them. */
  #standIn: ReadonlyMap<IpAddress, string> = new Map();
  #link: Link | undefined;
  readonly stats = { taken: 0, released: 0, answered: 0, defended: 0, vouched: 0 };

  constructor({ log, clock = systemClock }: AnnouncerOptions) {
    this.#log = log;
    this.#clock = clock;
  }

  get owned(): readonly IpAddress[] {
    return [...this.#owned.keys()].sort();
  }

  /** Everything goes over this link from now on; undefined while there is none. What is owned is announced on it. */
  setLink(link: Link | undefined): void {
    this.#link = link;
    if (!link) return;
    for (const address of [...this.#owned.keys(), ...this.#standIn.keys()]) this.#listen(address, 'join');
    this.#announce([...this.#owned.keys()]);
  }

  /** Answers for these addresses and no others. Returns those of its own that are new. */
  set({ own, standIn }: Duties): readonly IpAddress[] {
    const wanted = new Set(own);
    const heard = new Set([...this.#owned.keys(), ...this.#standIn.keys()]);
    for (const address of this.#owned.keys()) if (!wanted.has(address)) this.#release(address);
    const taken = own.filter((address) => !this.#owned.has(address));
    for (const address of taken) this.#owned.set(address, this.#clock.now());
    this.#standIn = standIn;
    const hears = new Set([...own, ...standIn.keys()]);
    for (const address of heard.difference(hears)) this.#listen(address, 'leave');
    for (const address of hears.difference(heard)) this.#listen(address, 'join');
    this.stats.taken += taken.length;
    if (taken.length > 0) this.#announceRepeatedly(taken);
    return taken;
  }

  #release(address: IpAddress): void {
    this.#owned.delete(address);
    this.stats.released++;
  }

  #listen(address: IpAddress, how: 'join' | 'leave'): void {
    if (address.includes(':')) this.#attempt((link) => link.listenFor(address, how));
  }

  #announceRepeatedly(addresses: readonly IpAddress[]): void {
    this.#announce(addresses);
    for (const ms of REPEATS_MS) {
      const timer = this.#clock.after(ms, () => {
        this.#timers.delete(timer);
        this.#announce(addresses);
      });
      this.#timers.add(timer);
    }
  }

  /** Those that are still ours. */
  #announce(addresses: readonly IpAddress[]): void {
    for (const address of addresses) {
      if (!this.#owned.has(address)) continue;
      this.#owned.set(address, this.#clock.now());
      this.#attempt((link) => link.announce(address));
    }
  }

  /** A packet of ARP that somebody sent. */
  onArp(packet: ArpPacket): void {
    if (isArpAnnouncement(packet)) this.#defend(packet.sender, packet.senderMac);
    else if (packet.operation === 'request') this.#answer(packet.target, (link, mac) => link.answerArp(packet, mac));
  }

  onNeighbour(message: NeighbourMessage): void {
    const { target, type, senderMac } = message;
    if (type === 'advertisement') this.#defend(target, senderMac);
    else this.#answer(target, (link, mac) => link.answerNeighbour(message, mac));
  }

  /** With this node's MAC, or with that of the node that it stands in for. */
  #answer(address: IpAddress, answer: (link: Link, mac: string) => void): void {
    const isOwn = this.#owned.has(address);
    const mac = isOwn ? this.#link?.mac : this.#standIn.get(address);
    if (mac === undefined) return;
    this.stats[isOwn ? 'answered' : 'vouched']++;
    this.#attempt((link) => answer(link, mac));
  }

  /** Somebody else says that one of our addresses is theirs, as when a cut-off node comes back: the last word is ours. */
  #defend(address: IpAddress, mac: string): void {
    const last = this.#owned.get(address);
    if (last === undefined || mac === this.#link?.mac) return;
    const wait = last + DEFEND_MS - this.#clock.now();
    this.stats.defended++;
    this.#log.warn({ address, mac }, 'somebody else claims an address that is announced here');
    const timer = this.#clock.after(Math.max(0, wait), () => {
      this.#timers.delete(timer);
      this.#announce([address]);
    });
    this.#timers.add(timer);
  }

  #attempt(action: (link: Link) => void): void {
    try {
      if (this.#link) action(this.#link);
    } catch (error) {
      this.#log.debug({ error }, `announcing: ${messageOf(error)}`);
    }
  }

  /** Falls silent. */
  stop(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
    this.set(NO_DUTIES);
    this.#link = undefined;
  }
}
