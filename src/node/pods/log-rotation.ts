/**
 * Rotation of containers' logs: at 10 MB a log is set aside under its time, the runtime is told to begin a new one, and
 * of the old ones four are kept, compressed but the newest (the kubelet's containerLogMaxSize and containerLogMaxFiles).
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { codeOf } from '../../base/errors.ts';

export interface LogRotationOptions {
  readonly maxBytes?: number;
  /** With the one that is written. */
  readonly maxFiles?: number;
  readonly reopen: (containerId: string) => Promise<void>;
  readonly now: () => number;
}

const DEFAULT_MAX_BYTES = 10 << 20;
const DEFAULT_MAX_FILES = 5;

/** Rotates the log of a running container when it is too large; returns whether it did. */
export async function rotateLog(containerId: string, path: string, options: LogRotationOptions): Promise<boolean> {
  if ((await sizeOf(path)) < (options.maxBytes ?? DEFAULT_MAX_BYTES)) return false;
  const stamp = new Date(options.now()).toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  const aside = `${path}.${stamp}`;
  await rename(path, aside);
  try {
    await options.reopen(containerId);
  } catch (error) {
    // Still written under its old inode: give it its name back.
    await rename(aside, path);
    throw error;
  }
  await prune(path, (options.maxFiles ?? DEFAULT_MAX_FILES) - 1);
  return true;
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return 0;
    throw error;
  }
}

async function prune(path: string, keep: number): Promise<void> {
  const folder = dirname(path);
  const prefix = `${basename(path)}.`;
  const old = (await readdir(folder))
    .filter((name) => name.startsWith(prefix) && !name.endsWith('.tmp'))
    .sort()
    .reverse();
  for (const name of old.slice(keep)) await rm(join(folder, name), { force: true });
  for (const name of old.slice(1, keep)) if (!name.endsWith('.gz')) await compress(join(folder, name));
}

async function compress(path: string): Promise<void> {
  await pipeline(createReadStream(path), createGzip(), createWriteStream(`${path}.gz.tmp`));
  await rename(`${path}.gz.tmp`, `${path}.gz`);
  await rm(path, { force: true });
}
