/** A pod's parent cgroup, in every hierarchy of cgroup v1, and of v2: removed, because the runtime leaves it; looked into. */
import { readdirSync } from 'node:fs';
import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../../base/errors.ts';
import { cgroupTree } from '../../linux/cgroup.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';

/** `parent` is the path below each hierarchy. What is absent, or still in use, is left. */
export async function removeCgroup(parent: string, root = CGROUP_ROOT): Promise<void> {
  await Promise.all(foldersOf(parent, root).map(removeFolder));
}

/** A process of the pod, by which its namespaces can be entered; undefined when it has none. */
export function processOf(parent: string, root = CGROUP_ROOT): number | undefined {
  for (const folder of foldersOf(parent, root)) {
    const [pid] = cgroupTree(folder);
    if (pid !== undefined) return pid;
  }
  return undefined;
}

function foldersOf(parent: string, root: string): readonly string[] {
  const parts = parent.split('/').filter(Boolean);
  if (!parts.length || parts.includes('..')) throw new TypeError(`bad cgroup path ${JSON.stringify(parent)}`);
  const hierarchies = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [root, ...hierarchies.map(({ name }) => join(root, name))].map((hierarchy) => join(hierarchy, ...parts));
}

async function removeFolder(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'EBUSY', 'ENOTEMPTY', 'EPERM', 'EROFS'].includes(codeOf(error) ?? '')) throw error;
  }
}
