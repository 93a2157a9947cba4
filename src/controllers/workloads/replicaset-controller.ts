/** Keeps as many pods as a ReplicaSet asks for. */

import { messageOf } from '../../base/errors.ts';
import type { Startable } from '../../base/startable.ts';
import { type ReconcileResult, WorkQueue } from '../../base/work-queue.ts';
import { EventRecorder } from '../../kube/events.ts';
import { keyOf } from '../../kube/names.ts';
import { fromLabelSelector } from '../../kube/selectors.ts';
import { isNotFound } from '../../kube/status.ts';
import type { Draft, Pod, ReplicaSet } from '../../kube/types.ts';
import { FreshStore } from '../fresh-store.ts';
import type { ControllerContext } from '../informers.ts';
import { controllerOf, controllerReference } from '../owners.ts';
import { isPodActive } from '../pod-state.ts';
import { allDone, isNamespaceTerminating, tolerant } from '../reconciling.ts';
import { adoptionPatch, claim, releasePatch } from './claims.ts';
import { addOwnerIndexes, byController, orphans } from './indexes.ts';
import { isStillThere, OwnerLookup } from './owned-objects.ts';
import { rankForDeletion } from './pod-ranking.ts';
import { type ReplicaFailure, replicaSetStatus } from './replicaset-status.ts';

/** Pods made or deleted in one turn (Kubernetes' BurstReplicas). */
const burst = 500;

export class ReplicaSetController implements Startable {
  readonly #context: ControllerContext;
  readonly #pods: FreshStore<'Pod'>;
  readonly #sets: FreshStore<'ReplicaSet'>;
  readonly #queue: WorkQueue;
  readonly #events: EventRecorder;

