/**
 * One pod's part of the runtime as its worker knows it: kept from the worker's own calls, brought up to date where an
 * event or a relist says that something may have changed.
 */
import type { Clock } from '../../../base/clock.ts';
import { POD_UID_LABEL } from '../config/labels.ts';
import { isCriNotFound } from '../cri/errors.ts';
import type { CriRuntime } from '../cri/runtime.ts';
import type { Container, PodSandbox } from '../cri/types.ts';
import {
  type ContainerRecord,
  containerRecord,
  EMPTY_RUNTIME,
  listedSandbox,
  type PodRuntime,
  type SandboxRecord,
  sandboxRecord,
  stateOf,
  withContainer,
  withoutContainer,
  withoutSandbox,
  withSandbox,
} from '../state/pod-runtime.ts';

/**
 * containerd tells of an exit before its CRI knows: the status is asked again after these waits, in milliseconds,
 * until it says so too (about 1 s in all; then the next relist must do).
 */
const EXIT_WAITS_MS = [2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377];

export interface RuntimeViewOptions {
  readonly runtime: CriRuntime;
  readonly clock: Clock;
  readonly uid: string;
  /** Tells which pod a CRI id belongs to, for events. */
  readonly onId: (id: string) => void;
  /** A container that has ended is read once more before it is kept: its termination message is added. */
  readonly onExited: (record: ContainerRecord) => Promise<ContainerRecord>;
}

export class RuntimeView {
  readonly #options: RuntimeViewOptions;
  #runtime: PodRuntime = EMPTY_RUNTIME;
  #stale = false;
  readonly #exited = new Set<string>();
  readonly #outOfMemory = new Set<string>();

  constructor(options: RuntimeViewOptions) {
    this.#options = options;
  }

  get current(): PodRuntime {
    return this.#runtime;
  }

  /** Everything may have changed. */
  suspect(): void {
    this.#stale = true;
  }

  /** The main process of this sandbox or container has ended. */
  suspectExit(id: string): void {
    this.#exited.add(id);
  }

  noteOutOfMemory(id: string): void {
    this.#outOfMemory.add(id);
  }

  /** Whether a listing shows something that this view does not know. */
  differs(sandboxes: readonly PodSandbox[], containers: readonly Container[]): boolean {
    const known = this.#runtime;
    if (sandboxes.length !== known.sandboxes.length || containers.length !== known.containers.length) return true;
    const sandboxChanged = sandboxes.some((listed) => {
      const record = known.sandboxes.find(({ id }) => id === listed.id);
      return record?.ready !== (listed.state === 'SANDBOX_READY');
    });
    const containerChanged = (listed: Container) =>
      known.containers.find(({ id }) => id === listed.id)?.state !== stateOf(listed);
    return sandboxChanged || containers.some(containerChanged);
  }

  /** Looks at what was suspected. */
  async refresh(): Promise<void> {
    if (this.#stale) {
      this.#stale = false;
      await this.#reload();
    }
    for (const id of [...this.#exited]) {
      this.#exited.delete(id);
      await this.#confirmExit(id);
    }
  }

  async #reload(): Promise<void> {
    const { runtime, uid } = this.#options;
    const filter = { labelSelector: { [POD_UID_LABEL]: uid } };
    const [sandboxes, containers] = await Promise.all([runtime.listPodSandbox(filter), runtime.listContainers(filter)]);
    const before = this.#runtime;
    const sandboxRecords = await Promise.all(
      sandboxes.map((listed) => {
        const known = before.sandboxes.find(({ id }) => id === listed.id);
        const ready = listed.state === 'SANDBOX_READY';
        if (known && known.ready === ready) return known;
        return ready ? this.#readSandbox(listed.id) : { ...listedSandbox(listed), ips: known?.ips ?? [] };
      }),
    );
    const containerRecords = await Promise.all(
      containers.map((listed) => {
        const known = before.containers.find(({ id }) => id === listed.id);
        if (known && known.state === stateOf(listed)) return known;
        return this.#readContainer(listed.id, listed.podSandboxId);
      }),
    );
    let next: PodRuntime = EMPTY_RUNTIME;
    for (const record of sandboxRecords) if (record) next = withSandbox(next, record);
    for (const record of containerRecords) if (record) next = withContainer(next, record);
    this.#runtime = next;
    for (const { id } of [...next.sandboxes, ...next.containers]) this.#options.onId(id);
  }

