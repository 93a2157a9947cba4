/**
 * The programs of the proxy mode ebpf, compiled once per machine by clang and kept in the cache folder under the fingerprint
 * of their source. Only this mode needs clang, so set-up does not install it.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkedCommand } from '../base/command.ts';
import { UserError } from '../base/errors.ts';
import { cacheRoot } from './paths.ts';
import { findProgram } from './requirements.ts';

declare const PODWIRE_BUNDLE: boolean | undefined;

/** Beside its component in a checkout, in native/ of an installed package. */
const SOURCE =
  typeof PODWIRE_BUNDLE === 'undefined'
    ? new URL('../node/services/ebpf/programs/services.bpf.c', import.meta.url)
    : new URL('./native/services.bpf.c', import.meta.url);

/** What it includes beside the compiler's own. */
const HEADER = '/usr/include/bpf/bpf_helpers.h';

/** The path of the compiled programs; compiles them where that was not done yet. Throws UserError without the means. */
export async function prepareServicePrograms(
  say: (step: string) => void = () => {},
  env: NodeJS.ProcessEnv = process.env,
  systemFolders?: readonly string[],
): Promise<string> {
  const cache = cacheRoot(env);
  const fingerprint = createHash('sha256').update(readFileSync(SOURCE)).digest('hex').slice(0, 16);
  const path = join(cache, `services-${fingerprint}.bpf.o`);
  if (existsSync(path)) return path;
  requireCompiler(env, systemFolders);
  say('compiling the programs of --proxy ebpf');
  mkdirSync(cache, { recursive: true });
  const temporary = `${path}.${process.pid}`;
  try {
    await compileServicePrograms(temporary);
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
  removeOutdated(cache, path);
  return path;
}

function requireCompiler(env: NodeJS.ProcessEnv, systemFolders: readonly string[] | undefined): void {
  if (findProgram('clang', env, systemFolders) && existsSync(HEADER)) return;
  throw new UserError(
    'this machine lacks clang or libbpf-dev, with which the programs of --proxy ebpf are compiled once',
    {
      hint: 'run: apt-get install --no-install-recommends clang libbpf-dev   or use: podwire up --proxy nftables',
      exitCode: 3,
    },
  );
}

/** Compiles them; asm/ lies in the folder of the machine's own architecture. */
export async function compileServicePrograms(target: string): Promise<void> {
  const architecture = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as 'x64' | 'arm64'] ?? process.arch;
  const flags = ['-O2', '-g', '-Wall', '-Werror', `-I/usr/include/${architecture}-linux-gnu`];
  await checkedCommand(['clang', '-target', 'bpf', ...flags, '-c', fileURLToPath(SOURCE), '-o', target]);
}

function removeOutdated(cache: string, current: string): void {
  for (const name of readdirSync(cache)) {
    const path = join(cache, name);
    if (/^services-[0-9a-f]{16}\.bpf\.o$/.test(name) && path !== current) rmSync(path, { force: true });
  }
}
