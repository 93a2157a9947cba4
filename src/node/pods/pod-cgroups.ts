/** The runtime leaves a pod's parent cgroup behind: removes it from every hierarchy of cgroup v1, and of v2. */
import { readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../../base/errors.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';

/** `parent` is the path below each hierarchy. What is absent, or still in use, is left. */
export async function removeCgroup(parent: string, root = CGROUP_ROOT): Promise<void> {
  const parts = parent.split('/').filter(Boolean);
  if (!parts.length || parts.includes('..')) throw new TypeError(`bad cgroup path ${JSON.stringify(parent)}`);
  const hierarchies = (await readdir(root, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const roots = [root, ...hierarchies.map(({ name }) => join(root, name))];
  await Promise.all(roots.map((hierarchy) => removeFolder(join(hierarchy, ...parts))));
}

async function removeFolder(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'EBUSY', 'ENOTEMPTY', 'EPERM', 'EROFS'].includes(codeOf(error) ?? '')) throw error;
  }
}
