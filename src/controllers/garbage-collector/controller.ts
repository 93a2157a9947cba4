/**
 * Deletes what has lost its owners, and carries out the deletion policies of owners: foreground (dependents first) and orphan
 * (dependents set free).
 *
 * It keeps a copy of every object of every kind, with an index from an owner's uid to its dependents. Before it deletes
 * anything for the absence of an owner, it asks the server itself: a copy may be behind, a deletion cannot be undone.
 */
import type { Startable } from '../../base/startable.ts';
import { WorkQueue } from '../../base/work-queue.ts';
import type { AnyObject } from '../../kube/client.ts';
import { apiResources, keyOf, parseKey } from '../../kube/names.ts';
import { isNotFound } from '../../kube/status.ts';
import type { KindName, OwnerReference } from '../../kube/types.ts';
import type { ControllerContext } from '../informers.ts';
import { allDone, tolerant } from '../reconciling.ts';
import { foregroundFinalizer, judge, type OwnerState, orphanFinalizer } from './owners.ts';

const byOwner = 'owner-uid';
/** Uids known to be gone, so that a thousand orphans of one owner ask the server once. */
const maxAbsentRemembered = 1000;

interface Found {
  readonly kind: KindName;
  readonly object: AnyObject;
}

export class GarbageCollector implements Startable {
  readonly #context: ControllerContext;
  readonly #kinds: readonly KindName[];
  readonly #queue: WorkQueue;
  readonly #absent = new Set<string>();

  constructor(context: ControllerContext) {
    const { log, clock } = context;
    this.#context = context;
    // Events own nothing and are owned by nobody; there are many of them.
    this.#kinds = (Object.keys(apiResources) as KindName[]).filter((kind) => kind !== 'Event');
    this.#queue = new WorkQueue({
      name: 'garbage-collector',
      log,
      clock,
      workers: 16,
      reconcile: tolerant((key) => this.#reconcile(key)),
    });
    for (const kind of this.#kinds) this.#follow(kind);
  }

  async start(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#kinds.map((kind) => this.#context.informers.of(kind).start(signal)));
    this.#queue.start(signal);
  }

