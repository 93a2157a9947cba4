/**
 * A pool of numbers, some taken. Dynamic choice is random in the upper band and goes below only when that is full, so that
 * people may ask for fixed values in the lower band without collisions (KEP-3070, KEP-3668). Pure but for its own state.
 */
import { randomInt } from 'node:crypto';

export interface PoolOptions {
  /** Both inclusive. */
  readonly first: number;
  readonly last: number;
  /** The numbers from `first` that dynamic choice avoids while it can. */
  readonly staticBand: number;
  readonly random?: (below: number) => number;
}

/** Random tries before the pool is searched one by one. */
const RANDOM_TRIES = 16;

export class Pool {
  readonly #options: PoolOptions;
  readonly #taken = new Set<number>();

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  get takenCount(): number {
    return this.#taken.size;
  }

  contains(value: number): boolean {
    return value >= this.#options.first && value <= this.#options.last;
  }

  /** False when it is taken already. */
  take(value: number): boolean {
    if (this.#taken.has(value)) return false;
    this.#taken.add(value);
    return true;
  }

  release(value: number): void {
    this.#taken.delete(value);
  }

  /** Takes any free number; undefined when the pool is full. */
  takeAny(): number | undefined {
    const { first, last, staticBand } = this.#options;
    const middle = Math.min(first + staticBand, last + 1);
    return this.#takeBetween(middle, last) ?? this.#takeBetween(first, middle - 1);
  }

  #takeBetween(first: number, last: number): number | undefined {
    const size = last - first + 1;
    if (size <= 0) return undefined;
    const random = this.#options.random ?? ((below: number) => randomInt(below));
    for (let i = 0; i < RANDOM_TRIES; i++) {
      const value = first + random(size);
      if (this.take(value)) return value;
    }
    const start = random(size);
    for (let i = 0; i < size; i++) {
      const value = first + ((start + i) % size);
      if (this.take(value)) return value;
    }
    return undefined;
  }
}

/** The static band of a range: a part of it within bounds; none for a range that is too small to divide. */
export function staticBandOf(size: number, part: number, least: number, most: number): number {
  return size <= least ? 0 : Math.min(Math.max(Math.floor(size / part), least), most);
}
