/**
 * Where Secrets and tokens lie: below a tmpfs, so that they never reach a disk, as in the kubelet. One for all pods of a node,
 * mounted before the container runtime makes its own mount namespace, so that both see it at the same path: a mount for each
 * pod would have to be made inside the runtime's namespace, by two more processes in each start.
 */
import { statfsSync } from 'node:fs';

/** linux/magic.h */
const TMPFS_MAGIC = 0x01021994;

/** Whether the folder exists and its files are in memory. */
export function isInMemory(folder: string): boolean {
  try {
    return statfsSync(folder).type === TMPFS_MAGIC;
  } catch {
    return false;
  }
}
