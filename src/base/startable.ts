/** The one shape of everything long-lived. */

export interface Startable {
  /**
   * Starts and resolves once ready to serve. What was started ends when the signal aborts; `stopped` of a
   * component that must finish work then resolves afterwards.
   */
  start(signal: AbortSignal): Promise<void>;
  /** Resolves when everything has ended after the signal aborted. */
  readonly stopped?: Promise<void>;
}

/** Starts all at once; the first failure is thrown. */
export async function startAll(parts: readonly Startable[], signal: AbortSignal): Promise<void> {
  await Promise.all(parts.map((part) => part.start(signal)));
}
