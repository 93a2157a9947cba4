/**
 * Which nodes live, and which of them speak for themselves, as far as this one can tell.
 *
 *     beats come                                     speaks and lives
 *     no beat for silentMs, or it said goodbye       does not speak; its kernel is asked (ARP, NDP)
 *       its kernel answers                           lives: it still forwards; others speak for it, at most absentMs
 *       no answer either for deadMs                  dead, until its next beat
 *
 * A node that is a candidate in the API is given one `deadMs` from the moment it became one, so that a start of many nodes
 * at once settles without a wait. Pure.
 */
import type { IpAddress } from '../../base/ip.ts';

/** All in milliseconds. */
export interface PeerTimes {
  /** Without a beat for so long an agent does not answer questions. */
  readonly silentMs: number;
  /** Without a beat or an answer of its kernel for so long a node is dead. */
  readonly deadMs: number;
  /** So long others speak for a node whose agent is away: what its kernel forwards by grows old. */
  readonly absentMs: number;
}

interface Peer {
  /** What its kernel is asked for; undefined where it cannot be asked. */
  address: IpAddress | undefined;
  /** Where its beats come from; undefined before the first. */
  mac: string | undefined;
  /** On the monotonic clock, in milliseconds. */
  lastBeat: number;
  /** When its kernel last answered a question. */
  lastAnswer: number;
  /** What its last beat said; a node that has not beaten yet is believed to be willing. */
  active: boolean;
}

/** A node whose kernel can be asked whether it is there. */
export interface SilentPeer {
  readonly address: IpAddress;
  readonly mac: string;
}

/** What is known of a node that lives. */
export interface Presence {
  /** Whether its agent answers questions. */
  readonly speaks: boolean;
  /** Where others may say that it is; absent while it speaks for itself, and before its kernel has answered. */
  readonly mac?: string | undefined;
}

export class Peers {
  readonly #times: PeerTimes;
  readonly #peers = new Map<string, Peer>();

  constructor(times: PeerTimes) {
    this.#times = times;
  }

  /** These nodes, and no others, may answer; each with the address that its kernel can be asked for. */
  setCandidates(candidates: ReadonlyMap<string, IpAddress | undefined>, now: number): void {
    for (const name of this.#peers.keys()) if (!candidates.has(name)) this.#peers.delete(name);
    for (const [name, address] of candidates) {
      const peer = this.#peers.get(name);
      if (peer) peer.address = address;
      else {
        const lastAnswer = Number.NEGATIVE_INFINITY;
        this.#peers.set(name, { address, mac: undefined, lastBeat: now, lastAnswer, active: true });
      }
    }
  }

  /** Notes a beat; true when it changes who lives or speaks. Beats of nodes that are no candidates are ignored. */
  heard(name: string, active: boolean, mac: string, now: number): boolean {
    const peer = this.#peers.get(name);
    if (!peer) return false;
    const before = { lives: this.#lives(peer, now), speaks: this.#speaks(peer, now), mac: peer.mac };
    peer.lastBeat = now;
    peer.active = active;
    peer.mac = mac;
    return before.mac !== mac || before.lives !== this.#lives(peer, now) || before.speaks !== active;
  }

  /** Notes that a kernel said that an address is at a MAC; true when others may speak for its node from now on. */
  answered(address: IpAddress, mac: string, now: number): boolean {
    for (const peer of this.#peers.values()) {
      if (peer.address !== address || peer.mac !== mac || !this.#isAsked(peer, now)) continue;
      const wasVouched = isVouched(peer);
      peer.lastAnswer = now;
      return !wasVouched;
    }
    return false;
  }

  /** The nodes that live as far as is known, and whose agents are silent. */
  silent(now: number): readonly SilentPeer[] {
    return [...this.#peers.values()]
      .filter((peer): peer is Peer & SilentPeer => this.#isAsked(peer, now))
      .map(({ address, mac }) => ({ address, mac }));
  }

  /** The last milliseconds do not count as silence: it was this process that slept and did not hear. */
  excuse(ms: number, now: number): void {
    for (const peer of this.#peers.values()) {
      peer.lastBeat = Math.min(now, peer.lastBeat + ms);
      peer.lastAnswer = Math.min(now, peer.lastAnswer + ms);
    }
  }

  /** Nobody is blamed for any silence so far. */
  forgive(now: number): void {
    for (const peer of this.#peers.values()) peer.lastBeat = now;
  }

  /** The nodes that live, by name. */
  living(now: number): ReadonlyMap<string, Presence> {
    const living = new Map<string, Presence>();
    for (const [name, peer] of this.#peers) {
      if (!this.#lives(peer, now)) continue;
      const speaks = this.#speaks(peer, now);
      living.set(name, speaks || !isVouched(peer) ? { speaks } : { speaks, mac: peer.mac });
    }
    return living;
  }

  #speaks({ active, lastBeat }: Peer, now: number): boolean {
    return active && now - lastBeat < this.#times.silentMs;
  }

  #lives({ active, address, lastBeat, lastAnswer }: Peer, now: number): boolean {
    const { deadMs, absentMs } = this.#times;
    if (!active && address === undefined) return false;
    return now - Math.max(lastBeat, lastAnswer) < deadMs && now - lastBeat < absentMs;
  }

  #isAsked(peer: Peer, now: number): peer is Peer & SilentPeer {
    const { address, mac } = peer;
    return address !== undefined && mac !== undefined && !this.#speaks(peer, now) && this.#lives(peer, now);
  }
}

/** Whether its kernel has answered since its agent fell silent. */
function isVouched({ lastBeat, lastAnswer }: Peer): boolean {
  return lastAnswer > lastBeat;
}
