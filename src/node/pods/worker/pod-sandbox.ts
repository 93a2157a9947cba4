/** Makes and ends the sandbox of one pod. */
import { mkdirSync } from 'node:fs';
import type { Pod } from '../../../kube/types.ts';
import { podResolver } from '../config/network-files.ts';
import { buildSandboxConfig } from '../config/sandbox-config.ts';
import { CriError } from '../cri/errors.ts';
import type { PodSandboxConfig } from '../cri/types.ts';
import { currentSandbox, type SandboxRecord } from '../state/pod-runtime.ts';
import { podEvent, podLogDirectory, type WorkerContext } from './context.ts';
import type { RuntimeView } from './runtime-view.ts';

export class PodSandboxes {
  readonly #context: WorkerContext;
  readonly #view: RuntimeView;
  #nextAttempt = 0;
  #config: { readonly attempt: number; readonly config: PodSandboxConfig } | undefined;

  constructor(context: WorkerContext, view: RuntimeView) {
    this.#context = context;
    this.#view = view;
  }

  /** The configuration of a sandbox: containers are created with the one of their sandbox. */
  config(pod: Pod, attempt: number): PodSandboxConfig {
    if (this.#config?.attempt !== attempt) this.#config = { attempt, config: this.#buildConfig(pod, attempt) };
    return this.#config.config;
  }

  #buildConfig(pod: Pod, attempt: number): PodSandboxConfig {
    const { clusterDns, clusterDomain, logsDir } = this.#context;
    const node = this.#context.nodeResolver();
    const { config: dns, warnings } = podResolver(pod, { clusterDns, clusterDomain, node });
    for (const warning of warnings) podEvent(this.#context, pod, 'Warning', 'DNSConfigForming', warning);
    return buildSandboxConfig({
      pod,
      attempt,
      logDirectory: podLogDirectory(logsDir, pod.metadata),
      dns,
      clusterDomain,
      cgroupParent: this.#context.cgroupParent(pod),
    });
  }

  /** Makes the next sandbox, with its network. Rejects with CriError, having told why by an event. */
  async create(pod: Pod): Promise<SandboxRecord> {
    const before = currentSandbox(this.#view.current);
    if (before)
      podEvent(
        this.#context,
        pod,
        'Normal',
        'SandboxChanged',
        'Pod sandbox changed, it will be killed and re-created.',
      );
    const attempt = Math.max(this.#nextAttempt, before ? before.attempt + 1 : 0);
    // A failed try may have had another pod's labels or resolver.
    this.#config = undefined;
    const config = this.config(pod, attempt);
    mkdirSync(config.logDirectory, { recursive: true, mode: 0o755 });
    try {
      const id = await this.#context.runtime.runPodSandbox(config);
      const ips = pod.spec.hostNetwork ? [] : this.#context.addressesOf(id);
      const record = ips ? this.#view.sandboxMade(id, attempt, ips) : await this.#view.sandbox(id);
      if (!record) throw new CriError('RunPodSandbox', 'NOT_FOUND', 'the sandbox vanished when it was made');
      return record;
    } catch (error) {
      // A call that timed out may still hold the name of this attempt.
      if (error instanceof CriError && /reserved/.test(error.details)) this.#nextAttempt = attempt + 1;
      const details =
        error instanceof CriError ? `rpc error: code = ${error.code} desc = ${error.details}` : String(error);
      podEvent(this.#context, pod, 'Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${details}`);
      throw error;
    }
  }

  /** Stops all sandboxes: their network is taken down, what still runs in them is killed. */
  async stopAll(): Promise<void> {
    await Promise.all(this.#view.current.sandboxes.map(({ id }) => this.stop(id)));
  }

  async stop(id: string): Promise<void> {
    await this.#context.runtime.stopPodSandbox(id);
    this.#view.sandboxStopped(id);
  }

  /** Removes all sandboxes with their containers. */
  async removeAll(): Promise<void> {
    await Promise.all(this.#view.current.sandboxes.map(({ id }) => this.remove(id)));
  }

  async remove(id: string): Promise<void> {
    await this.#context.runtime.removePodSandbox(id);
    this.#view.sandboxRemoved(id);
  }
}
