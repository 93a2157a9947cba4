/** Runs a long-lived role until it is told to end: by SIGTERM or SIGINT. */
import { isAbort, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { giveIdleMemoryBack } from './idle-memory.ts';

/** How long what is under way may take after the signal, in milliseconds. */
const END_MS = 1_500;

/** A rejection of `start` is logged and ends the process with code 1: its supervisor starts it again. */
export async function runRole(log: Logger, start: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'ending');
      stop.abort();
      setTimeout(() => process.exit(0), END_MS).unref();
    });
  }
  process.on('unhandledRejection', (error) => {
    if (stop.signal.aborted && isAbort(error)) return;
    log.error({ error }, `a rejection that nobody handled: ${messageOf(error)}`);
  });
  try {
    await start(stop.signal);
    giveIdleMemoryBack(stop.signal);
  } catch (error) {
    if (stop.signal.aborted) return;
    log.error({ error }, messageOf(error));
    process.exit(1);
  }
}
