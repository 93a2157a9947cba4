/**
 * The processes of a cluster, found again by anyone: by the files that their supervisor wrote (a PID alone may have been
 * given to another process meanwhile, so its start time is kept beside it), by the network namespaces they are in, and by
 * the control groups of the pods.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { codeOf } from '../base/errors.ts';
import type { ClusterPaths } from './paths.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';

/** The start time of a process in clock ticks since boot (proc(5), stat field 22), or undefined when it is gone. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export interface RecordedProcess {
  readonly name: string;
  readonly pid: number;
}

/** Records a process under its name; a restart replaces the record. */
export function recordProcess(paths: ClusterPaths, name: string, pid: number): void {
  mkdirSync(paths.processes, { recursive: true });
  writeFileSync(join(paths.processes, name), `${pid} ${startTimeOf(pid) ?? ''}\n`);
}

export function forgetProcess(paths: ClusterPaths, name: string): void {
  rmSync(join(paths.processes, name), { force: true });
}

/** The recorded processes that are alive. */
export function recordedProcesses(paths: ClusterPaths): RecordedProcess[] {
  if (!existsSync(paths.processes)) return [];
  return readdirSync(paths.processes).flatMap((name) => {
    const [pid, startTime] = readFileSync(join(paths.processes, name), 'utf8').trim().split(' ');
    return startTime && startTimeOf(Number(pid)) === startTime ? [{ name, pid: Number(pid) }] : [];
  });
}

/** Every living process that belongs to the cluster, but never the caller. */
export function processesOf(paths: ClusterPaths): number[] {
  const found = new Set(recordedProcesses(paths).map((one) => one.pid));
  for (const pid of processesInNamespaces(paths)) found.add(pid);
  for (const folder of cgroupsOf(paths)) for (const pid of cgroupProcesses(folder)) found.add(pid);
  found.delete(process.pid);
  return [...found];
}

function processesInNamespaces(paths: ClusterPaths): number[] {
  if (!existsSync(paths.namespaces)) return [];
  const inodes = new Set(readdirSync(paths.namespaces).map((name) => statSync(join(paths.namespaces, name)).ino));
  const own = statSync('/proc/self/ns/net').ino;
  inodes.delete(own);
  return allProcesses().filter((pid) => {
    try {
      return inodes.has(statSync(`/proc/${pid}/ns/net`).ino);
    } catch {
      return false;
    }
  });
}

function allProcesses(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** The cluster's control groups, deepest first, in every hierarchy of version 1 and 2. */
export function cgroupsOf(paths: ClusterPaths): string[] {
  if (!existsSync(CGROUP_ROOT)) return [];
  const hierarchies = [CGROUP_ROOT, ...readdirSync(CGROUP_ROOT).map((name) => join(CGROUP_ROOT, name))];
  return hierarchies
    .map((root) => join(root, paths.cgroup))
    .filter(existsSync)
    .flatMap(deepestFirst);
}

/** A container's runtime removes its own groups meanwhile: what is gone when it is looked into is left out. */
function deepestFirst(folder: string): string[] {
  try {
    const children = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [...children.flatMap((child) => deepestFirst(join(folder, child.name))), folder];
  } catch (error) {
    // ENODEV: the group is being removed.
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ENODEV') return [];
    throw error;
  }
}

/** The processes inside one control group, without those of its children. */
export function cgroupProcesses(folder: string): number[] {
  try {
    return readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** Removes the cluster's empty control groups; returns those that are still in use. */
export function removeCgroups(paths: ClusterPaths): string[] {
  return cgroupsOf(paths).filter((folder) => {
    try {
      rmdirSync(folder);
      return false;
    } catch {
      return existsSync(folder);
    }
  });
}

/** Sends the signal; a process that is gone already is fine. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Waits until the processes are gone; returns those that are not after the given milliseconds. */
export async function waitUntilGone(pids: readonly number[], timeoutMs: number): Promise<number[]> {
  const deadline = systemClock.now() + timeoutMs;
  let left = pids.filter((pid) => startTimeOf(pid) !== undefined);
  while (left.length > 0 && systemClock.now() < deadline) {
    await systemClock.sleep(5);
    left = left.filter((pid) => startTimeOf(pid) !== undefined);
  }
  return left;
}
