/**
 * The wait before a thing that keeps failing is tried again: 10 s, doubled up to 300 s, forgotten after 10 minutes
 * without a failure (client-go's flowcontrol.Backoff with the kubelet's numbers). The first retry is immediate.
 */
export const FIRST_BACKOFF_MS = 10_000;
export const LONGEST_BACKOFF_MS = 300_000;
const FORGET_MS = 2 * LONGEST_BACKOFF_MS;

interface Entry {
  readonly delay: number;
  /** When the delay was last raised. */
  readonly at: number;
}

export class RestartBackoff {
  readonly #entries = new Map<string, Entry>();

  /** The present delay of a key, 0 when it has not failed. */
  delay(key: string): number {
    return this.#entries.get(key)?.delay ?? 0;
  }

  /** Milliseconds until a thing that ended at `endedAt` may start again; 0 when it may now. */
  remaining(key: string, endedAt: number, now: number): number {
    const entry = this.#entries.get(key);
    if (!entry || endedAt - entry.at > FORGET_MS) return 0;
    return Math.max(0, endedAt + entry.delay - now);
  }

  /** To be told of each retry: raises the delay for the next one. */
  retried(key: string, endedAt: number, now: number): void {
    const entry = this.#entries.get(key);
    const fresh = !entry || endedAt - entry.at > FORGET_MS;
    const delay = fresh ? FIRST_BACKOFF_MS : Math.min(LONGEST_BACKOFF_MS, entry.delay * 2);
    this.#entries.set(key, { delay, at: now });
  }

  /** After a restart of the agent: what the restart count says of the delay, if the last run was short. */
  restore(key: string, restarts: number, ranMs: number, now: number): void {
    if (this.#entries.has(key) || restarts < 1 || ranMs > FORGET_MS) return;
    const delay = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(restarts - 1, 10));
    this.#entries.set(key, { delay, at: now });
  }

  forget(key: string): void {
    this.#entries.delete(key);
  }
}
