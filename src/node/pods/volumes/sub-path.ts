/**
 * subPath: a part of a volume. The volume's content belongs to containers, who may plant symbolic links: what a link
 * resolves to must lie within the volume, or the container would be handed a file of the node.
 */
import { constants } from 'node:fs';
import { chmod, chown, lstat, mkdir, open, realpath } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { codeOf } from '../../../base/errors.ts';
import { ContainerConfigError } from '../config-error.ts';

/** linux/fcntl.h: a descriptor that only names the file. */
const O_PATH = 0o10000000;

/** Refuses absolute paths and "..". */
export function checkSubPath(subPath: string): readonly string[] {
  const parts = subPath.split('/').filter((part) => part !== '' && part !== '.');
  if (subPath.startsWith('/') || parts.includes('..') || subPath.includes('\0'))
    throw new ContainerConfigError(`subPath ${JSON.stringify(subPath)} must be a relative path without ".."`);
  return parts;
}

/**
 * The real path of the part; folders that are missing are made with the volume's own owner and mode. Throws
 * ContainerConfigError when a link leads out of the volume.
 */
export async function resolveSubPath(volume: string, subPath: string): Promise<string> {
  const base = await realpath(volume);
  const inside = (path: string) => path === base || path.startsWith(base + sep);
  const refuse = (): never => {
    throw new ContainerConfigError(`subPath ${JSON.stringify(subPath)} not within volume path`);
  };
  const { uid, gid, mode } = await lstat(base);
  let current = base;
  for (const part of checkSubPath(subPath)) {
    const next = join(current, part);
    try {
      current = await realpath(next);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      if (await isLink(next)) refuse();
      await mkdir(next, { mode: 0o700 });
      await chown(next, uid, gid);
      // After the owner, and past the umask.
      await chmod(next, mode & 0o7777);
      current = next;
    }
    if (!inside(current)) refuse();
  }
  await walk(base, relative(base, current), refuse);
  return current;
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink();
  } catch {
    return false;
  }
}

/** Goes the resolved way once more without following any link: a link that was swapped in meanwhile is found. */
async function walk(base: string, path: string, refuse: () => never): Promise<void> {
  let at = await open(base, O_PATH | constants.O_NOFOLLOW);
  try {
    for (const part of path.split(sep).filter(Boolean)) {
      const next = await open(`/proc/self/fd/${at.fd}/${part}`, O_PATH | constants.O_NOFOLLOW);
      await at.close();
      at = next;
      if ((await at.stat()).isSymbolicLink()) refuse();
    }
  } finally {
    await at.close();
  }
}
