/**
 * Removes pods that nobody else removes: those on nodes that no longer exist, those that were deleted before they had a node,
 * those that end on a node which is out of service, and the oldest ended ones when there are too many.
 */
import { BoundedRunner } from '../../base/bounded-runner.ts';
import type { Timer } from '../../base/clock.ts';
import type { Startable } from '../../base/startable.ts';
import { isReady } from '../../kube/conditions.ts';
import { isConflict, isNotFound } from '../../kube/status.ts';
import type { Pod } from '../../kube/types.ts';
import { withDisruptionTarget } from '../disruption.ts';
import type { ControllerContext } from '../informers.ts';
import { taintKeys } from '../node-taints.ts';
import { isPodTerminal } from '../pod-state.ts';
import { allDone } from '../reconciling.ts';

export interface PodCollectorOptions {
  /** A node must be absent for so long before its pods are removed, in milliseconds (Kubernetes: 40 s). */
  readonly quarantineMs?: number;
  /** Ended pods that are kept (Kubernetes: 12500). */
  readonly terminatedThreshold?: number;
}

/** Rounds: at most one a second when something happens, one each 20 s anyway (Kubernetes' gcCheckPeriod). */
const minIntervalMs = 1000;
const maxIntervalMs = 20_000;

export class PodCollector implements Startable {
  readonly #context: ControllerContext;
  readonly #quarantineMs: number;
  readonly #threshold: number;
  readonly #runner: BoundedRunner;
  /** Since when nodes that pods name have been absent. */
  readonly #absent = new Map<string, number>();
  #timer: Timer | undefined;

  constructor(context: ControllerContext, options: PodCollectorOptions = {}) {
    const { log, clock, informers } = context;
    this.#context = context;
    this.#quarantineMs = options.quarantineMs ?? 40_000;
    this.#threshold = options.terminatedThreshold ?? 12_500;
    this.#runner = new BoundedRunner({
      name: 'pod-gc',
      log,
      clock,
      minIntervalMs,
      maxIntervalMs,
      run: () => this.#collect(),
    });
    informers.of('Node').addHandler({ onDelete: () => this.#runner.trigger() });
    informers.of('Pod').addHandler({
      onUpdate: (_, pod) => {
        if (pod.metadata.deletionTimestamp && !pod.spec.nodeName) this.#runner.trigger();
      },
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([informers.of('Node').start(signal), informers.of('Pod').start(signal)]);
    signal.addEventListener('abort', () => this.#timer?.cancel(), { once: true });
    this.#runner.start(signal);
    this.#runner.trigger();
  }

  async #collect(): Promise<void> {
    const pods = [...this.#context.informers.of('Pod').list()];
    const gone = await this.#goneNodes(pods);
    await allDone([
      ...pods.filter((pod) => gone.has(pod.spec.nodeName ?? '')).map((pod) => this.#removeOrphan(pod)),
      ...pods.filter((pod) => this.#isStranded(pod)).map((pod) => this.#remove(pod)),
      ...this.#excess(pods).map((pod) => this.#remove(pod)),
    ]);
  }

  /** The nodes that pods name, which the server says do not exist, after the quarantine. */
  async #goneNodes(pods: readonly Pod[]): Promise<ReadonlySet<string>> {
    const { informers, clock } = this.#context;
    const named = new Set(pods.map((pod) => pod.spec.nodeName).filter((name) => name !== undefined && name !== ''));
    const missing = [...named].filter((name) => !informers.of('Node').get(name!)) as string[];
    for (const name of this.#absent.keys()) if (!missing.includes(name)) this.#absent.delete(name);
    for (const name of missing) if (!this.#absent.has(name)) this.#absent.set(name, clock.now());
    const due = missing.filter((name) => this.#absent.get(name)! + this.#quarantineMs <= clock.now());
    if (due.length < missing.length) {
      const next = Math.min(...missing.filter((name) => !due.includes(name)).map((name) => this.#absent.get(name)!));
      this.#timer?.cancel();
      this.#timer = clock.after(Math.max(1, next + this.#quarantineMs - clock.now()), () => this.#runner.trigger());
    }
    const gone = await allDone(due.map(async (name) => ((await this.#exists(name)) ? [] : [name])));
    return new Set(gone.flat());
  }

  async #exists(name: string): Promise<boolean> {
    try {
      await this.#context.client.get('Node', { name });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  /** Deleted, but nobody will end it: it never had a node, or its node is out of service. */
  #isStranded(pod: Pod): boolean {
    if (!pod.metadata.deletionTimestamp) return false;
    if (!pod.spec.nodeName) return true;
    const node = this.#context.informers.of('Node').get(pod.spec.nodeName);
    const outOfService = node?.spec.taints?.some((taint) => taint.key === taintKeys.outOfService);
    return node !== undefined && outOfService === true && !isReady(node);
  }

  #excess(pods: readonly Pod[]): readonly Pod[] {
    const ended = pods.filter((pod) => isPodTerminal(pod) && !pod.metadata.deletionTimestamp);
    const count = ended.length - this.#threshold;
    if (count <= 0) return [];
    const age = (pod: Pod) => pod.metadata.creationTimestamp;
    return ended.sort((a, b) => (age(a) < age(b) ? -1 : 1)).slice(0, count);
  }

  /** The pod has failed with its node; whoever counts pods must be able to see that. */
  async #removeOrphan(pod: Pod): Promise<void> {
    const { client, clock } = this.#context;
    if (!isPodTerminal(pod)) {
      const why = { reason: 'DeletionByPodGC', message: 'PodGC: node no longer exists' };
      const marked = withDisruptionTarget(pod, why, clock.now());
      await this.#ignoringChange(() =>
        client.updateStatus('Pod', { ...marked, status: { ...marked.status, phase: 'Failed' } }),
      );
    }
    await this.#remove(pod);
  }

  #remove({ metadata }: Pod): Promise<void> {
    const options = { gracePeriodSeconds: 0, preconditions: { uid: metadata.uid } };
    return this.#ignoringChange(() => this.#context.client.delete('Pod', metadata, options));
  }

  /** A pod that is gone or has changed in the meantime is left to the next round. */
  async #ignoringChange(write: () => Promise<unknown>): Promise<void> {
    try {
      await write();
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }
}
