/** Control groups of version 2: where their hierarchy is mounted, and folders in it. */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../base/errors.ts';
import { mounts } from './mount.ts';

/**
 * Where the hierarchy of version 2 is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside version 1 (a hybrid);
 * undefined where it is not mounted.
 */
export function cgroup2Root(): string | undefined {
  return mounts().find(({ fileSystem }) => fileSystem === 'cgroup2')?.path;
}

/** Makes the control group, and its parents; one that is there is fine. */
export function makeCgroup(path: string): void {
  mkdirSync(path, { recursive: true });
}

/** Moves a process into the control group, with all of its threads. Sockets that it has made stay where it was. */
export function enterCgroup(path: string, pid: number): void {
  writeFileSync(join(path, 'cgroup.procs'), `${pid}\n`);
}

/** The processes in the control group and below it. */
export function cgroupTree(path: string): readonly number[] {
  try {
    const own = readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
    const children = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [...own, ...children.flatMap(({ name }) => cgroupTree(join(path, name)))];
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENODEV') return [];
    throw error;
  }
}

/** Removes an empty control group; false while something is in it. One that is not there is fine. */
export function removeCgroup(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return true;
    if (codeOf(error) === 'EBUSY' || codeOf(error) === 'ENOTEMPTY') return false;
    throw error;
  }
}
