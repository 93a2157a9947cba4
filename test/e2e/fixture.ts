/** What the end-to-end tests share: cluster names, the command line as a user calls it, and the proof that nothing is left. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CommandResult, runCommand } from '../../src/base/command.ts';
import { clusterPaths } from '../../src/cluster/paths.ts';
import { cgroupsOf, processesOf } from '../../src/cluster/process-table.ts';
import { existingClusters, tearDown } from '../../src/cluster/teardown.ts';

export const PODWIRE = join(import.meta.dirname, '..', '..', 'bin', 'podwire');

const names: string[] = [];

/** A name that no other test uses at the same time. */
export function clusterName(what: string): string {
  const name = `t-${what}-${process.pid}`;
  names.push(name);
  return name;
}

/** Takes down what failed tests of this file left running. */
export async function removeLeftovers(): Promise<void> {
  for (const name of names) if (existingClusters().includes(name)) await tearDown(name);
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

/** Starts `podwire ARGS` in the background. */
export function podwireInBackground(args: readonly string[], env: Record<string, string> = {}) {
  return inBackground([PODWIRE, ...args], env);
}

/** A program that runs beside the test; what it prints on both streams is kept. */
export function inBackground(argv: readonly [string, ...string[]], env: Record<string, string> = {}) {
  const child = spawn(argv[0], argv.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  child.stdin.on('error', () => {});
  const ended = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)));
  return { child, ended, output: () => output };
}

/** Starts `podwire ARGS` in the background, and resolves when it has printed the text. */
export async function podwireUntil(args: readonly string[], text: string, env: Record<string, string> = {}) {
  const program = podwireInBackground(args, env);
  await eventually(
    `podwire ${args.join(' ')} says ${text}`,
    () => program.output(),
    (output) => {
      if (program.child.exitCode !== null) assert.fail(`it ended with ${program.child.exitCode}: ${output}`);
      return output.includes(text);
    },
    60_000,
  );
  return program;
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
