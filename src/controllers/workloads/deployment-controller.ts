/** Rolls Deployments out: one ReplicaSet for each template, sized step by step. */
import type { Startable } from '../../base/startable.ts';
import { type ReconcileResult, WorkQueue } from '../../base/work-queue.ts';
import { EventRecorder } from '../../kube/events.ts';
import { keyOf } from '../../kube/names.ts';
import { fromLabelSelector } from '../../kube/selectors.ts';
import { isAlreadyExists, isNotFound } from '../../kube/status.ts';
import type { Deployment, Draft, Pod, ReplicaSet } from '../../kube/types.ts';
import { FreshStore } from '../fresh-store.ts';
import type { ControllerContext } from '../informers.ts';
import { controllerOf, controllerReference } from '../owners.ts';
import { isPodTerminal } from '../pod-state.ts';
import { allDone, tolerant } from '../reconciling.ts';
import { adoptionPatch, claim, releasePatch } from './claims.ts';
import { deploymentStatus, isComplete, type StatusInput } from './deployment-status.ts';
import { addOwnerIndexes, byController, orphans } from './indexes.ts';
import { isStillThere, OwnerLookup } from './owned-objects.ts';
import {
  desiredReplicasAnnotation,
  maxReplicasAnnotation,
  newSetAnnotations,
  revisionAnnotation,
  revisionOf,
  sizeAnnotations,
} from './revisions.ts';
import {
  newSetSize,
  oldestFirst,
  proportionalScaling,
  rollingStep,
  rolloutLimits,
  type Scaling,
  sizeOf,
} from './rollout.ts';
import { sameTemplate, templateHash, templateHashLabel, withTemplateHash } from './template.ts';

const defaultHistoryLimit = 10;

interface Sets {
  readonly newSet: ReplicaSet | undefined;
  readonly oldSets: readonly ReplicaSet[];
}

type Turn = Sets & Pick<StatusInput, 'noted' | 'collisionCount'>;

export class DeploymentController implements Startable {
  readonly #context: ControllerContext;
  readonly #deployments: FreshStore<'Deployment'>;
  readonly #sets: FreshStore<'ReplicaSet'>;
  readonly #queue: WorkQueue;
  readonly #events: EventRecorder;

  constructor(context: ControllerContext) {
    const { client, clock, log, informers } = context;
    this.#context = context;
    this.#deployments = new FreshStore(informers.of('Deployment'), client, clock);
    this.#sets = new FreshStore(informers.of('ReplicaSet'), client, clock);
    addOwnerIndexes<ReplicaSet>(this.#sets);
    addOwnerIndexes<Pod>(informers.of('Pod'));
    this.#events = new EventRecorder({ client, log, clock, component: 'deployment-controller' });
    this.#queue = new WorkQueue({
      name: 'deployments',
      log,
      clock,
      workers: 8,
      reconcile: tolerant((key) => this.#reconcile(key)),
    });
    informers.of('Deployment').addHandler({
      onAdd: (deployment) => this.#queue.add(keyOf(deployment)),
      onUpdate: (_, deployment) => this.#queue.add(keyOf(deployment)),
    });
    const owners = new OwnerLookup('Deployment', informers.of('Deployment'), (key) => this.#queue.add(key));
    owners.watch(informers.of('ReplicaSet'));
    // Recreate waits for the last pod of the old sets to be gone.
    informers.of('Pod').addHandler({
      onDelete: (pod) => {
        const set = this.#sets.get(keyOf({ ...pod.metadata, name: controllerOf(pod)?.name ?? '' }));
        if (set) owners.changed(set);
      },
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([
      informers.of('Deployment').start(signal),
      informers.of('ReplicaSet').start(signal),
      informers.of('Pod').start(signal),
    ]);
    this.#queue.start(signal);
  }

  async #reconcile(key: string): Promise<ReconcileResult> {
    const deployment = this.#deployments.get(key);
    if (!deployment) return;
    const all = await this.#claimSets(deployment);
    const sets = divide(deployment, all);
    if (deployment.metadata.deletionTimestamp) return this.#writeStatus(deployment, sets);
    const turn = await this.#turn(deployment, sets);
    return this.#writeStatus(this.#deployments.get(key) ?? deployment, this.#refreshed(turn));
  }

  /** One step towards the template and size that are asked for. */
  async #turn(deployment: Deployment, sets: Sets): Promise<Turn> {
    const known = sets.newSet ? { ...sets, ...(await this.#withAnnotations(deployment, sets)) } : sets;
    if (deployment.spec.paused || isResized(deployment, known)) {
      await this.#scaleTo(
        deployment,
        proportionalScaling(
          deployment,
          known.newSet,
          known.oldSets,
          (set) => Number(set.metadata.annotations?.[maxReplicasAnnotation]) || undefined,
        ),
      );
      await this.#noteSize(deployment, known);
      return known;
    }
    return deployment.spec.strategy?.type === 'Recreate'
      ? this.#recreate(deployment, known)
      : this.#roll(deployment, known);
  }

  async #roll(deployment: Deployment, sets: Sets): Promise<Turn> {
    const turn = await this.#ensureNewSet(deployment, sets);
    if (turn.newSet) await this.#scaleTo(deployment, rollingStep(deployment, turn.newSet, turn.oldSets));
    return turn;
  }

  async #recreate(deployment: Deployment, sets: Sets): Promise<Turn> {
    const running = sets.oldSets.filter((set) => sizeOf(set) > 0);
    if (running.length > 0) {
      await this.#scaleTo(deployment, new Map(running.map((set) => [set, 0])));
      return sets;
    }
    const pods = this.#context.informers.of('Pod');
    const left = sets.oldSets.some(
      (set) =>
        (set.status?.replicas ?? 0) > 0 ||
        pods.byIndex(byController, set.metadata.uid).some((pod) => !isPodTerminal(pod)),
    );
    if (left) return sets;
    const turn = await this.#ensureNewSet(deployment, sets);
    const { replicas } = rolloutLimits(deployment);
    if (turn.newSet && sizeOf(turn.newSet) !== replicas) {
      await this.#scaleTo(deployment, new Map([[turn.newSet, replicas]]));
    }
    return turn;
  }

