/**
 * Takes a cluster down from what is on disk and in the kernel alone, so that it also works after its supervisor was killed
 * or never finished starting. Everything is idempotent; what could not be removed is named in the error.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { mountsUnder, unmount } from '../linux/mount.ts';
import { NetworkNamespace } from '../linux/netns.ts';
import { type ClusterPaths, clusterPaths, RUN_ROOT, STATE_ROOT } from './paths.ts';
import { processesOf, recordedProcesses, removeCgroups, signalProcess, waitUntilGone } from './process-table.ts';

/** The names of all clusters that left anything behind on this machine. */
export function existingClusters(): string[] {
  const names = new Set<string>();
  for (const root of [STATE_ROOT, RUN_ROOT]) {
    if (existsSync(root)) for (const name of readdirSync(root)) names.add(name);
  }
  return [...names].sort();
}

/** The supervisor of a cluster, if one is alive. */
export function supervisorOf(paths: ClusterPaths): number | undefined {
  return recordedProcesses(paths).find((one) => one.name === 'supervisor')?.pid;
}

/**
 * Ends every process of the cluster and removes its namespaces, control groups, mounts and files. The caller is spared, should it be
 * the supervisor itself.
 */
export async function tearDown(name: string): Promise<void> {
  const paths = clusterPaths(name);
  await endSupervisor(paths);
  await endProcesses(paths);
  removeNamespaces(paths);
  const busy = await removeControlGroups(paths);
  for (const mount of mountsUnder(paths.state)) unmount(mount);
  rmSync(paths.run, { recursive: true, force: true });
  rmSync(paths.state, { recursive: true, force: true, maxRetries: 3 });
  for (const root of [RUN_ROOT, STATE_ROOT]) removeWhenEmpty(root);
  if (busy.length > 0)
    throw new UserError(`the control group ${busy[0]} is still in use`, { hint: 'run podwire down again' });
}

/** The supervisor first: it would start again what is ended. */
async function endSupervisor(paths: ClusterPaths): Promise<void> {
  const supervisor = supervisorOf(paths);
  if (supervisor === undefined || supervisor === process.pid) return;
  signalProcess(supervisor, 'SIGKILL');
  await waitUntilGone([supervisor], 2000);
}

async function endProcesses(paths: ClusterPaths): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const pids = processesOf(paths);
    if (pids.length === 0) return;
    for (const pid of pids) signalProcess(pid, 'SIGKILL');
    await waitUntilGone(pids, 1000);
  }
  const left = processesOf(paths);
  if (left.length > 0) throw new UserError(`these processes of the cluster do not end: ${left.join(', ')}`);
}

function removeNamespaces(paths: ClusterPaths): void {
  if (!existsSync(paths.namespaces)) return;
  for (const name of readdirSync(paths.namespaces)) NetworkNamespace.delete(join(paths.namespaces, name));
}

/** The kernel empties a control group a moment after its last process is gone. */
async function removeControlGroups(paths: ClusterPaths): Promise<string[]> {
  let busy = removeCgroups(paths);
  for (let round = 0; busy.length > 0 && round < 100; round++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    busy = removeCgroups(paths);
  }
  return busy;
}

function removeWhenEmpty(folder: string): void {
  if (existsSync(folder) && readdirSync(folder).length === 0) rmSync(folder, { recursive: true });
}
