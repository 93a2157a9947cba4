/**
 * The addresses that DNS answers gave for names that policies know. The node's DNS server tells of an answer before it sends
 * it, so that the pod that asked finds its address allowed. An address is good for the answer's time to live and a while
 * longer, because a client connects some time after it asked; established connections go on after that, as always.
 *
 * What is learned is of this node, and of the time since its agent started: another node's pods ask their own server.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { type IpAddress, isIp, parseIp } from '../../base/ip.ts';
import { canonicalName } from './address-peers.ts';

export interface ResolvedAddress {
  readonly address: string;
  /** Seconds. */
  readonly ttl: number;
}

export interface DomainNamesOptions {
  /** Whether any policy would like to know of the name (canonical). */
  readonly wants: (name: string) => boolean;
  /** The names that the address has from now on; none: it has no name any more. */
  readonly set: (address: IpAddress, names: readonly string[]) => void;
  /** Something expired. */
  readonly onExpired: () => void;
  readonly clock: Clock;
  /** Default 10,000 addresses; beyond, the ones that would expire first go. */
  readonly most?: number;
}

/** How much longer than its time to live an address is good: milliseconds. */
export const graceMs = 30_000;
/** Times to live are believed up to a day. */
const longestMs = 86_400_000;

export class DomainNames {
  readonly #options: DomainNamesOptions;
  /** When each name of an address expires, by the clock. */
  readonly #byAddress = new Map<IpAddress, Map<string, number>>();
  #timer: Timer | undefined;

  constructor(options: DomainNamesOptions) {
    this.#options = options;
  }

  /**
   * An answer: `names` are the one that was asked and those its aliases led to; all of them lead to these addresses.
   * Whether an address got a name that it did not have.
   */
  learn(names: readonly string[], addresses: readonly ResolvedAddress[]): boolean {
    const wanted = names.map(canonicalName).filter(this.#options.wants);
    if (wanted.length === 0) return false;
    let isNew = false;
    for (const { address: text, ttl } of addresses) {
      if (!isIp(text)) continue;
      const address = parseIp(text);
      const until = this.#options.clock.now() + Math.min(ttl * 1000, longestMs) + graceMs;
      const known = this.#byAddress.get(address) ?? new Map<string, number>();
      const added = wanted.filter((name) => !known.has(name));
      for (const name of wanted) known.set(name, Math.max(until, known.get(name) ?? 0));
      this.#byAddress.set(address, known);
      if (added.length === 0) continue;
      isNew = true;
      this.#options.set(address, [...known.keys()]);
    }
    this.#bound();
    this.#schedule();
    return isNew;
  }

  /** Ends the timer. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #expire(): void {
    const now = this.#options.clock.now();
    let expired = false;
    for (const [address, names] of this.#byAddress) {
      const gone = [...names].filter(([, until]) => until <= now);
      if (gone.length === 0) continue;
      for (const [name] of gone) names.delete(name);
      this.#set(address, names);
      expired = true;
    }
    this.#schedule();
    if (expired) this.#options.onExpired();
  }

  #set(address: IpAddress, names: ReadonlyMap<string, number>): void {
    if (names.size === 0) this.#byAddress.delete(address);
    this.#options.set(address, [...names.keys()]);
  }

  #bound(): void {
    const over = this.#byAddress.size - (this.#options.most ?? 10_000);
    if (over <= 0) return;
    const byEnd = [...this.#byAddress].sort(([, a], [, b]) => Math.max(...a.values()) - Math.max(...b.values()));
    for (const [address] of byEnd.slice(0, over)) this.#set(address, new Map());
  }

  #schedule(): void {
    this.stop();
    let next = Number.POSITIVE_INFINITY;
    for (const names of this.#byAddress.values()) for (const until of names.values()) next = Math.min(next, until);
    if (next === Number.POSITIVE_INFINITY) return;
    const { clock } = this.#options;
    this.#timer = clock.after(Math.max(0, next - clock.now()), () => this.#expire());
  }
}