  async #claimSets(deployment: Deployment): Promise<readonly ReplicaSet[]> {
    const { uid, namespace } = deployment.metadata;
    const candidates = [...this.#sets.byIndex(byController, uid), ...this.#sets.byIndex(orphans, namespace)];
    const claims = claim(candidates, deployment, fromLabelSelector(deployment.spec.selector));
    const owner = controllerReference(deployment);
    const mayAdopt = claims.adopt.length > 0 && (await isStillThere(this.#context.client, 'Deployment', deployment));
    const adopted = await allDone(
      (mayAdopt ? claims.adopt : []).map((set) => this.#sets.patch(set, adoptionPatch(set, owner))),
    );
    await allDone(claims.release.map((set) => this.#sets.patch(set, releasePatch(set, uid))));
    return [...claims.owned, ...adopted];
  }

  /** Brings the annotations of the new set and the Deployment's revision up to date. */
  async #withAnnotations(deployment: Deployment, { newSet, oldSets }: Sets): Promise<Turn> {
    const annotations = newSetAnnotations(deployment, newSet, oldSets);
    const minReadySeconds = deployment.spec.minReadySeconds ?? 0;
    const changed =
      !sameMap(annotations, newSet!.metadata.annotations ?? {}) ||
      minReadySeconds !== (newSet!.spec.minReadySeconds ?? 0);
    const updated = changed
      ? await this.#sets.patch(newSet!, { metadata: { annotations }, spec: { minReadySeconds } })
      : newSet!;
    await this.#noteRevision(deployment, updated);
    return { newSet: updated, oldSets, noted: 'FoundNewReplicaSet' };
  }

  async #noteRevision(deployment: Deployment, set: ReplicaSet): Promise<void> {
    const revision = String(revisionOf(set));
    if (deployment.metadata.annotations?.[revisionAnnotation] === revision) return;
    await this.#deployments.patch(deployment, { metadata: { annotations: { [revisionAnnotation]: revision } } });
  }

  async #ensureNewSet(deployment: Deployment, sets: Turn): Promise<Turn> {
    if (sets.newSet) return sets;
    const recreate = deployment.spec.strategy?.type === 'Recreate';
    const replicas = newSetSize(rolloutLimits(deployment), recreate, 0, sets.oldSets);
    const draft = newSetDraft(deployment, sets.oldSets, replicas);
    let newSet: ReplicaSet;
    try {
      newSet = await this.#sets.create(draft);
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      return this.#nameTaken(deployment, sets, draft.metadata.name!);
    }
    await this.#noteRevision(deployment, newSet);
    this.#scaled(deployment, newSet, 0, replicas);
    return { ...sets, newSet, noted: 'NewReplicaSetCreated' };
  }

  /** Another set has the name: it is ours and the watch is behind, or the hash collides and the next one is tried. */
  async #nameTaken(deployment: Deployment, sets: Turn, name: string): Promise<Turn> {
    const { namespace, uid } = deployment.metadata;
    const other = await this.#context.client.get('ReplicaSet', { namespace, name });
    const ours = controllerOf(other)?.uid === uid && sameTemplate(other.spec.template!, deployment.spec.template);
    if (ours) return { ...sets, newSet: other, noted: 'FoundNewReplicaSet' };
    return { ...sets, collisionCount: (deployment.status?.collisionCount ?? 0) + 1 };
  }

  async #scaleTo(deployment: Deployment, scaling: Scaling): Promise<void> {
    await allDone(
      [...scaling].map(async ([set, replicas]) => {
        const annotations = sizeAnnotations(deployment);
        await this.#sets.patch(set, { metadata: { annotations }, spec: { replicas } });
        this.#scaled(deployment, set, sizeOf(set), replicas);
      }),
    );
  }

