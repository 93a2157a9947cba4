/**
 * Debian packages that are unpacked into a folder and never installed: the machine stays as it is. apt-get fetches and checks them
 * as it does for an installation.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { checkedCommand, runCommand } from '../../src/base/command.ts';
import { messageOf } from '../../src/base/errors.ts';

/** Why something cannot be had, in words that a user can act on: the lane is skipped with it. */
export class Unavailable extends Error {
  override readonly name = 'Unavailable';
}

/** Quick to give up: a machine without a mirror waits for seconds, not for minutes. */
const APT = [
  '-o',
  'Acquire::http::Timeout=15',
  '-o',
  'Acquire::https::Timeout=15',
  '-o',
  'Acquire::Retries=1',
] as const;
const QUERY_MS = 30_000;
const FETCH_MS = 180_000;

/** "name version" of each package as apt would take it. */
export async function candidateVersions(names: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await apt(['apt-cache', 'show', '--no-all-versions', ...names], QUERY_MS);
  const known = [...stdout.matchAll(/^Package: (\S+)$[\s\S]*?^Version: (\S+)$/gm)].map(
    ([, name, version]) => `${name} ${version}`,
  );
  const missing = names.filter((name) => !known.some((each) => each.startsWith(`${name} `)));
  return missing.length > 0 ? unavailable(`apt knows no package ${missing.join(', ')}`) : known.sort();
}

/** The first package that one depends on whose name matches; apt's lists are read anew once when it knows none. */
export async function dependencyOf(name: string, pattern: RegExp): Promise<string> {
  const ask = async () => {
    const { stdout } = await apt(['apt-cache', 'depends', name], QUERY_MS);
    return [...stdout.matchAll(/Depends: (\S+)/g)].map((match) => match[1]!).find((each) => pattern.test(each));
  };
  const known = await ask();
  if (known !== undefined) return known;
  await apt(['apt-get', ...APT, 'update'], FETCH_MS);
  return (await ask()) ?? unavailable(`${name} depends on nothing like ${pattern.source}`);
}

/** The packages that an installation of these would add to this machine. */
export async function missingClosure(names: readonly string[]): Promise<readonly string[]> {
  const argv = ['apt-get', ...APT, 'install', '--no-install-recommends', '--print-uris', '-y', ...names] as const;
  const { stdout } = await apt(argv, QUERY_MS);
  // 'http://…/name_version_arch.deb' name_version_arch.deb SIZE HASH
  return [...stdout.matchAll(/^'[^']+' ([^_\s]+)_\S+\.deb /gm)].map((match) => match[1]!);
}

/** Fetches packages and unpacks them below `root`. */
export async function unpackPackages(names: readonly string[], root: string): Promise<void> {
  const folder = `${root}.debs`;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  mkdirSync(root, { recursive: true });
  try {
    const { exitCode, stderr } = await apt(['apt-get', ...APT, 'download', ...names], FETCH_MS, folder);
    if (exitCode !== 0) unavailable(`apt-get download failed: ${stderr.trim().split('\n').at(-1)}`);
    // dpkg -x would replace the links of a merged /usr by folders.
    const unpack = 'set -o pipefail; dpkg-deb --fsys-tarfile "$0" | tar -x --keep-directory-symlink -C "$1"';
    for (const file of readdirSync(folder)) await checkedCommand(['bash', '-c', unpack, join(folder, file), root]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A folder with packages, made once; given up as a whole when anything fails. */
export async function ensureUnpacked(names: readonly string[], root: string): Promise<void> {
  if (existsSync(root)) return;
  const fresh = `${root}.new`;
  rmSync(fresh, { recursive: true, force: true });
  await unpackPackages(names, fresh);
  renameSync(fresh, root);
}

async function apt(argv: readonly [string, ...string[]], timeoutMs: number, cwd?: string) {
  try {
    return await runCommand(argv, { timeoutMs, ...(cwd ? { cwd } : {}), env: { ...process.env, LC_ALL: 'C' } });
  } catch (error) {
    return unavailable(`${argv[0]} cannot be run: ${messageOf(error)}`);
  }
}

function unavailable(why: string): never {
  throw new Unavailable(why);
}