  constructor(context: ControllerContext) {
    const { client, clock, log, informers } = context;
    this.#context = context;
    this.#pods = new FreshStore(informers.of('Pod'), client, clock);
    this.#sets = new FreshStore(informers.of('ReplicaSet'), client, clock);
    addOwnerIndexes<Pod>(this.#pods);
    addOwnerIndexes<ReplicaSet>(this.#sets);
    this.#events = new EventRecorder({ client, log, clock, component: 'replicaset-controller' });
    this.#queue = new WorkQueue({
      name: 'replicasets',
      log,
      clock,
      workers: 8,
      reconcile: tolerant((key) => this.#reconcile(key)),
    });
    informers.of('ReplicaSet').addHandler({
      onAdd: (set) => this.#queue.add(keyOf(set)),
      onUpdate: (_, set) => this.#queue.add(keyOf(set)),
    });
    new OwnerLookup('ReplicaSet', informers.of('ReplicaSet'), (key) => this.#queue.add(key)).watch(informers.of('Pod'));
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([informers.of('Pod').start(signal), informers.of('ReplicaSet').start(signal)]);
    this.#queue.start(signal);
  }

  async #reconcile(key: string): Promise<ReconcileResult> {
    const set = this.#sets.get(key);
    if (!set) return;
    const pods = (await this.#claimPods(set)).filter(isPodActive);
    let failure: ReplicaFailure | undefined;
    let error: unknown;
    if (!set.metadata.deletionTimestamp) {
      try {
        await this.#scale(set, pods);
      } catch (caught) {
        if (isNamespaceTerminating(caught)) return;
        error = caught;
        const reason = pods.length < (set.spec.replicas ?? 1) ? 'FailedCreate' : 'FailedDelete';
        failure = { reason, message: messageOf(caught) };
      }
    }
    const next = await this.#writeStatus(key, failure);
    if (error) throw error;
    return next;
  }

  async #claimPods(set: ReplicaSet): Promise<readonly Pod[]> {
    const candidates = [
      ...this.#pods.byIndex(byController, set.metadata.uid),
      ...this.#pods.byIndex(orphans, set.metadata.namespace),
    ];
    const claims = claim(candidates, set, fromLabelSelector(set.spec.selector));
    const adopt = claims.adopt.filter(isPodActive);
    if (adopt.length > 0 && !(await isStillThere(this.#context.client, 'ReplicaSet', set))) return claims.owned;
    const change = async (pod: Pod, patch: object) => {
      try {
        return await this.#pods.patch(pod, patch);
      } catch (error) {
        if (isNotFound(error)) return undefined;
        throw error;
      }
    };
    const owner = controllerReference(set);
    const adopted = await allDone(adopt.map((pod) => change(pod, adoptionPatch(pod, owner))));
    await allDone(claims.release.map((pod) => change(pod, releasePatch(pod, set.metadata.uid))));
    return [...claims.owned, ...adopted.filter((pod) => pod !== undefined)];
  }

  async #scale(set: ReplicaSet, pods: readonly Pod[]): Promise<void> {
    const missing = (set.spec.replicas ?? 1) - pods.length;
    if (missing > 0) await this.#createPods(set, Math.min(missing, burst));
    else if (missing < 0) await this.#deletePods(set, pods, Math.min(-missing, burst));
  }

  /** In batches of 1, 2, 4 …: when the server refuses, it is not asked hundreds of times. */
  async #createPods(set: ReplicaSet, count: number): Promise<void> {
    const draft = podOf(set);
    for (let done = 0, batch = 1; done < count; batch *= 2) {
      const size = Math.min(batch, count - done);
      await allDone(Array.from({ length: size }, () => this.#createPod(set, draft)));
      done += size;
    }
  }

  async #createPod(set: ReplicaSet, draft: Draft<Pod>): Promise<void> {
    try {
      const pod = await this.#pods.create(draft);
      this.#events.event(set, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`);
    } catch (error) {
      if (!isNamespaceTerminating(error)) {
        this.#events.event(set, 'Warning', 'FailedCreate', `Error creating: ${messageOf(error)}`);
      }
      throw error;
    }
  }

  async #deletePods(set: ReplicaSet, pods: readonly Pod[], count: number): Promise<void> {
    const crowd = this.#crowd(set);
    const ranked = rankForDeletion(pods, (pod) => crowd.get(pod.spec.nodeName ?? '') ?? 0, this.#context.clock.now());
    await allDone(
      ranked.slice(0, count).map(async (pod) => {
        if (!(await this.#pods.delete(pod))) return;
        this.#events.event(set, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`);
      }),
    );
  }

  /** How many active pods of the sets of the same Deployment are on each node. */
  #crowd(set: ReplicaSet): ReadonlyMap<string, number> {
    const family = controllerOf(set);
    const sets = family ? this.#sets.byIndex(byController, family.uid) : [set];
    const crowd = new Map<string, number>();
    for (const one of sets) {
      for (const pod of this.#pods.byIndex(byController, one.metadata.uid)) {
        const { nodeName } = pod.spec;
        if (nodeName && isPodActive(pod)) crowd.set(nodeName, (crowd.get(nodeName) ?? 0) + 1);
      }
    }
    return crowd;
  }

  async #writeStatus(key: string, failure: ReplicaFailure | undefined): Promise<ReconcileResult> {
    const set = this.#sets.get(key);
    if (!set) return;
    const selector = fromLabelSelector(set.spec.selector);
    const pods = claim(this.#pods.byIndex(byController, set.metadata.uid), set, selector).owned.filter(isPodActive);
    const now = this.#context.clock.now();
    const { status, nextAvailableAt } = replicaSetStatus(set, pods, failure, now);
    if (JSON.stringify(sortedKeys(status)) !== JSON.stringify(sortedKeys({ ...set.status }))) {
      try {
        await this.#sets.updateStatus({ ...set, status });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    return nextAvailableAt === undefined ? undefined : { requeueAfterMs: Math.max(1, nextAvailableAt - now) };
  }
}

function podOf(set: ReplicaSet): Draft<Pod> {
  const { metadata, spec } = set.spec.template!;
  return {
    metadata: {
      generateName: `${set.metadata.name}-`,
      namespace: set.metadata.namespace,
      ...(metadata?.labels ? { labels: metadata.labels } : {}),
      ...(metadata?.annotations ? { annotations: metadata.annotations } : {}),
      ...(metadata?.finalizers ? { finalizers: metadata.finalizers } : {}),
      ownerReferences: [controllerReference(set)],
    },
    spec: spec!,
  };
}

/** Zeroes and absent counts mean the same, and the order of keys nothing. */
function sortedKeys(status: object): unknown {
  return Object.entries(status)
    .filter(([, value]) => value !== undefined && value !== 0)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
