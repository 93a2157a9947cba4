/** The mounts of one container: its volumes, /etc/hosts and the file for its termination message. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { corev1, Pod } from '../../../kube/types.ts';
import { DEFAULT_TERMINATION_PATH } from '../config/container-config.ts';
import { ContainerConfigError } from '../config-error.ts';
import type { Mount } from '../cri/types.ts';
import { expand } from '../env/expansion.ts';
import { resolveSubPath } from '../volumes/sub-path.ts';
import type { VolumePaths } from '../volumes/volume-manager.ts';

export interface MountsInput {
  readonly pod: Pod;
  readonly container: corev1.Container;
  readonly podDir: string;
  readonly attempt: number;
  readonly volumes: VolumePaths;
  readonly environment: ReadonlyMap<string, string>;
}

export async function containerMounts(input: MountsInput): Promise<readonly Mount[]> {
  const { container, podDir } = input;
  const mounts: Mount[] = [];
  for (const volumeMount of container.volumeMounts ?? []) mounts.push(await volumeMountOf(volumeMount, input));
  const taken = (path: string) => mounts.some(({ containerPath }) => containerPath === path);
  if (!taken('/etc/hosts')) mounts.push({ containerPath: '/etc/hosts', hostPath: hostsFile(podDir) });
  const messagePath = container.terminationMessagePath ?? DEFAULT_TERMINATION_PATH;
  if (!taken(messagePath)) mounts.push({ containerPath: messagePath, hostPath: makeMessageFile(input) });
  return mounts;
}

export function hostsFile(podDir: string): string {
  return join(podDir, 'etc-hosts');
}

/** One file per start, so that a message is never taken for that of an earlier run. */
export function messageFile(podDir: string, container: string, attempt: number): string {
  return join(podDir, 'containers', container, String(attempt));
}

function makeMessageFile({ podDir, container, attempt }: MountsInput): string {
  const path = messageFile(podDir, container.name, attempt);
  mkdirSync(join(podDir, 'containers', container.name), { recursive: true, mode: 0o755 });
  writeFileSync(path, '', { mode: 0o666 });
  // Whatever user the container runs as may write; the umask must not count.
  chmodSync(path, 0o666);
  return path;
}

async function volumeMountOf(mount: corev1.VolumeMount, input: MountsInput): Promise<Mount> {
  const path = input.volumes.get(mount.name);
  if (path === undefined) throw new ContainerConfigError(`cannot find volume "${mount.name}" to mount into container`);
  const subPath = mount.subPathExpr ? expandStrictly(mount.subPathExpr, input.environment) : mount.subPath;
  const memory = subPath && isMemoryVolume(input.pod, mount.name);
  if (memory) throw new ContainerConfigError(`volume "${mount.name}": subPath of a volume in memory is not supported`);
  return {
    containerPath: mount.mountPath.startsWith('/') ? mount.mountPath : `/${mount.mountPath}`,
    hostPath: subPath ? await resolveSubPath(path, subPath) : path,
    readonly: mount.readOnly ?? false,
    propagation: propagationOf(mount.mountPropagation),
  };
}

function isMemoryVolume(pod: Pod, name: string): boolean {
  return pod.spec.volumes?.find((volume) => volume.name === name)?.emptyDir?.medium === 'Memory';
}

function expandStrictly(text: string, environment: ReadonlyMap<string, string>): string {
  return expand(text, (name) => {
    const value = environment.get(name);
    if (value === undefined)
      throw new ContainerConfigError(`failed to expand subPath for mount: missing value for ${JSON.stringify(name)}`);
    return value;
  });
}

function propagationOf(mode: string | undefined): NonNullable<Mount['propagation']> {
  switch (mode) {
    case 'HostToContainer':
      return 'PROPAGATION_HOST_TO_CONTAINER';
    case 'Bidirectional':
      return 'PROPAGATION_BIDIRECTIONAL';
    default:
      return 'PROPAGATION_PRIVATE';
  }
}
