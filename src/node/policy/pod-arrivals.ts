/** Waiting, within a time limit, for what a new pod's rules are made of. */
import type { Clock } from '../../base/clock.ts';

/** Those who wait for a pod's API object, by "namespace/name". */
export class PodArrivals {
  readonly #clock: Clock;
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The object came or changed. */
  tell(key: string): void {
    for (const look of this.#waiting.get(key) ?? []) look();
  }

  /** Whether it is there within the time. */
  async comes(key: string, isThere: () => boolean, ms: number): Promise<boolean> {
    const came = Promise.withResolvers<void>();
    const look = () => {
      if (isThere()) came.resolve();
    };
    const waiting = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, waiting.add(look));
    try {
      await within(came.promise, ms, this.#clock, 'pod');
      return true;
    } catch {
      return false;
    } finally {
      waiting.delete(look);
      if (waiting.size === 0) this.#waiting.delete(key);
    }
  }
}

/** Rejects when the promise takes longer than so many milliseconds. */
export async function within(promise: Promise<void>, ms: number, clock: Clock, what: string): Promise<void> {
  const timeout = Promise.withResolvers<never>();
  const timer = clock.after(ms, () =>
    timeout.reject(new Error(`policy: no ${what} within ${ms} ms; the pod must not start without its rules`)),
  );
  try {
    await Promise.race([promise, timeout.promise]);
  } finally {
    timer.cancel();
  }
}
