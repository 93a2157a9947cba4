/** Runs a long-lived role until it is told to end: by SIGTERM or SIGINT. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isAbort, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { trimMalloc } from '../linux/malloc.ts';

/** After the start, in milliseconds: by then everything has been listed once. */
const SETTLED_MS = 2_000;

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
    setTimeout(giveMemoryBack, SETTLED_MS).unref();
  } catch (error) {
    if (stop.signal.aborted) return;
    log.error({ error }, messageOf(error));
    process.exit(1);
  }
}

/**
 * What the start needed once (module sources, first lists) stays in the heap of an idle process, because V8 collects only when
 * it allocates. One collection after the start takes 15 MB off each process.
 */
function giveMemoryBack(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: object) => void;
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  trimMalloc();
}
