/**
 * The volumes of this node's pods, as folders below the pod's own folder:
 *
 *   <pods>/<uid>/volumes/kubernetes.io~configmap/<name>
 *   <memory>/<uid>/volumes/kubernetes.io~secret/<name>        Secrets and what is projected
 *
 * Everything is found again by its path, so nothing is kept in memory but tokens.
 */
import { chmod, chown, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../../base/clock.ts';
import { codeOf, messageOf } from '../../../base/errors.ts';
import { quantityValue } from '../../../kube/quantity.ts';
import type { corev1, Pod } from '../../../kube/types.ts';
import { ContainerConfigError } from '../config-error.ts';
import type { ConfigLookup } from '../env/environment.ts';
import type { PodFacts } from '../env/field-references.ts';
import { allContainers } from '../state/containers.ts';
import { writeAtomically } from './atomic-writer.ts';
import { ensureHostPath } from './host-path.ts';
import type { VolumeMounts } from './mounts.ts';
import { buildPayload } from './payload.ts';
import { TokenCache, type TokenSource } from './tokens.ts';

export interface VolumeManagerOptions {
  /** The folder of all pods' folders. */
  readonly podsDir: string;
  /** A folder in memory, seen by the runtime at the same path (memory-folder.ts); without it secrets lie in `podsDir`. */
  readonly memoryDir?: string;
  readonly mounts: VolumeMounts;
  readonly tokens?: TokenSource;
  readonly clock: Clock;
}

export interface VolumeContext extends PodFacts, ConfigLookup {}

/** Volume name -> path on the node. */
export type VolumePaths = ReadonlyMap<string, string>;

export class VolumeManager {
  readonly #options: VolumeManagerOptions;
  readonly #tokens: TokenCache;

  constructor(options: VolumeManagerOptions) {
    this.#options = options;
    this.#tokens = new TokenCache(options.tokens, options.clock);
  }

  podDir(uid: string): string {
    return join(this.#options.podsDir, checkedUid(uid));
  }

  #memoryPodDir(uid: string): string {
    return join(this.#options.memoryDir ?? this.#options.podsDir, checkedUid(uid));
  }

  /**
   * Makes the volumes that containers mount, or brings their files up to date; the paths by volume name. Throws
   * ContainerConfigError when one cannot be had.
   */
  async setUp(context: VolumeContext): Promise<VolumePaths> {
    const paths = new Map<string, string>();
    for (const volume of usedVolumes(context.pod)) {
      try {
        paths.set(volume.name, await this.#setUpOne(volume, context));
      } catch (error) {
        throw new ContainerConfigError(`MountVolume.SetUp failed for volume "${volume.name}" : ${messageOf(error)}`, {
          cause: error,
        });
      }
    }
    return paths;
  }

  async #setUpOne(volume: corev1.Volume, context: VolumeContext): Promise<string> {
    const fsGroup = context.pod.spec.securityContext?.fsGroup;
    if (volume.hostPath) return ensureHostPath(volume.hostPath);
    const { uid } = context.pod.metadata;
    const podDir = volume.secret || volume.projected ? this.#memoryPodDir(uid) : this.podDir(uid);
    const folder = join(podDir, 'volumes', folderName(volume), volume.name);
    if (volume.emptyDir) {
      await this.#emptyDir(folder, volume.emptyDir, fsGroup);
      return folder;
    }
    const tokens = await this.#tokens.forVolume(context.pod, volume);
    const payload = buildPayload(volume, { ...context, tokens });
    if (!payload) throw new ContainerConfigError(unsupportedMessage(volume));
    writeAtomically(folder, payload, fsGroup === undefined ? {} : { fsGroup });
    return folder;
  }

  async #emptyDir(folder: string, source: corev1.EmptyDirVolumeSource, fsGroup: number | undefined): Promise<void> {
    const created = await mkdir(folder, { recursive: true });
    const sizeBytes = source.sizeLimit === undefined ? undefined : quantityValue(String(source.sizeLimit));
    if (source.medium === 'Memory') {
      const group = fsGroup === undefined ? {} : { gid: fsGroup };
      await this.#options.mounts.tmpfs(folder, {
        ...(sizeBytes ? { sizeBytes } : {}),
        mode: emptyDirMode(fsGroup),
        ...group,
      });
    } else if (created) {
      if (fsGroup !== undefined) await chown(folder, 0, fsGroup);
      await chmod(folder, emptyDirMode(fsGroup));
    }
  }

  /** When the earliest token of the pod must be asked for again, in milliseconds since the epoch. */
  refreshAt(uid: string): number | undefined {
    return this.#tokens.refreshAt(uid);
  }

  /** Unmounts and removes everything of the pod on this node's disk. hostPaths are left alone. */
  async tearDown(uid: string): Promise<void> {
    this.#tokens.forget(uid);
    const folder = this.podDir(uid);
    for (const target of await memoryVolumes(folder)) await this.#options.mounts.unmount(target);
    for (const one of [folder, this.#memoryPodDir(uid)]) await rm(one, { recursive: true, force: true });
  }

  /** The uids that have a folder here. */
  async podsOnDisk(): Promise<readonly string[]> {
    const { podsDir, memoryDir } = this.#options;
    const folders = await Promise.all([podsDir, ...(memoryDir ? [memoryDir] : [])].map(listFolder));
    return [...new Set(folders.flat())];
  }
}

function checkedUid(uid: string): string {
  if (!/^[\w.-]+$/.test(uid) || uid.startsWith('.'))
    throw new ContainerConfigError(`bad pod uid ${JSON.stringify(uid)}`);
  return uid;
}

/** Writable for all, as Kubernetes has it; new files inherit the group. */
function emptyDirMode(fsGroup: number | undefined): number {
  return fsGroup === undefined ? 0o777 : 0o2777;
}

/** The volumes that a container mounts. Throws for a mount of a volume that is not there. */
export function usedVolumes(pod: Pod): readonly corev1.Volume[] {
  const names = new Set(allContainers(pod).flatMap(({ volumeMounts = [] }) => volumeMounts.map(({ name }) => name)));
  const volumes = pod.spec.volumes ?? [];
  for (const name of names)
    if (!volumes.some((volume) => volume.name === name))
      throw new ContainerConfigError(`the pod has no volume ${JSON.stringify(name)}`);
  return volumes.filter((volume) => names.has(volume.name));
}

/** Why the pod can never run here: a volume of a kind that this node does not have. */
export function unsupportedVolume(pod: Pod): string | undefined {
  for (const volume of pod.spec.volumes ?? []) {
    const { emptyDir, hostPath, configMap, secret, downwardAPI, projected } = volume;
    if (!emptyDir && !hostPath && !configMap && !secret && !downwardAPI && !projected)
      return unsupportedMessage(volume);
  }
  return undefined;
}

function unsupportedMessage(volume: corev1.Volume): string {
  const kind = Object.keys(volume).find((key) => key !== 'name') ?? 'none';
  return `volume ${JSON.stringify(volume.name)}: volumes of type ${kind} are not supported`;
}

function folderName(volume: corev1.Volume): string {
  if (volume.emptyDir) return volume.emptyDir.medium === 'Memory' ? MEMORY_FOLDER : 'kubernetes.io~empty-dir';
  if (volume.configMap) return 'kubernetes.io~configmap';
  if (volume.secret) return 'kubernetes.io~secret';
  if (volume.downwardAPI) return 'kubernetes.io~downward-api';
  return 'kubernetes.io~projected';
}

/** Volumes with a mount have a folder of their own, so that a new agent finds what to unmount. */
const MEMORY_FOLDER = 'podwire~memory';

async function memoryVolumes(podDir: string): Promise<readonly string[]> {
  const folder = join(podDir, 'volumes', MEMORY_FOLDER);
  return (await listFolder(folder)).map((name) => join(folder, name));
}

async function listFolder(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}