  #follow(kind: KindName): void {
    const informer = this.#context.informers.of(kind);
    informer.addIndex(byOwner, ({ metadata }) => (metadata.ownerReferences ?? []).map(({ uid }) => uid));
    informer.addHandler({
      onAdd: (object) => this.#changed(kind, undefined, object as AnyObject),
      onUpdate: (before, object) => this.#changed(kind, before as AnyObject, object as AnyObject),
      onDelete: (object) => this.#gone(object as AnyObject),
    });
  }

  #changed(kind: KindName, before: AnyObject | undefined, object: AnyObject): void {
    if (before && collectorFacts(before) === collectorFacts(object)) return;
    const { ownerReferences, deletionTimestamp, finalizers } = object.metadata;
    const waits = deletionTimestamp && finalizers?.length;
    if (ownerReferences?.length || waits) this.#queue.add(queueKey(kind, object));
    // An owner may wait for this dependent to be set free, or to begin its end.
    if (before) this.#ownersOf(before);
  }

  #gone(object: AnyObject): void {
    for (const found of this.#dependentsOf(object.metadata.uid)) this.#queue.add(queueKey(found.kind, found.object));
    this.#ownersOf(object);
  }

  /** Looks again at the owners that wait for their dependents. */
  #ownersOf(object: AnyObject): void {
    for (const reference of object.metadata.ownerReferences ?? []) {
      const owner = this.#copyOf(reference, object);
      if (owner?.object.metadata.deletionTimestamp) this.#queue.add(queueKey(owner.kind, owner.object));
    }
  }

  #dependentsOf(uid: string): readonly Found[] {
    return this.#kinds.flatMap((kind) =>
      this.#context.informers
        .of(kind)
        .byIndex(byOwner, uid)
        .map((object) => ({ kind, object: object as AnyObject })),
    );
  }

  async #reconcile(key: string): Promise<void> {
    const { kind, at } = parseQueueKey(key);
    const object = this.#context.informers.of(kind).get(keyOf(at)) as AnyObject | undefined;
    if (!object) return;
    const found = { kind, object };
    if (!object.metadata.deletionTimestamp) return this.#collect(found);
    const finalizers = object.metadata.finalizers ?? [];
    if (finalizers.includes(orphanFinalizer)) await this.#orphanDependents(found);
    else if (finalizers.includes(foregroundFinalizer)) await this.#deleteDependents(found);
  }

  async #collect({ kind, object }: Found): Promise<void> {
    const states = new Map<OwnerReference, OwnerState>();
    for (const owner of object.metadata.ownerReferences ?? []) states.set(owner, await this.#stateOf(owner, object));
    const hasDependents = this.#dependentsOf(object.metadata.uid).length > 0;
    const verdict = judge(object, (owner) => states.get(owner)!, hasDependents);
    switch (verdict.type) {
      case 'keep':
        return;
      case 'detach':
        return this.#patch(kind, object, { ownerReferences: verdict.ownerReferences });
      case 'delete':
        return this.#delete(kind, object, verdict.propagationPolicy);
    }
  }

  async #stateOf(reference: OwnerReference, dependent: AnyObject): Promise<OwnerState> {
    const kind = this.#kindOf(reference);
    // A cluster-wide object cannot belong to one in a namespace: not ours to decide.
    if (!kind || (apiResources[kind].namespaced && !dependent.metadata.namespace)) return 'unknown';
    const copy = this.#copyOf(reference, dependent);
    if (copy) return isWaiting(copy.object) ? 'waiting' : 'present';
    if (this.#absent.has(absentKey(reference, dependent))) return 'absent';
    try {
      const at = { name: reference.name, namespace: dependent.metadata.namespace };
      const owner = (await this.#context.client.get(kind, at)) as AnyObject;
      if (owner.metadata.uid === reference.uid) return isWaiting(owner) ? 'waiting' : 'present';
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    this.#absent.add(absentKey(reference, dependent));
    if (this.#absent.size > maxAbsentRemembered) this.#absent.delete(this.#absent.values().next().value!);
    return 'absent';
  }

  /** The owner, if the copy has it with the very uid. */
  #copyOf(reference: OwnerReference, dependent: AnyObject): Found | undefined {
    const kind = this.#kindOf(reference);
    if (!kind) return undefined;
    const namespace = apiResources[kind].namespaced ? dependent.metadata.namespace : undefined;
    const object = this.#context.informers.of(kind).get(keyOf({ namespace, name: reference.name })) as
      | AnyObject
      | undefined;
    return object?.metadata.uid === reference.uid ? { kind, object } : undefined;
  }

  #kindOf({ apiVersion, kind }: OwnerReference): KindName | undefined {
    const group = apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : '';
    return this.#kinds.find((name) => name === kind && apiResources[name].group === group);
  }

  async #orphanDependents(owner: Found): Promise<void> {
    const { uid } = owner.object.metadata;
    await allDone(
      this.#dependentsOf(uid).map(({ kind, object }) => {
        const rest = (object.metadata.ownerReferences ?? []).filter((reference) => reference.uid !== uid);
        return this.#patch(kind, object, { ownerReferences: rest });
      }),
    );
    await this.#removeFinalizer(owner, orphanFinalizer);
  }

  async #deleteDependents(owner: Found): Promise<void> {
    const { uid } = owner.object.metadata;
    const dependents = this.#dependentsOf(uid);
    const blocking = dependents.filter(({ object }) =>
      object.metadata.ownerReferences?.some((reference) => reference.uid === uid && reference.blockOwnerDeletion),
    );
    if (blocking.length === 0) return this.#removeFinalizer(owner, foregroundFinalizer);
    for (const { kind, object } of dependents) {
      if (!object.metadata.deletionTimestamp) this.#queue.add(queueKey(kind, object));
    }
  }

  #removeFinalizer({ kind, object }: Found, finalizer: string): Promise<void> {
    const finalizers = (object.metadata.finalizers ?? []).filter((one) => one !== finalizer);
    return this.#patch(kind, object, { finalizers });
  }

  async #patch(kind: KindName, object: AnyObject, change: object): Promise<void> {
    const { uid, resourceVersion } = object.metadata;
    try {
      await this.#context.client.patch(kind, object.metadata, { metadata: { uid, resourceVersion, ...change } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async #delete(
    kind: KindName,
    object: AnyObject,
    propagationPolicy: 'Background' | 'Foreground' | 'Orphan',
  ): Promise<void> {
    const { uid, resourceVersion } = object.metadata;
    try {
      // The version too: had an owner been added in the meantime, the verdict would be another.
      const preconditions = { uid, resourceVersion };
      await this.#context.client.delete(kind, object.metadata, { propagationPolicy, preconditions });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

function isWaiting({ metadata }: AnyObject): boolean {
  return metadata.deletionTimestamp !== undefined && (metadata.finalizers ?? []).includes(foregroundFinalizer);
}

/** What of an object matters here: statuses and heartbeats do not. */
function collectorFacts({ metadata }: AnyObject): string {
  return JSON.stringify([metadata.uid, metadata.ownerReferences, metadata.finalizers, metadata.deletionTimestamp]);
}

const queueKey = (kind: KindName, object: AnyObject): string => `${kind}:${keyOf(object)}`;

function parseQueueKey(key: string) {
  const colon = key.indexOf(':');
  return { kind: key.slice(0, colon) as KindName, at: parseKey(key.slice(colon + 1)) };
}

/** The uid as seen from the dependent's namespace: an owner in another namespace is absent only here. */
function absentKey({ uid }: OwnerReference, { metadata }: AnyObject): string {
  return `${metadata.namespace ?? ''} ${uid}`;
}
