/**
 * Numbers for names, for use inside the kernel. A number is made from a digest of its name, so an agent that starts anew,
 * or that saw the same changes in another order, gives the same numbers and finds its old elements in the kernel right as
 * they are. Two names of one digest (5,000 names: one chance in a hundred) get neighbouring numbers; then, and only then,
 * the order matters.
 */
import { createHash } from 'node:crypto';

/** 30 bits: below the bits of src/base/packet-marks.ts. */
const space = 0x40000000;
/** Numbers below are set aside for fixed meanings. */
const first = 16;

export class Numbers {
  readonly #byName = new Map<string, number>();
  readonly #used = new Set<number>();
  readonly #digest: (name: string) => number;

  constructor(digest: (name: string) => number = digestOf) {
    this.#digest = digest;
  }

  /** The number of the name; the same until it is released. */
  acquire(name: string): number {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    let number = this.#digest(name);
    while (number < first || this.#used.has(number)) number = (number + 1) % space;
    this.#used.add(number);
    this.#byName.set(name, number);
    return number;
  }

  release(name: string): void {
    const number = this.#byName.get(name);
    if (number === undefined) return;
    this.#byName.delete(name);
    this.#used.delete(number);
  }
}

function digestOf(name: string): number {
  return createHash('sha256').update(name).digest().readUInt32BE() % space;
}
