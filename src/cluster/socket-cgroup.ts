/**
 * A node's control group of version 2, at which the programs of the proxy mode ebpf are attached: it holds the node's agent
 * and containerd, and with it the pods. Where version 1 counts the pods' resources (a hybrid), pods are in the same group as
 * their containerd; where version 2 does, they are in groups of their own below the node's, which may hold no processes
 * itself then: hence the one below it.
 */
import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { cgroup2Root, makeCgroup } from '../linux/cgroup.ts';
import type { ClusterPaths } from './paths.ts';

export interface SocketCgroup {
  /** Where programs are attached. */
  readonly node: string;
  /** Where the node's processes are. */
  readonly processes: string;
}

/** Makes it. It goes with the cluster's other control groups (process-table.ts), and the programs with it. */
export function makeSocketCgroup(paths: ClusterPaths, nodeName: string): SocketCgroup {
  const root = cgroup2Root();
  if (!root) throw new UserError('no control groups of version 2 are mounted on this machine', { exitCode: 3 });
  const node = join(root, paths.cgroup, nodeName);
  const processes = join(node, 'processes');
  makeCgroup(processes);
  return { node, processes };
}

/** The command, run by a process that has entered the control group first: its sockets and children are in there. */
export function inCgroup(cgroup: string, command: readonly [string, ...string[]]): readonly [string, ...string[]] {
  return ['sh', '-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', cgroup, ...command];
}
