/** The last durations of something, for percentiles; a fixed amount of memory. */
export class Durations {
  readonly #ring: Float64Array;
  #count = 0;

  constructor(capacity = 1024) {
    this.#ring = new Float64Array(capacity);
  }

  /** Milliseconds. */
  add(ms: number): void {
    this.#ring[this.#count++ % this.#ring.length] = ms;
  }

  get count(): number {
    return this.#count;
  }

  /** The given part (0.5, 0.99) of those kept took at most this many milliseconds; 0 when there are none. */
  percentile(part: number): number {
    const kept = this.#ring.subarray(0, Math.min(this.#count, this.#ring.length)).toSorted();
    return kept.length === 0 ? 0 : kept[Math.min(kept.length - 1, Math.floor(part * kept.length))]!;
  }
}
