/** hostPath volumes: a file or folder of the node, checked or made by its type. */
import { lstat, mkdir, open, stat } from 'node:fs/promises';
import { codeOf } from '../../../base/errors.ts';
import type { corev1 } from '../../../kube/types.ts';
import { ContainerConfigError } from '../config-error.ts';

/** The path, made where the type says so. Throws ContainerConfigError when it is not what the type demands. */
export async function ensureHostPath(source: corev1.HostPathVolumeSource): Promise<string> {
  const { path } = source;
  const type = source.type ?? '';
  if (!path.startsWith('/') || path.split('/').includes('..'))
    throw new ContainerConfigError(`hostPath ${JSON.stringify(path)} must be absolute and without ".."`);
  if (type === 'DirectoryOrCreate') await mkdir(path, { recursive: true, mode: 0o755 });
  if (type === 'FileOrCreate') await (await open(path, 'a', 0o644)).close();
  const found = await statIfAny(path);
  if (type === '') {
    // Without a type the runtime mounts what is there, and a folder where nothing is.
    if (!found) await mkdir(path, { recursive: true, mode: 0o755 });
    return path;
  }
  const fits =
    found &&
    ((type.startsWith('Directory') && found.isDirectory()) ||
      (type.startsWith('File') && found.isFile()) ||
      (type === 'Socket' && found.isSocket()) ||
      (type === 'CharDevice' && found.isCharacterDevice()) ||
      (type === 'BlockDevice' && found.isBlockDevice()));
  if (!fits) throw new ContainerConfigError(`hostPath type check failed: ${path} is not a ${describe(type)}`);
  return path;
}

async function statIfAny(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    await lstat(path).catch(() => undefined);
    return undefined;
  }
}

function describe(type: string): string {
  const words: Record<string, string> = {
    Directory: 'directory',
    DirectoryOrCreate: 'directory',
    File: 'file',
    FileOrCreate: 'file',
    Socket: 'socket file',
    CharDevice: 'character device',
    BlockDevice: 'block device',
  };
  return words[type] ?? type;
}
