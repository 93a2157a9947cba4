/** Mounts: bind, tmpfs, and taking them away again. All in the mount namespace of this process. */
import { readFileSync } from 'node:fs';
import { ERRNO, KernelError } from './errors.ts';
import { check, lastErrno, libc } from './libc.ts';

// sys/mount.h
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_REMOUNT = 32;
const MS_BIND = 4096;
const MS_REC = 16384;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

export interface BindOptions {
  readonly readOnly?: boolean;
  /** Also what is mounted below the source. */
  readonly recursive?: boolean;
}

/** Shows the file or folder `source` at `target` too, which must exist. */
export function bindMount(source: string, target: string, options: BindOptions = {}): void {
  const flags = MS_BIND | (options.recursive ? MS_REC : 0);
  check(`bind ${source} at ${target}`, libc.mount(source, target, null, flags, null));
  if (!options.readOnly) return;
  try {
    // The first call ignores MS_RDONLY: a bind mount becomes read-only by a second one (mount(2)).
    check(
      `make ${target} read-only`,
      libc.mount('none', target, null, MS_BIND | MS_REMOUNT | MS_RDONLY | inheritedFlags(target), null),
    );
  } catch (error) {
    unmount(target);
    throw error;
  }
}

/** Flags of the mount that a remount must repeat, or it would drop them. */
function inheritedFlags(target: string): number {
  const options = mounts().findLast((mount) => mount.path === target)?.options ?? [];
  return (options.includes('nosuid') ? MS_NOSUID : 0) | (options.includes('nodev') ? MS_NODEV : 0);
}

export interface TmpfsOptions {
  readonly sizeBytes?: number;
  /** Permissions of its root folder; default 0o755. */
  readonly mode?: number;
}

/** An empty file system in memory at a folder that exists. */
export function mountTmpfs(target: string, options: TmpfsOptions = {}): void {
  const data = [`mode=${(options.mode ?? 0o755).toString(8)}`];
  if (options.sizeBytes !== undefined) data.push(`size=${options.sizeBytes}`);
  check(`mount tmpfs at ${target}`, libc.mount('tmpfs', target, 'tmpfs', MS_NOSUID | MS_NODEV, data.join(',')));
}

/**
 * Takes the topmost mount at `target` away, lazily: it is gone from the tree at once and ends when nobody uses it any
 * more. False when nothing is mounted there, or nothing is there.
 */
export function unmount(target: string): boolean {
  if (libc.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) === 0) return true;
  const errno = lastErrno();
  if (errno === ERRNO['EINVAL'] || errno === ERRNO['ENOENT']) return false;
  throw new KernelError(`unmount ${target}`, errno);
}

export interface Mount {
  readonly path: string;
  readonly root: string;
  readonly fileSystem: string;
  readonly options: readonly string[];
}

/** All mounts of this process's mount namespace, in the order they were made. */
export function mounts(): Mount[] {
  return parseMountInfo(readFileSync('/proc/thread-self/mountinfo', 'utf8'));
}

/** Mount points at or below a folder, the deepest first: the order to unmount them in. */
export function mountsUnder(folder: string): string[] {
  return mounts()
    .map(({ path }) => path)
    .filter((path) => path === folder || path.startsWith(`${folder}/`))
    .reverse();
}

/** Parses /proc/PID/mountinfo (proc(5)); lines that are none are left out. */
export function parseMountInfo(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [left, right] = line.split(' - ');
    const [, , , root, path, options] = left?.split(' ') ?? [];
    const fileSystem = right?.split(' ')[0];
    if (root === undefined || path === undefined || options === undefined || fileSystem === undefined) return [];
    return [{ root: unescapeOctal(root), path: unescapeOctal(path), fileSystem, options: options.split(',') }];
  });
}

/** The kernel writes space, tab, line break and backslash as octal. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