  /** Writes the Deployment's size onto the sets that did not change, so that the change counts as dealt with. */
  async #noteSize(deployment: Deployment, { newSet, oldSets }: Sets): Promise<void> {
    const annotations = sizeAnnotations(deployment);
    const behind = [...(newSet ? [newSet] : []), ...oldSets]
      .map((set) => this.#sets.get(keyOf(set)) ?? set)
      .filter((set) => sizeOf(set) > 0)
      .filter((set) => Object.entries(annotations).some(([key, value]) => set.metadata.annotations?.[key] !== value));
    await allDone(behind.map((set) => this.#sets.patch(set, { metadata: { annotations } })));
  }

  #scaled(deployment: Deployment, set: ReplicaSet, from: number, to: number): void {
    if (from === to) return;
    const direction = to > from ? 'up' : 'down';
    const message = `Scaled ${direction} replica set ${set.metadata.name} from ${from} to ${to}`;
    this.#events.event(deployment, 'Normal', 'ScalingReplicaSet', message);
  }

  /** The sets as they are after this turn's writes. */
  #refreshed(turn: Turn): Turn {
    const now = (set: ReplicaSet) => {
      const fresh = this.#sets.get(keyOf(set));
      return fresh?.metadata.uid === set.metadata.uid ? fresh : set;
    };
    return { ...turn, newSet: turn.newSet && now(turn.newSet), oldSets: turn.oldSets.map(now) };
  }

  async #writeStatus(deployment: Deployment, turn: Turn): Promise<ReconcileResult> {
    const nowMs = this.#context.clock.now();
    const { status, deadlineAt } = deploymentStatus({ deployment, ...turn, nowMs });
    if (canonical(status) !== canonical(deployment.status ?? {})) {
      try {
        await this.#deployments.updateStatus({ ...deployment, status });
      } catch (error) {
        if (isNotFound(error)) return;
        throw error;
      }
    }
    if (isComplete(deployment, status)) await this.#forgetOld(deployment, turn.oldSets);
    return deadlineAt === undefined ? undefined : { requeueAfterMs: Math.max(1000, deadlineAt - nowMs) };
  }

  /** Deletes the oldest empty sets beyond revisionHistoryLimit. */
  async #forgetOld(deployment: Deployment, oldSets: readonly ReplicaSet[]): Promise<void> {
    const limit = deployment.spec.revisionHistoryLimit ?? defaultHistoryLimit;
    const alive = oldSets.filter((set) => !set.metadata.deletionTimestamp);
    const excess = [...alive].sort((a, b) => revisionOf(a) - revisionOf(b)).slice(0, Math.max(0, alive.length - limit));
    const empty = excess.filter(
      (set) =>
        sizeOf(set) === 0 &&
        (set.status?.replicas ?? 0) === 0 &&
        (set.metadata.generation ?? 0) <= (set.status?.observedGeneration ?? 0),
    );
    await allDone(empty.map((set) => this.#sets.delete(set)));
  }
}

/** The oldest set with the Deployment's template is the new one, all others are old. */
function divide(deployment: Deployment, all: readonly ReplicaSet[]): Sets {
  const newSet = oldestFirst(all).find((set) => sameTemplate(set.spec.template!, deployment.spec.template));
  return { newSet, oldSets: all.filter((set) => set !== newSet) };
}

/** Whether the Deployment's size has changed since an active set was last scaled. */
function isResized(deployment: Deployment, { newSet, oldSets }: Sets): boolean {
  const replicas = String(deployment.spec.replicas ?? 1);
  return [...(newSet ? [newSet] : []), ...oldSets]
    .filter((set) => sizeOf(set) > 0)
    .some((set) => {
      const noted = set.metadata.annotations?.[desiredReplicasAnnotation];
      return noted !== undefined && noted !== replicas;
    });
}

function newSetDraft(deployment: Deployment, oldSets: readonly ReplicaSet[], replicas: number): Draft<ReplicaSet> {
  const { template, selector, minReadySeconds } = deployment.spec;
  const hash = templateHash(template, deployment.status?.collisionCount ?? 0);
  return {
    metadata: {
      name: `${deployment.metadata.name}-${hash}`,
      namespace: deployment.metadata.namespace,
      labels: { ...template.metadata?.labels, [templateHashLabel]: hash },
      annotations: { ...newSetAnnotations(deployment, undefined, oldSets), ...sizeAnnotations(deployment) },
      ownerReferences: [controllerReference(deployment)],
    },
    spec: {
      replicas,
      ...(minReadySeconds ? { minReadySeconds } : {}),
      selector: { ...selector, matchLabels: { ...selector.matchLabels, [templateHashLabel]: hash } },
      template: withTemplateHash(template, hash),
    },
  };
}

function sameMap(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

/** The order of keys and of conditions does not count, nor do zeroes. */
function canonical(status: Deployment['status'] & object): string {
  const conditions = [...(status.conditions ?? [])].sort((a, b) => (a.type < b.type ? -1 : 1));
  const counts = Object.entries(status).filter(
    ([key, value]) => key !== 'conditions' && value !== undefined && value !== 0,
  );
  const texts = conditions.map((one) => JSON.stringify(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1))));
  return JSON.stringify([counts.sort(([a], [b]) => (a < b ? -1 : 1)), texts]);
}
