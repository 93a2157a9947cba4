/**
 * A queue of keys to reconcile. A key is in the queue at most once; a key that is added while it is worked on is worked
 * on again afterwards; one key is never worked on by two workers at once. Level-triggered: the queue carries keys, never
 * events, so its size is bounded by the number of objects.
 */
import { type Clock, systemClock } from './clock.ts';
import { isAbort, messageOf } from './errors.ts';
import type { Logger } from './log.ts';

/** What a reconcile returns: done, or look at the key again after so many milliseconds. */
export type ReconcileResult = { readonly requeueAfterMs: number } | undefined | void;

export interface WorkQueueOptions {
  /** For logs. */
  readonly name: string;
  readonly reconcile: (key: string, signal: AbortSignal) => Promise<ReconcileResult>;
  readonly log: Logger;
  /** Keys worked on at the same time; default 1. */
  readonly workers?: number;
  readonly clock?: Clock;
  /** First and longest wait after a failure, in milliseconds; doubled each time. */
  readonly backoffMs?: readonly [first: number, longest: number];
}

export class WorkQueue {
  readonly #options: WorkQueueOptions;
  readonly #clock: Clock;
  readonly #waiting = new Set<string>();
  readonly #active = new Set<string>();
  readonly #again = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #delayed = new Map<string, { at: number; cancel(): void }>();
  #signal: AbortSignal | undefined;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Keys waiting or being worked on. */
  get size(): number {
    return this.#waiting.size + this.#active.size;
  }

  /** Begins to work; keys added before are kept. */
  start(signal: AbortSignal): void {
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#stop(), { once: true });
    this.#pump();
  }

  add(key: string): void {
    if (this.#signal?.aborted) return;
    if (this.#active.has(key)) {
      this.#again.add(key);
      return;
    }
    this.#waiting.add(key);
    this.#pump();
  }

  /** Adds the key after the given milliseconds, unless an earlier addition is already planned. */
  addAfter(key: string, ms: number): void {
    if (this.#signal?.aborted) return;
    const at = this.#clock.now() + ms;
    const planned = this.#delayed.get(key);
    if (planned && planned.at <= at) return;
    planned?.cancel();
    const timer = this.#clock.after(ms, () => {
      this.#delayed.delete(key);
      this.add(key);
    });
    this.#delayed.set(key, { at, cancel: () => timer.cancel() });
  }

  #pump(): void {
    while (this.#signal && !this.#signal.aborted && this.#active.size < (this.#options.workers ?? 1)) {
      const [key] = this.#waiting;
      if (key === undefined) return;
      this.#waiting.delete(key);
      this.#active.add(key);
      void this.#work(key, this.#signal);
    }
  }

  async #work(key: string, signal: AbortSignal): Promise<void> {
    try {
      const result = await this.#options.reconcile(key, signal);
      this.#failures.delete(key);
      if (result) this.addAfter(key, result.requeueAfterMs);
    } catch (error) {
      if (!(signal.aborted && isAbort(error))) this.#retry(key, error);
    } finally {
      this.#active.delete(key);
      if (this.#again.delete(key)) this.#waiting.add(key);
      this.#pump();
    }
  }

  #retry(key: string, error: unknown): void {
    const [first, longest] = this.#options.backoffMs ?? [20, 30_000];
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const wait = Math.min(longest, first * 2 ** Math.min(failures, 30));
    this.#options.log.warn(
      { queue: this.#options.name, key, failures: failures + 1, waitMs: wait, error },
      messageOf(error),
    );
    this.addAfter(key, wait);
  }

  #stop(): void {
    for (const timer of this.#delayed.values()) timer.cancel();
    this.#delayed.clear();
    this.#waiting.clear();
    this.#again.clear();
  }
}
