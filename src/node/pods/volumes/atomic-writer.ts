/**
 * Puts a set of files into a folder so that a reader sees the whole old set or the whole new one, never a mixture (the
 * layout of the kubelet's AtomicWriter, which programs that watch mounted ConfigMaps rely on):
 *
 *   volume/..2026_11_21_08_42_00.k3f9x/a, dir/b     the files
 *   volume/..data -> ..2026_11_21_08_42_00.k3f9x     replaced by one rename
 *   volume/a -> ..data/a, volume/dir -> ..data/dir   what users see
 */
import { randomBytes } from 'node:crypto';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { codeOf } from '../../../base/errors.ts';
import { checkRelativePath, type Payload } from './payload.ts';

const DATA_LINK = '..data';

export interface WriteOptions {
  /** Files get this group, and the group may read them. */
  readonly fsGroup?: number;
}

/** Writes the payload unless it is there already; returns whether anything changed. */
export async function writeAtomically(folder: string, payload: Payload, options: WriteOptions = {}): Promise<boolean> {
  for (const path of payload.keys()) checkRelativePath(path);
  await mkdir(folder, { recursive: true, mode: 0o755 });
  const old = await readlinkIfAny(join(folder, DATA_LINK));
  if (old !== undefined && (await holds(join(folder, old), payload, options))) return false;

  const stamp = `..${new Date().toISOString().slice(0, 19).replace(/[-:T]/g, '_')}.${randomBytes(4).toString('hex')}`;
  await writeFiles(join(folder, stamp), payload, options);
  const link = join(folder, `${DATA_LINK}_tmp`);
  await rm(link, { force: true });
  await symlink(stamp, link);
  await rename(link, join(folder, DATA_LINK));
  await linkNames(folder, payload);
  await removeOthers(folder, stamp);
  return true;
}

async function writeFiles(folder: string, payload: Payload, options: WriteOptions): Promise<void> {
  await mkdir(folder, { mode: 0o755 });
  await chmod(folder, 0o755);
  for (const [path, { bytes, mode }] of payload) {
    const file = join(folder, path);
    await mkdir(dirname(file), { recursive: true, mode: 0o755 });
    await writeFile(file, bytes, { mode: 0o600, flag: 'wx' });
    if (options.fsGroup !== undefined) await chown(file, 0, options.fsGroup);
    // After the owner: chown clears bits, and the umask must not count.
    await chmod(file, permissions(mode, options));
  }
}

function permissions(mode: number, { fsGroup }: WriteOptions): number {
  return fsGroup === undefined ? mode : mode | 0o040;
}

/** Whether the folder holds exactly the payload. */
async function holds(folder: string, payload: Payload, options: WriteOptions): Promise<boolean> {
  try {
    const present = await filesBelow(folder);
    if (present.length !== payload.size) return false;
    for (const [path, { bytes, mode }] of payload) {
      const file = join(folder, path);
      if (((await lstat(file)).mode & 0o777) !== (permissions(mode, options) & 0o777)) return false;
      if (!(await readFile(file)).equals(bytes)) return false;
    }
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
}

async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** The visible links of the payload's first path parts; those of names that are gone are removed. */
async function linkNames(folder: string, payload: Payload): Promise<void> {
  const names = new Set([...payload.keys()].map((path) => path.split('/')[0]!));
  for (const name of await readdir(folder)) {
    if (name.startsWith('..') || names.has(name)) continue;
    await rm(join(folder, name), { recursive: true, force: true });
  }
  for (const name of names) {
    const target = `${DATA_LINK}/${name}`;
    const link = join(folder, name);
    if ((await readlinkIfAny(link)) === target) continue;
    await rm(link, { recursive: true, force: true });
    await symlink(target, link);
  }
}

async function removeOthers(folder: string, stamp: string): Promise<void> {
  for (const name of await readdir(folder))
    if (name.startsWith('..') && name !== stamp && name !== DATA_LINK)
      await rm(join(folder, name), { recursive: true, force: true });
}

async function readlinkIfAny(path: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'EINVAL') return undefined;
    throw error;
  }
}
