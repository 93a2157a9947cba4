/**
 * Looks again and again: when it is poked, when the time has come that it was told of, and some time after a look has
 * failed. One look at a time; pokes during one are one more look after it.
 */
import type { Clock, Timer } from '../../../base/clock.ts';

export interface PokedLoopOptions {
  readonly clock: Clock;
  /** No look begins after it has aborted. */
  readonly signal: AbortSignal;
  readonly look: () => Promise<void>;
  /** A look has rejected: it is repeated. */
  readonly onFailure: (error: unknown) => void;
  /** The wait after a failure and its limit, milliseconds; it doubles with each failure in a row. */
  readonly retryMs: readonly [first: number, longest: number];
}

export class PokedLoop {
  readonly #options: PokedLoopOptions;
  #running: Promise<void> | undefined;
  #isDirty = false;
  #isStopped = false;
  #failures = 0;
  #timer: { readonly timer: Timer; readonly at: number } | undefined;

  constructor(options: PokedLoopOptions) {
    this.#options = options;
  }

  get isLooking(): boolean {
    return this.#running !== undefined;
  }

  /** Looks soon. */
  poke(): void {
    this.#isDirty = true;
    if (this.#isStopped || this.#options.signal.aborted) return;
    this.#running ??= this.#run();
  }

  /** Pokes itself later; the earliest wish counts. */
  wake(ms: number): void {
    const { clock } = this.#options;
    const at = clock.now() + Math.max(1, ms);
    if (this.#timer && this.#timer.at <= at && this.#timer.at > clock.now()) return;
    this.#timer?.timer.cancel();
    const timer = clock.after(Math.max(1, ms), () => {
      this.#timer = undefined;
      this.poke();
    });
    this.#timer = { timer, at };
  }

  /** Resolves when no look is under way. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  /** Forgets the time that it was told of. */
  sleep(): void {
    this.#timer?.timer.cancel();
  }

  /** No more looks. */
  stop(): void {
    this.#isStopped = true;
    this.sleep();
  }

  async #run(): Promise<void> {
    const { signal, look, onFailure, retryMs } = this.#options;
    // Let what came in together be seen together.
    await Promise.resolve();
    while (this.#isDirty && !this.#isStopped && !signal.aborted) {
      this.#isDirty = false;
      try {
        await look();
        this.#failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        const [first, longest] = retryMs;
        this.wake(Math.min(longest, first * 2 ** this.#failures++));
        onFailure(error);
      }
    }
    this.#running = undefined;
  }
}
