/**
 * A child process that is kept alive: started in a network namespace, its output appended to a log file, started again with
 * growing waits when it ends unasked. It is the leader of its own session, so a Ctrl-C on the terminal reaches the
 * supervisor alone, which then stops everything in order; and it outlives a supervisor that was killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Clock, systemClock, type Timer } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { NetworkNamespace } from '../linux/netns.ts';
import { signalProcess, waitUntilGone } from './process-table.ts';

export interface ManagedProcessOptions {
  readonly name: string;
  /** Asked at every start: a restart may need another command than the first start. */
  readonly command: (attempt: number) => readonly [string, ...string[]];
  readonly logFile: string;
  readonly log: Logger;
  readonly namespace?: NetworkNamespace;
  /** Given to the child as fd 3, 4 … */
  readonly inherit?: readonly number[];
  readonly env?: NodeJS.ProcessEnv;
  readonly onStarted?: (pid: number) => void;
  readonly clock?: Clock;
}

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 10_000;
/** A process that lived this long is taken as healthy again. */
const HEALTHY_MS = 10_000;

export class ManagedProcess {
  readonly #options: ManagedProcessOptions;
  readonly #clock: Clock;
  #child: ChildProcess | undefined;
  #attempt = 0;
  #failures = 0;
  #startedAt = 0;
  #stopping = false;
  #timer: Timer | undefined;
  #lastExit: string | undefined;

  constructor(options: ManagedProcessOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  get name(): string {
    return this.#options.name;
  }

  get logFile(): string {
    return this.#options.logFile;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** How often it was started again. */
  get restarts(): number {
    return Math.max(0, this.#attempt - 1);
  }

  /** How often in a row it ended before it had lived long enough to be taken as healthy. */
  get failures(): number {
    return this.#failures;
  }

  /** How it ended the last time: "exit code 1", "signal SIGKILL". */
  get lastExit(): string | undefined {
    return this.#lastExit;
  }

  start(): void {
    const { namespace, logFile, inherit = [] } = this.#options;
    mkdirSync(dirname(logFile), { recursive: true });
    const output = openSync(logFile, 'a');
    try {
      const [program, ...args] = this.#options.command(this.#attempt++);
      const begin = () =>
        spawn(program, args, {
          stdio: ['ignore', output, output, ...inherit],
          env: this.#options.env,
          detached: true,
        });
      this.#child = namespace ? namespace.run(begin) : begin();
    } finally {
      closeSync(output);
    }
    this.#startedAt = this.#clock.now();
    const child = this.#child;
    child.on('error', (error) => this.#ended(error.message));
    child.on('exit', (code, signal) => this.#ended(signal ? `signal ${signal}` : `exit code ${code}`));
    if (child.pid !== undefined) this.#options.onStarted?.(child.pid);
  }

  #ended(how: string): void {
    if (!this.#child) return;
    this.#child = undefined;
    this.#lastExit = how;
    if (this.#stopping) return;
    this.#failures = this.#clock.now() - this.#startedAt > HEALTHY_MS ? 0 : this.#failures + 1;
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.max(0, this.#failures - 1));
    this.#options.log.warn({ process: this.name, waitMs: wait }, `${this.name} ended (${how}); starting it again`);
    this.#timer = this.#clock.after(wait, () => this.start());
  }

  /** Ends it: SIGTERM, then SIGKILL after the given milliseconds. It is not started again. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    this.#timer?.cancel();
    const pid = this.#child?.pid;
    if (pid === undefined) return;
    signalProcess(pid, 'SIGTERM');
    const left = await waitUntilGone([pid], graceMs);
    if (left.length > 0) {
      signalProcess(pid, 'SIGKILL');
      await waitUntilGone([pid], 2000);
    }
  }
}
