/** Enters the network namespace of a pod from outside, so that packets can be sent from it whatever its image contains. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { NetworkNamespace } from '../linux/netns.ts';
import type { ClusterPaths } from './paths.ts';
import { cgroupProcesses, cgroupsOf } from './process-table.ts';

/** Opens the namespace of the pod with the uid; undefined when it has no process on this machine. The caller closes it. */
export function openPodNamespace(paths: ClusterPaths, uid: string): NetworkNamespace | undefined {
  for (const folder of cgroupsOf(paths)) {
    if (!folder.includes(uid)) continue;
    for (const pid of cgroupProcesses(folder)) {
      if (existsSync(join('/proc', `${pid}`))) return NetworkNamespace.ofPid(pid);
    }
  }
  return undefined;
}

/** The names of the cluster's own namespaces: its nodes, "outside" and "underlay". */
export function clusterNamespaces(paths: ClusterPaths): string[] {
  return existsSync(paths.namespaces) ? readdirSync(paths.namespaces).sort() : [];
}
