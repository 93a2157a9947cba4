/** What the end-to-end tests share: cluster names, the command line as a user calls it, and the proof that nothing is left. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CommandResult, runCommand } from '../../src/base/command.ts';
import { clusterPaths } from '../../src/cluster/paths.ts';
import { cgroupsOf, processesOf } from '../../src/cluster/process-table.ts';

export const PODWIRE = join(import.meta.dirname, '..', '..', 'bin', 'podwire');

/** A name that no other test uses at the same time. */
export function clusterName(what: string): string {
  return `t-${what}-${process.pid}`;
}

/** Runs `podwire ARGS` to its end. */
export function podwire(args: readonly string[], env: Record<string, string> = {}): Promise<CommandResult> {
  return runCommand([PODWIRE, ...args], { env: { ...process.env, ...env }, timeoutMs: 120_000 });
}

/** Runs kubectl against a kubeconfig. */
export function kubectl(
  kubeconfig: string,
  args: readonly string[],
  options: { input?: string; program?: string } = {},
): Promise<CommandResult> {
  return runCommand([options.program ?? 'kubectl', ...args], {
    input: options.input,
    env: { ...process.env, KUBECONFIG: kubeconfig, HOME: '/nonexistent' },
    timeoutMs: 90_000,
  });
}

/** Starts `podwire ARGS` in the background, and resolves when it has printed the text. */
export async function podwireUntil(args: readonly string[], text: string, env: Record<string, string> = {}) {
  const child = spawn(PODWIRE, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let output = '';
  const seen = Promise.withResolvers<void>();
  const ended = new Promise<number | null>((resolve) => {
    child.on('close', (code) => {
      seen.reject(new Error(`podwire ${args.join(' ')} ended with ${code}: ${output}`));
      resolve(code);
    });
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes(text)) seen.resolve();
    });
  }
  await seen.promise;
  return { child, ended, output: () => output };
}

/** Fails when a cluster of the name left anything on this machine. */
export function assertNothingLeft(name: string): void {
  const paths = clusterPaths(name);
  assert.equal(existsSync(paths.run), false, `${paths.run} is left`);
  assert.equal(existsSync(paths.state), false, `${paths.state} is left`);
  assert.deepEqual(cgroupsOf(paths), [], 'control groups are left');
  assert.deepEqual(processesOf(paths), [], 'processes are left');
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`podwire/${name}/`));
  assert.deepEqual(mounts, [], 'mounts are left');
}

/** Resolves when the condition holds; fails with its last answer otherwise. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T> | T,
  holds: (answer: T) => boolean,
  timeoutMs = 20_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await Promise.resolve(ask()).catch((error: unknown) => error as T);
    if (!(answer instanceof Error) && holds(answer)) return answer;
    if (Date.now() > deadline)
      assert.fail(
        `${what}: still ${answer instanceof Error ? answer.message : JSON.stringify(answer)} after ${timeoutMs} ms`,
      );
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
