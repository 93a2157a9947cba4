/** The sockets in a pod's network namespace, which its agent looks at from outside. */
import { hasCode } from '../../linux/errors.ts';
import { NetworkNamespace } from '../../linux/netns.ts';
import { listTcpSockets, type TcpSocket } from '../../linux/sock-diag.ts';
import { processOf } from './pod-cgroups.ts';

/** Those over TCP; `cgroup` is the pod's. Undefined when it has no process any more. */
export function podTcpSockets(cgroup: string): readonly TcpSocket[] | undefined {
  const pid = processOf(cgroup);
  if (pid === undefined) return undefined;
  try {
    using ns = NetworkNamespace.ofPid(pid);
    return listTcpSockets(ns);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
