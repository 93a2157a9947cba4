/**
 * Which nodes live, as far as this one can tell: those whose beat was heard lately. A node that is a candidate in the API
 * is given one `deadMs` from the moment it became one, so that a start of many nodes at once settles without a wait.
 */
interface Peer {
  /** On the monotonic clock, in milliseconds. */
  lastAlive: number;
  /** What its last beat said; a node that has not beaten yet is believed to be willing. */
  active: boolean;
}

export class Peers {
  readonly #deadMs: number;
  readonly #peers = new Map<string, Peer>();

  constructor(deadMs: number) {
    this.#deadMs = deadMs;
  }

  /** These nodes, and no others, may answer. */
  setCandidates(names: ReadonlySet<string>, now: number): void {
    for (const name of this.#peers.keys()) if (!names.has(name)) this.#peers.delete(name);
    for (const name of names) if (!this.#peers.has(name)) this.#peers.set(name, { lastAlive: now, active: true });
  }

  /** Notes a beat; true when it changes who lives. Beats of nodes that are no candidates are ignored. */
  heard(name: string, active: boolean, now: number): boolean {
    const peer = this.#peers.get(name);
    if (!peer) return false;
    const before = this.#lives(peer, now);
    peer.lastAlive = now;
    peer.active = active;
    return before !== active;
  }

  /** The last milliseconds do not count as silence: it was this process that slept and did not hear. */
  excuse(ms: number, now: number): void {
    for (const peer of this.#peers.values()) peer.lastAlive = Math.min(now, peer.lastAlive + ms);
  }

  /** Nobody is blamed for any silence so far. */
  forgive(now: number): void {
    for (const peer of this.#peers.values()) peer.lastAlive = now;
  }

  /** Sorted. */
  live(now: number): readonly string[] {
    return [...this.#peers].flatMap(([name, peer]) => (this.#lives(peer, now) ? [name] : [])).sort();
  }

  #lives({ lastAlive, active }: Peer, now: number): boolean {
    return active && now - lastAlive < this.#deadMs;
  }
}
