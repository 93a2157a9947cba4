/** Waits for changes of a log file: inotify on its folder (so that rotation is seen too), and a clock where that fails. */
import { type FSWatcher, watch } from 'node:fs';
import { dirname } from 'node:path';

export class LogWatcher implements Disposable {
  readonly #watcher: FSWatcher | undefined;
  #changed = false;
  #wake: () => void = () => {};

  constructor(path: string) {
    this.#watcher = tryWatch(dirname(path), () => {
      this.#changed = true;
      this.#wake();
    });
  }

  /** Resolves at the next change, one since the last call, the given milliseconds, or when the signal aborts. */
  async changed(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#changed && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', done);
          resolve();
        };
        const timer = setTimeout(done, ms);
        signal.addEventListener('abort', done, { once: true });
        this.#wake = done;
      });
      this.#wake = () => {};
    }
    this.#changed = false;
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
  }
}

/** Undefined where the folder is not there yet or the machine's inotify instances are used up: then the clock serves. */
function tryWatch(folder: string, onChange: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(folder, { persistent: false }, onChange);
    watcher.on('error', () => watcher.close());
    return watcher;
  } catch {
    return undefined;
  }
}
