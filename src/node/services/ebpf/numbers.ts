/**
 * Numbers for what lies in arrays that programs read while they change: what was given back is not given out again before
 * every program that may still look at it has ended (`Reclaimer`).
 */

/** Thrown when an array has no place left: everything has to be written anew into larger ones. */
export class FullError extends Error {
  override readonly name = 'FullError';
}

/** Calls back after every program that runs now has ended; given to few, because waiting for it takes 10-30 ms. */
export type GracePeriod = () => Promise<void>;

/** Collects what was given back, and frees all of it together, one grace period after the other. */
export class Reclaimer {
  readonly #gracePeriod: GracePeriod;
  readonly #batch: number;
  #waiting: (() => void)[] = [];
  #running = false;

  /** A grace period begins when `batch` things wait for it. */
  constructor(gracePeriod: GracePeriod, batch = 256) {
    this.#gracePeriod = gracePeriod;
    this.#batch = batch;
  }

  /** Calls `free` when no program can look at the thing any more. */
  retire(free: () => void): void {
    this.#waiting.push(free);
    if (this.#waiting.length >= this.#batch && !this.#running) void this.#run();
  }

  /** What waits. */
  get size(): number {
    return this.#waiting.length;
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      while (this.#waiting.length >= this.#batch) {
        const due = this.#waiting;
        this.#waiting = [];
        await this.#gracePeriod();
        for (const free of due) free();
      }
    } catch {
      // Nothing is freed without a grace period: the arrays fill up, and are written anew.
    } finally {
      this.#running = false;
    }
  }
}

/** Single numbers from 0 to `size` - 1. */
export class Numbers {
  readonly #size: number;
  readonly #free: number[] = [];
  #next = 0;

  constructor(size: number) {
    this.#size = size;
  }

  take(): number {
    const number = this.#free.pop() ?? this.#next++;
    if (number >= this.#size) throw new FullError(`all of ${this.#size} numbers are taken`);
    return number;
  }

  giveBack(number: number): void {
    this.#free.push(number);
  }
}

/** Runs of numbers, their lengths powers of two. */
export class Blocks {
  readonly #size: number;
  readonly #free = new Map<number, number[]>();
  #next = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** The first number of a run of `length`. */
  take(length: number): number {
    const known = this.#free.get(length)?.pop();
    if (known !== undefined) return known;
    const first = this.#next;
    if (first + length > this.#size) throw new FullError(`no run of ${length} is left of ${this.#size}`);
    this.#next += length;
    return first;
  }

  giveBack(first: number, length: number): void {
    const list = this.#free.get(length);
    if (list) list.push(first);
    else this.#free.set(length, [first]);
  }
}

/** The least power of two that is not less, at least 1. */
export function powerOfTwo(count: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, count)));
}
