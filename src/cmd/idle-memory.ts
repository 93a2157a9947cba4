/**
 * Gives memory back while a process has nothing to do. V8 collects only when it allocates, so what a start or a burst needed
 * once (module sources, first lists) would stay for as long as the process is idle. One collection takes 30-50 ms and gives
 * 10-15 MB back.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { trimMalloc } from '../linux/malloc.ts';

/** After the start, in milliseconds: by then everything has been listed once, and nftables' contexts are freed. */
export const SETTLED_MS = 8_000;
const CHECK_MS = 15_000;
/** Share of one core below which a process counts as idle. */
const IDLE_SHARE = 0.03;
/** Less growth since the last time is not worth the pause. */
const GROWTH_BYTES = 4 << 20;

/** Begins after the start of a role; ends when the signal aborts. */
export function giveIdleMemoryBack(signal: AbortSignal): void {
  let after = 0;
  let before = process.cpuUsage();
  const collect = () => {
    collectEverything();
    after = process.memoryUsage.rss();
  };
  const first = setTimeout(collect, SETTLED_MS).unref();
  const timer = setInterval(() => {
    const { user, system } = process.cpuUsage(before);
    before = process.cpuUsage();
    const isIdle = user + system < CHECK_MS * 1000 * IDLE_SHARE;
    if (!isIdle) return;
    trimMalloc();
    if (process.memoryUsage.rss() > after + GROWTH_BYTES) collect();
  }, CHECK_MS).unref();
  signal.addEventListener('abort', () => {
    clearTimeout(first);
    clearInterval(timer);
  });
}

let gc: ((options: object) => void) | undefined;

function collectEverything(): void {
  if (!gc) {
    setFlagsFromString('--expose-gc');
    gc = runInNewContext('gc') as (options: object) => void;
  }
  gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  trimMalloc();
}
