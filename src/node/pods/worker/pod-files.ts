/** The files of one pod on the node: volumes, kept up to date, and its /etc/hosts. */
import { mkdirSync, writeFileSync } from 'node:fs';
import type { Pod } from '../../../kube/types.ts';
import { renderHostsFile } from '../config/network-files.ts';
import { allContainers } from '../state/containers.ts';
import { volumeReferences } from '../volumes/payload.ts';
import { usedVolumes, type VolumePaths } from '../volumes/volume-manager.ts';
import { hostsFile } from './container-mounts.ts';
import type { WorkerContext } from './context.ts';

export class PodFiles {
  readonly #context: WorkerContext;
  #volumes: Promise<VolumePaths> | undefined;

  constructor(context: WorkerContext) {
    this.#context = context;
  }

  /** Begins to make the volumes, while the sandbox is made. */
  prepare(pod: Pod): void {
    this.volumes(pod, []).catch(() => {});
  }

  /** The pod's volumes, made once; a failure is tried again by the next call. */
  volumes(pod: Pod, podIPs: readonly string[]): Promise<VolumePaths> {
    this.#volumes ??= this.#setUp(pod, podIPs).catch((error: unknown) => {
      this.#volumes = undefined;
      throw error;
    });
    return this.#volumes;
  }

  /** Brings volumes up to date that were made before: an object, a label or a token has changed. */
  async refresh(pod: Pod, podIPs: readonly string[]): Promise<void> {
    if (!this.#volumes && !allContainers(pod).length) return;
    this.#volumes = undefined;
    await this.volumes(pod, podIPs);
  }

  async #setUp(pod: Pod, podIPs: readonly string[]): Promise<VolumePaths> {
    const context = this.#context;
    const references = usedVolumes(pod).flatMap(volumeReferences);
    const lookup = await context.config.hold(pod.metadata.uid, pod.metadata.namespace, references);
    const { hostIPs, allocatable } = context;
    return context.volumes.setUp({ pod, podIPs, hostIPs, allocatable, ...lookup });
  }

  /**
   * Writes /etc/hosts for the addresses that the sandbox has now. Synchronously, as everything that is small and stands
   * between a sandbox and its containers: while the runtime keeps all cores busy each turn of the thread pool costs more.
   */
  writeHosts(pod: Pod, podIPs: readonly string[]): void {
    const folder = this.#context.volumes.podDir(pod.metadata.uid);
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    const nodeFile = pod.spec.hostNetwork ? this.#context.nodeHostsFile() : undefined;
    const text = renderHostsFile(pod, podIPs, this.#context.clusterDomain, nodeFile);
    writeFileSync(hostsFile(folder), text, { mode: 0o644 });
  }
}
