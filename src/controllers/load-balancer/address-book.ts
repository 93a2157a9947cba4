/**
 * Who has which address. Taking is synchronous, so no address is ever given twice; a Service that asks again gets what it
 * has. Pure but for its own state.
 *
 * The next address of a pool is the one after the last that was given: what was released is used again only after all
 * others, because caches and clients remember an address for a while.
 */
import { type Family, formatIp, type IpAddress, ipToBigInt } from '../../base/ip.ts';
import { type AddressRange, formatRange } from '../../base/ip-range.ts';
import { type AddressPool, poolContains } from './pools.ts';

export class AddressBook {
  readonly #owners = new Map<IpAddress, string>();
  readonly #held = new Map<string, Set<IpAddress>>();
  /** The last value given of each range, by its text. */
  readonly #last = new Map<string, bigint>();
  #pools: readonly AddressPool[] = [];

  setPools(pools: readonly AddressPool[]): void {
    this.#pools = pools;
  }

  ownerOf(address: IpAddress): string | undefined {
    return this.#owners.get(address);
  }

  /** What a Service has, in the order in which it got it. */
  heldBy(service: string): readonly IpAddress[] {
    return [...(this.#held.get(service) ?? [])];
  }

  poolOf(address: IpAddress): AddressPool | undefined {
    return this.#pools.find((pool) => poolContains(pool, address));
  }

  /** False when another Service has it. */
  take(address: IpAddress, service: string): boolean {
    const owner = this.#owners.get(address);
    if (owner !== undefined) return owner === service;
    this.#owners.set(address, service);
    const held = this.#held.get(service) ?? new Set();
    this.#held.set(service, held.add(address));
    return true;
  }

  /** Takes any address of a family that is free and not `excluded` (a node's own); undefined when the pools are used up. */
  takeAny(family: Family, service: string, excluded: ReadonlySet<string>): IpAddress | undefined {
    for (const pool of this.#pools) {
      if (!pool.autoAssign) continue;
      for (const range of pool.ranges) {
        const address = range.family === family ? this.#freeOf(range, excluded) : undefined;
        if (address === undefined) continue;
        this.#last.set(formatRange(range), ipToBigInt(address));
        this.take(address, service);
        return address;
      }
    }
    return undefined;
  }

  #freeOf(range: AddressRange, excluded: ReadonlySet<string>): IpAddress | undefined {
    const { family, first, last } = range;
    const start = (this.#last.get(formatRange(range)) ?? first - 1n) + 1n;
    const search = (from: bigint, to: bigint) => {
      for (let value = from; value <= to; value++) {
        const address = formatIp(family, value);
        if (!this.#owners.has(address) && !excluded.has(address)) return address;
      }
      return undefined;
    };
    return search(start, last) ?? search(first, start - 1n < last ? start - 1n : last);
  }

  /** Whether any pool gives addresses of the family to those that ask for none. */
  serves(family: Family): boolean {
    return this.#pools.some((pool) => pool.autoAssign && pool.ranges.some((range) => range.family === family));
  }

  release(address: IpAddress): void {
    const owner = this.#owners.get(address);
    if (owner === undefined) return;
    this.#owners.delete(address);
    const held = this.#held.get(owner)!;
    held.delete(address);
    if (held.size === 0) this.#held.delete(owner);
  }

  /** Everything that a Service has; true when that was anything. */
  releaseAll(service: string): boolean {
    const held = this.heldBy(service);
    for (const address of held) this.release(address);
    return held.length > 0;
  }
}
