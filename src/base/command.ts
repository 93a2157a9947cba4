/** Runs another program and tells plainly what went wrong. For set-up work only: the data path never starts a process. */
import { spawn } from 'node:child_process';

export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  constructor(argv: readonly string[], exitCode: number | null, stdout: string, stderr: string) {
    const detail = stderr.trim() || stdout.trim();
    super(`${argv[0]} ended with ${exitCode ?? 'a signal'}${detail ? `: ${detail.slice(-2000)}` : ''}`);
    this.exitCode = exitCode;
    this.stdout = stdout;
    this.stderr = stderr;
  }
}

export interface CommandOptions {
  readonly input?: string | Uint8Array;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

export interface CommandResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs argv to its end and returns what it printed, whatever its exit code. */
export function runCommand(argv: readonly [string, ...string[]], options: CommandOptions = {}): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1), {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: options.env,
      cwd: options.cwd,
      signal: options.signal,
      timeout: options.timeoutMs,
      killSignal: 'SIGKILL',
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', reject);
    child.on('close', (exitCode) =>
      resolve({ exitCode, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }),
    );
    child.stdin.on('error', () => {});
    child.stdin.end(options.input);
  });
}

/** Runs argv to its end and returns its standard output; throws CommandError on any exit code but 0. */
export async function checkedCommand(
  argv: readonly [string, ...string[]],
  options: CommandOptions = {},
): Promise<string> {
  const result = await runCommand(argv, options);
  if (result.exitCode !== 0) throw new CommandError(argv, result.exitCode, result.stdout, result.stderr);
  return result.stdout;
}
