/** Processes of a benchmark: started in a namespace, their processor time, their end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { NetworkNamespace } from '../../../src/linux/netns.ts';

/** sysconf(_SC_CLK_TCK) on Linux. */
const TICKS_PER_SECOND = 100;

export class BenchProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #complaints = '';

  /** In the namespace, with the descriptors as 3, 4 and so on. */
  constructor(argv: readonly [string, ...string[]], ns: NetworkNamespace | undefined, fds: readonly number[] = []) {
    const start = () => spawn(argv[0], argv.slice(1), { stdio: ['pipe', 'pipe', 'pipe', ...fds], detached: true });
    this.#child = ns ? ns.run(start) : start();
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#complaints = (this.#complaints + text).slice(-4000);
    });
    this.#ended = once(this.#child, 'exit');
  }

  /** One of this folder's modules. */
  static module(name: string, args: readonly string[], ns?: NetworkNamespace, fds?: readonly number[]): BenchProcess {
    const script = join(import.meta.dirname, name);
    return new BenchProcess([process.execPath, '--disable-warning=ExperimentalWarning', script, ...args], ns, fds);
  }

  /** The first line that it prints, as JSON. Throws with what it complained of when it ends before. */
  async said<T>(): Promise<T> {
    const line = once(createInterface(this.#child.stdout!), 'line') as Promise<[string]>;
    const [text] = await Promise.race([line, this.failed()]);
    return JSON.parse(text) as T;
  }

  /** Rejects with what it complained of when it has ended. */
  async failed(): Promise<never> {
    await this.#ended;
    throw new Error(`a process of the benchmark ended: ${this.complaints}`);
  }

  /** The end of what it wrote to its standard error. */
  get complaints(): string {
    return this.#complaints.trim();
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Throws when it has ended. */
  check(): void {
    if (this.#hasEnded) throw new Error(`a process of the benchmark ended: ${this.complaints}`);
  }

  /** User and system time, its ended children's too, in milliseconds. */
  get cpuMs(): number {
    const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'utf8');
    // The fields behind the name in parentheses: utime, stime, cutime and cstime are the 14th to 17th of all.
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 15);
    return (fields.reduce((sum, ticks) => sum + Number(ticks), 0) * 1000) / TICKS_PER_SECOND;
  }

  /** Ends it and what it started: kube-proxy may be in the middle of an nft. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#hasEnded) process.kill(-this.#child.pid!, 'SIGKILL');
    await this.#ended;
  }
}
