/** A pod manager with a runtime, an API server and a clock that tests hold in their hands. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FakeClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import { FakeClient } from '../../kube/fake-client.ts';
import { Informer } from '../../kube/informer.ts';
import { isNotFound } from '../../kube/status.ts';
import type { Pod, PodSpec } from '../../kube/types.ts';
import { FakeRuntime } from './cri/fake-runtime.ts';
import { PodManager, type PodManagerOptions } from './manager.ts';
import type { VolumeMounts } from './volumes/mounts.ts';
/** A node in memory: the manager over the fake runtime and the fake API, with a clock that the test moves. */
export class Lab {
  readonly clock = new FakeClock();
  readonly client = new FakeClient();
  readonly runtime = new FakeRuntime({ clock: this.clock });
  readonly events: string[] = [];
  readonly mounted: string[] = [];
  readonly folder: string;
  manager!: PodManager;
  #controller = new AbortController();
  #options: Partial<PodManagerOptions>;

  private constructor(folder: string, options: Partial<PodManagerOptions>) {
    this.folder = folder;
    this.#options = options;
  }

  static async start(t: TestContext, options: Partial<PodManagerOptions> = {}): Promise<Lab> {
    const lab = new Lab(await mkdtemp(join(tmpdir(), 'podwire-lab-')), options);
    t.after(async () => {
      lab.#controller.abort();
      await rm(lab.folder, { recursive: true, force: true });
    });
    await lab.startAgent();
    return lab;
  }

  async startAgent(): Promise<void> {
    this.#controller = new AbortController();
    const { client, clock, runtime, folder } = this;
    const mounts: VolumeMounts = {
      tmpfs: async (target) => void this.mounted.push(target),
      unmount: async (target) => void this.mounted.splice(this.mounted.indexOf(target), 1),
    };
    const common = { client, log: silentLogger };
    this.manager = new PodManager({
      nodeName: 'n',
      nodeIPs: ['172.18.0.2', 'fd00:18::2'],
      client,
      podInformer: new Informer('Pod', { ...common, fieldSelector: 'spec.nodeName=n' }),
      serviceInformer: new Informer('Service', common),
      log: silentLogger,
      runtime,
      runtimeEvents: runtime,
      events: { event: (about, _type, reason, message) => this.events.push(`${about.name} ${reason}: ${message}`) },
      resources: { memoryBytes: 1 << 30, capacity: { cpu: '2', memory: '1Gi' } },
      dirs: { pods: join(folder, 'pods'), logs: join(folder, 'logs') },
      mounts,
      clusterDns: ['10.96.0.10'],
      clusterDomain: 'cluster.local',
      networkReady: () => true,
      clock,
      ...this.#options,
    });
    await this.manager.start(this.#controller.signal);
  }

  /** The agent is gone from one moment to the next; pods run on. */
  killAgent(): void {
    this.#controller.abort();
  }

  async create(name: string, spec: Partial<PodSpec> = {}, uid?: string): Promise<void> {
    const containers = spec.containers ?? [container('main')];
    const metadata = { name, namespace: 'default', ...(uid ? { uid } : {}) };
    await this.client.create('Pod', { metadata, spec: { nodeName: 'n', ...spec, containers } });
  }

  get(name: string): Promise<Pod> {
    return this.client.get('Pod', { namespace: 'default', name });
  }

  delete(name: string, gracePeriodSeconds?: number): Promise<void> {
    const options = gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds };
    return this.client.delete('Pod', { namespace: 'default', name }, options);
  }

  async eventually(name: string, wanted: (pod: Pod) => boolean): Promise<Pod> {
    let pod: Pod | undefined;
    await until(
      async () => {
        await this.clock.advance(0);
        pod = await this.get(name);
        return wanted(pod);
      },
      () => JSON.stringify(pod?.status, null, 1),
    );
    return pod!;
  }

  async gone(name: string): Promise<void> {
    await until(async () => {
      await this.clock.advance(0);
      const found = await this.get(name).catch((error: unknown) => {
        if (isNotFound(error)) return undefined;
        throw error;
      });
      return found === undefined && this.runtime.sandboxes.size === 0;
    });
  }

  /** What was called, in order, since the last time. */
  calls(): string[] {
    return this.runtime.calls.splice(0);
  }
}

export async function until(wanted: () => boolean | Promise<boolean>, say: () => string = () => ''): Promise<void> {
  for (let i = 0; i < 700; i++) {
    if (await wanted()) return;
    await sleep(1);
  }
  assert.fail(`has not come to be: ${wanted} ${say()}`);
}

export const container = (name: string, more: Partial<PodSpec['containers'][number]> = {}) => ({
  name,
  image: 'busybox',
  imagePullPolicy: 'IfNotPresent',
  ...more,
});

export const condition =
  (type: string, value = 'True') =>
  (pod: Pod) =>
    pod.status?.conditions?.some((one) => one.type === type && one.status === value) ?? false;
export const ready = condition('Ready');
export const status = (pod: Pod, name = 'main') =>
  [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])].find(
    (one) => one.name === name,
  );
export const waiting =
  (reason: string, name = 'main') =>
  (pod: Pod) =>
    status(pod, name)?.state?.waiting?.reason === reason;
export const restarted =
  (times: number, name = 'main') =>
  (pod: Pod) => {
    const one = status(pod, name);
    return one?.restartCount === times && one.state?.running !== undefined;
  };
