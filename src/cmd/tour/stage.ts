/**
 * The stage of the tour: runs the commands that a user would type, shows each with its answer, and holds every claim against
 * what came back.
 */
import { spawn } from 'node:child_process';
import colors from 'picocolors';
import { systemClock } from '../../base/clock.ts';
import { type CommandResult, runCommand } from '../../base/command.ts';
import type { Cluster } from '../../cluster/cluster.ts';
import { requireKubectl } from '../access.ts';

/** A claim that did not hold. */
export class ClaimFailed extends Error {
  override readonly name = 'ClaimFailed';
}

export interface RunOptions {
  readonly input?: string;
  /** Show at most so many lines of the answer; default 12. */
  readonly lines?: number;
  /** Do not show the command: it only looks whether it is time to go on. */
  readonly quiet?: boolean;
  /** An exit code other than 0 is part of the story. */
  readonly mayFail?: boolean;
}

export class Stage {
  readonly cluster: Cluster;
  readonly #out: NodeJS.WritableStream;
  readonly #kubectl: string;
  #claims = 0;

  constructor(cluster: Cluster, out: NodeJS.WritableStream = process.stdout) {
    this.cluster = cluster;
    this.#out = out;
    this.#kubectl = requireKubectl();
  }

  /** How many claims held so far. */
  get claims(): number {
    return this.#claims;
  }

  title(text: string): void {
    this.#out.write(`\n${colors.bold(colors.cyan(`── ${text}`))}\n`);
  }

  say(text: string): void {
    this.#out.write(`${colors.dim(text)}\n`);
  }

  /** Runs kubectl as typed: words separated by spaces, single quotes keep spaces. Returns its standard output. */
  async kubectl(line: string, options: RunOptions = {}): Promise<string> {
    const result = await this.#run([this.#kubectl, ...splitWords(line)], `kubectl ${line}`, options);
    return result.stdout;
  }

  /** Runs kubectl and returns all that came back, whatever its exit code. */
  async tryKubectl(line: string, options: RunOptions = {}): Promise<CommandResult> {
    return this.#run([this.#kubectl, ...splitWords(line)], `kubectl ${line}`, { ...options, mayFail: true });
  }

  /** Runs a command in the namespace outside the cluster. */
  async outside(line: string, options: RunOptions = {}): Promise<string> {
    const argv = ['nsenter', `--net=${this.cluster.paths.namespace('outside')}`, '--', ...splitWords(line)] as const;
    return (await this.#run([...argv], `podwire outside -- ${line}`, options)).stdout;
  }

  /** Starts kubectl and lets it run beside the tour; the promise resolves with its standard output. */
  background(line: string): Promise<string> {
    this.#out.write(`${colors.yellow('$')} kubectl ${line} ${colors.yellow('&')}\n`);
    const child = spawn(this.#kubectl, splitWords(line), { env: this.#env(), stdio: ['ignore', 'pipe', 'inherit'] });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', () => resolve(Buffer.concat(chunks).toString()));
    });
  }

  /** Holds a claim; throws ClaimFailed when it does not hold. */
  claim(text: string, holds: boolean, detail = ''): void {
    if (!holds) {
      this.#out.write(`  ${colors.red('✗')} ${text}${detail ? `: ${detail}` : ''}\n`);
      throw new ClaimFailed(`${text}${detail ? `: ${detail}` : ''}`);
    }
    this.#claims++;
    this.#out.write(`  ${colors.green('✓')} ${text}\n`);
  }

  /** Asks again, each 50 ms, until the answer is not undefined. */
  async until<T>(what: string, ask: () => Promise<T | undefined>, timeoutMs = 30_000): Promise<T> {
    const deadline = systemClock.now() + timeoutMs;
    for (;;) {
      const answer = await ask();
      if (answer !== undefined) return answer;
      if (systemClock.now() > deadline) throw new ClaimFailed(`${what}: not within ${timeoutMs / 1000} s`);
      await systemClock.sleep(50);
    }
  }

  /** Waits, as a user would, until pods are Ready. */
  async waitReady(selector: string): Promise<void> {
    await this.kubectl(`wait --for=condition=Ready ${selector} --timeout=60s`, { lines: 4 });
  }

  #env(): NodeJS.ProcessEnv {
    return { ...process.env, KUBECONFIG: this.cluster.kubeconfig };
  }

  async #run(argv: [string, ...string[]], shown: string, options: RunOptions): Promise<CommandResult> {
    if (!options.quiet) this.#out.write(`${colors.yellow('$')} ${shown}\n`);
    const result = await runCommand(argv, { input: options.input, env: this.#env(), timeoutMs: 90_000 });
    if (!options.quiet) this.#show(`${result.stdout}${result.stderr}`, options.lines ?? 12);
    if (result.exitCode !== 0 && !options.mayFail) {
      throw new ClaimFailed(`${shown} ended with ${result.exitCode}: ${result.stderr.trim()}`);
    }
    return result;
  }

  #show(text: string, limit: number): void {
    const lines = text
      .trimEnd()
      .split('\n')
      .filter((line) => line !== '');
    for (const line of lines.slice(0, limit)) this.#out.write(`  ${line}\n`);
    if (lines.length > limit) this.#out.write(colors.dim(`  … ${lines.length - limit} more lines\n`));
  }
}

/** Splits a line into words as a shell does, with single quotes only. */
export function splitWords(line: string): string[] {
  return [...line.matchAll(/(?:[^\s']+|'[^']*')+/g)].map(([word]) => word.replaceAll("'", ''));
}
