/**
 * Runs one function at a bounded frequency: at once when it has rested, at most once per interval under a storm, and
 * never twice at the same time. What is asked for during a run is done by the next one, so nothing is lost.
 */
import { type Clock, systemClock, type Timer } from './clock.ts';
import { isAbort, messageOf } from './errors.ts';
import type { Logger } from './log.ts';

export interface BoundedRunnerOptions {
  readonly name: string;
  readonly run: (signal: AbortSignal) => Promise<void> | void;
  readonly log: Logger;
  /** The least time between the starts of two runs, in milliseconds. */
  readonly minIntervalMs: number;
  /** Runs also when nobody asked, this often; off when absent. */
  readonly maxIntervalMs?: number;
  /** The wait after a failed run, doubled up to 30 s. */
  readonly retryMs?: number;
  readonly clock?: Clock;
}

export class BoundedRunner {
  readonly #options: BoundedRunnerOptions;
  readonly #clock: Clock;
  #signal: AbortSignal | undefined;
  #asked = false;
  #running = false;
  #lastStart = Number.NEGATIVE_INFINITY;
  #failures = 0;
  #timer: Timer | undefined;

  constructor(options: BoundedRunnerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  start(signal: AbortSignal): void {
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#timer?.cancel(), { once: true });
    this.#plan();
  }

  /** Asks for a run. Cheap; call it for every change. */
  trigger(): void {
    this.#asked = true;
    this.#plan();
  }

  #plan(): void {
    if (!this.#signal || this.#signal.aborted || this.#running) return;
    const { minIntervalMs, maxIntervalMs } = this.#options;
    if (!this.#asked && maxIntervalMs === undefined) return;
    this.#timer?.cancel();
    const retry = this.#failures ? Math.min(30_000, (this.#options.retryMs ?? 50) * 2 ** (this.#failures - 1)) : 0;
    const interval = this.#asked ? Math.max(minIntervalMs, retry) : maxIntervalMs!;
    const wait = this.#lastStart + interval - this.#clock.now();
    if (wait <= 0) void this.#run(this.#signal);
    else this.#timer = this.#clock.after(wait, () => void this.#run(this.#signal!));
  }

  async #run(signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.#running) return;
    this.#running = true;
    this.#asked = false;
    this.#lastStart = this.#clock.now();
    try {
      await this.#options.run(signal);
      this.#failures = 0;
    } catch (error) {
      if (!(signal.aborted && isAbort(error))) {
        this.#failures++;
        this.#asked = true;
        this.#options.log.warn({ runner: this.#options.name, failures: this.#failures, error }, messageOf(error));
      }
    } finally {
      this.#running = false;
      this.#plan();
    }
  }
}