  async #confirmExit(id: string): Promise<void> {
    const { clock } = this.#options;
    for (const wait of [0, ...EXIT_WAITS_MS]) {
      if (wait) await clock.sleep(wait);
      const sandbox = this.#runtime.sandboxes.find((record) => record.id === id);
      const container = this.#runtime.containers.find((record) => record.id === id);
      if (sandbox?.ready) {
        const record = await this.#readSandbox(id);
        if (!record) this.#runtime = withoutSandbox(this.#runtime, id);
        else if (!record.ready) this.#runtime = withSandbox(this.#runtime, { ...record, ips: sandbox.ips });
        if (!record?.ready) return;
      } else if (container && container.state !== 'exited') {
        const record = await this.#readContainer(id, container.sandboxId);
        if (!record) this.#runtime = withoutContainer(this.#runtime, id);
        else if (record.state === 'exited') this.#runtime = withContainer(this.#runtime, record);
        if (record?.state !== 'running' && record?.state !== 'created') return;
      } else return;
    }
    this.#stale = true;
  }

  /** A sandbox was made by us, with these addresses: it needs no look. */
  sandboxMade(id: string, attempt: number, ips: readonly string[]): SandboxRecord {
    this.#options.onId(id);
    const record = { id, attempt, ips, ready: true, createdAt: this.#options.clock.now() };
    this.#runtime = withSandbox(this.#runtime, record);
    return record;
  }

  /** Reads a sandbox that was made or changed; returns what is known of it now. */
  async sandbox(id: string): Promise<SandboxRecord | undefined> {
    this.#options.onId(id);
    const record = await this.#readSandbox(id);
    this.#runtime = record ? withSandbox(this.#runtime, record) : withoutSandbox(this.#runtime, id);
    return record;
  }

  /** Reads a container that was made or changed; returns what is known of it now. */
  async container(id: string, sandboxId: string): Promise<ContainerRecord | undefined> {
    this.#options.onId(id);
    const record = await this.#readContainer(id, sandboxId);
    this.#runtime = record ? withContainer(this.#runtime, record) : withoutContainer(this.#runtime, id);
    return record;
  }

  /** The sandbox was stopped by us: it needs no look. */
  sandboxStopped(id: string): void {
    const record = this.#runtime.sandboxes.find((sandbox) => sandbox.id === id);
    if (record) this.#runtime = withSandbox(this.#runtime, { ...record, ready: false });
  }

  sandboxRemoved(id: string): void {
    this.#runtime = withoutSandbox(this.#runtime, id);
  }

  containerRemoved(id: string): void {
    this.#runtime = withoutContainer(this.#runtime, id);
  }

  async #readSandbox(id: string): Promise<SandboxRecord | undefined> {
    try {
      return sandboxRecord(await this.#options.runtime.podSandboxStatus(id));
    } catch (error) {
      if (isCriNotFound(error)) return undefined;
      throw error;
    }
  }

  async #readContainer(id: string, sandboxId: string): Promise<ContainerRecord | undefined> {
    try {
      const record = containerRecord(sandboxId, await this.#options.runtime.containerStatus(id));
      if (record.state !== 'exited') return record;
      return await this.#options.onExited(this.#outOfMemory.has(id) ? { ...record, reason: 'OOMKilled' } : record);
    } catch (error) {
      if (isCriNotFound(error)) return undefined;
      throw error;
    }
  }
}
