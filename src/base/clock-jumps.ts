/**
 * Notices that time went on without this process: it was stopped, its machine slept or got no processor, or somebody set the
 * clock. Whoever measures the silence of others must not blame them for it.
 */
import type { Clock } from './clock.ts';

export class ClockJumps {
  readonly #clock: Clock;
  readonly #periodMs: number;
  #last: number;

  /** `look` is called at least each `periodMs`; smaller delays are no jumps. */
  constructor(clock: Clock, periodMs: number) {
    this.#clock = clock;
    this.#periodMs = periodMs;
    this.#last = clock.now();
  }

  /** Milliseconds that the clock jumped since the last look; 0 as a rule, negative when it was set back. */
  look(): number {
    const now = this.#clock.now();
    const passed = now - this.#last;
    this.#last = now;
    if (passed < 0) return passed;
    return passed > 2 * this.#periodMs ? passed - this.#periodMs : 0;
  }
}
