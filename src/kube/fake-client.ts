/**
 * A KubeClient that keeps everything in memory: for tests of components. It behaves as the server does where components
 * depend on it: resourceVersions, conflicts, AlreadyExists, NotFound, generateName, generation, finalizers, grace of pods,
 * selectors, watches from a version, Expired. It neither validates nor defaults.
 */
import { randomUUID } from 'node:crypto';
import fastJsonPatch, { type Operation } from 'fast-json-patch';
import type {
  AnyObject,
  DeleteOptions,
  KubeClient,
  ListOptions,
  ObjectList,
  PatchOptions,
  WatchOptions,
} from './client.ts';
import { applyMergePatch } from './merge-patch.ts';
import { apiResources, apiVersionOf, keyOf, type NamespacedName } from './names.ts';
import { matches, matchesFields, parseFieldSelector, parseSelector } from './selectors.ts';
import { type StatusReason, statusError } from './status.ts';
import type { Draft, KindMap, KindName, WatchEvent } from './types.ts';

interface Change {
  readonly version: number;
  readonly kind: KindName;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: AnyObject;
  readonly before: AnyObject | undefined;
}

type Filter = (object: AnyObject) => boolean;

export class FakeClient implements KubeClient {
  readonly #objects = new Map<KindName, Map<string, AnyObject>>();
  readonly #changes: Change[] = [];
  readonly #wakeups = new Set<() => void>();
  /** Changes up to this version are forgotten; watches from before fail with Expired. */
  #compacted = 0;
  #version = 1;
  /** Every write, in order: "create Pod default/a". */
  readonly writes: string[] = [];
  /** Throw from here to let a request fail; called before each request with its verb and kind. */
  onRequest: ((verb: string, kind: KindName, at?: NamespacedName) => void | Promise<void>) | undefined;

  async get<K extends KindName>(kind: K, at: NamespacedName): Promise<KindMap[K]> {
    await this.onRequest?.('get', kind, at);
    return this.#existing(kind, at) as unknown as KindMap[K];
  }

  async list<K extends KindName>(kind: K, options: ListOptions = {}): Promise<ObjectList<KindMap[K]>> {
    await this.onRequest?.('list', kind);
    const wanted = filterOf(options);
    const items = [...this.#collection(kind).values()].filter(wanted) as unknown as KindMap[K][];
    return { items, resourceVersion: String(this.#version) };
  }

  async create<K extends KindName>(kind: K, draft: Draft<KindMap[K]>): Promise<KindMap[K]> {
    await this.onRequest?.('create', kind);
    const place = apiResources[kind];
    const meta = structuredClone(draft.metadata);
    const name = meta.name ?? `${meta.generateName ?? ''}${randomUUID().slice(0, 5)}`;
    const namespace = place.namespaced ? (meta.namespace ?? 'default') : undefined;
    if (this.#collection(kind).has(keyOf({ namespace, name }))) {
      throw this.#refusal('AlreadyExists', kind, name, 'already exists');
    }
    const object = {
      ...structuredClone(draft),
      apiVersion: apiVersionOf(place),
      kind,
      metadata: {
        ...meta,
        name,
        ...(namespace ? { namespace } : {}),
        uid: meta.uid ?? randomUUID(),
        creationTimestamp: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
        generation: 1,
        resourceVersion: '',
      },
    } as unknown as AnyObject;
    this.writes.push(`create ${kind} ${keyOf(object)}`);
    return this.#put(kind, 'ADDED', object) as unknown as KindMap[K];
  }

  async update<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    await this.onRequest?.('update', kind, object.metadata);
    return this.#write(kind, object as unknown as AnyObject, undefined, 'update') as unknown as KindMap[K];
  }

  async updateStatus<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    await this.onRequest?.('updateStatus', kind, object.metadata);
    return this.#write(kind, object as unknown as AnyObject, 'status', 'updateStatus') as unknown as KindMap[K];
  }

  async updateSubresource<K extends KindName>(kind: K, object: KindMap[K], subresource: string): Promise<KindMap[K]> {
    await this.onRequest?.('update', kind, object.metadata);
    return this.#write(kind, object as unknown as AnyObject, subresource, 'update') as unknown as KindMap[K];
  }

  async patch<K extends KindName>(
    kind: K,
    at: NamespacedName,
    patch: object,
    options: PatchOptions = {},
  ): Promise<KindMap[K]> {
    await this.onRequest?.('patch', kind, at);
    const before = this.#existing(kind, at);
    const after =
      options.type === 'json'
        ? fastJsonPatch.applyPatch(structuredClone(before), patch as Operation[]).newDocument
        : (applyMergePatch(before, patch) as AnyObject);
    return this.#write(kind, after, options.subresource, 'patch') as unknown as KindMap[K];
  }

  async delete(kind: KindName, at: NamespacedName, options: DeleteOptions = {}): Promise<void> {
    await this.onRequest?.('delete', kind, at);
    const before = this.#existing(kind, at);
    const uid = options.preconditions?.uid;
    if (uid !== undefined && uid !== before.metadata.uid) {
      throw this.#refusal('Conflict', kind, at.name, 'the UID in the precondition does not match');
    }
    this.writes.push(`delete ${kind} ${keyOf(before)}`);
    const spec = (before as { spec?: { nodeName?: string; terminationGracePeriodSeconds?: number } }).spec;
    const graceful = kind === 'Pod' && spec?.nodeName ? (spec.terminationGracePeriodSeconds ?? 30) : 0;
    const grace = options.gracePeriodSeconds ?? graceful;
    const finalizers = [...(before.metadata.finalizers ?? [])];
    if (options.propagationPolicy === 'Foreground') finalizers.push('foregroundDeletion');
    if (options.propagationPolicy === 'Orphan') finalizers.push('orphan');
    if (finalizers.length === 0 && !hasSpecFinalizers(before) && (grace === 0 || kind !== 'Pod')) {
      return this.#remove(kind, before);
    }
    const metadata = {
      ...before.metadata,
      finalizers,
      deletionTimestamp: before.metadata.deletionTimestamp ?? new Date(Date.now() + grace * 1000).toISOString(),
      deletionGracePeriodSeconds: grace,
    };
    this.#put(kind, 'MODIFIED', { ...before, metadata }, before);
  }

  async bind(pod: NamespacedName, nodeName: string): Promise<void> {
    await this.onRequest?.('bind', 'Pod', pod);
    const before = this.#existing('Pod', pod) as AnyObject & { spec: { nodeName?: string } };
    if (before.spec.nodeName) {
      throw this.#refusal(
        'Conflict',
        'Pod',
        pod.name,
        `pod ${pod.name} is already assigned to node "${before.spec.nodeName}"`,
      );
    }
    this.writes.push(`bind ${keyOf(before)} ${nodeName}`);
    const condition = { type: 'PodScheduled', status: 'True', lastTransitionTime: new Date().toISOString() };
    const status = { ...(before as { status?: object }).status, conditions: [condition] };
    this.#put('Pod', 'MODIFIED', { ...before, spec: { ...before.spec, nodeName }, status } as AnyObject, before);
  }

  async *watch<K extends KindName>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<KindMap[K]>> {
    await this.onRequest?.('watch', kind);
    if (Number(options.resourceVersion) < this.#compacted) {
      throw statusError('Expired', `too old resource version: ${options.resourceVersion} (${this.#compacted})`);
    }
    const wanted = filterOf(options);
    let version = Number(options.resourceVersion);
    while (!options.signal.aborted) {
      for (const change of this.#changes.filter((one) => one.version > version)) {
        version = change.version;
        if (change.kind !== kind) continue;
        const event = seenThrough(wanted, change);
        if (event) yield event as unknown as WatchEvent<KindMap[K]>;
      }
      if (version < this.#version) continue;
      await this.#nextChange(options.signal);
    }
  }

  /** Forgets the history: watches from an older version must list again. */
  compact(): void {
    this.#compacted = this.#version;
    this.#changes.length = 0;
  }

  #nextChange(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#wakeups.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      if (signal.aborted) return resolve();
      this.#wakeups.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }

  #write(kind: KindName, object: AnyObject, subresource: string | undefined, verb: string): AnyObject {
    const before = this.#existing(kind, object.metadata);
    const claimed = object.metadata.resourceVersion;
    if (claimed && claimed !== before.metadata.resourceVersion) {
      throw this.#refusal('Conflict', kind, object.metadata.name, 'the object has been modified');
    }
    const copy = structuredClone(object) as AnyObject & { status?: unknown; spec?: unknown };
    const old = before as AnyObject & { status?: unknown; spec?: unknown };
    const after: { -readonly [P in keyof AnyObject]: AnyObject[P] } & { status?: unknown; spec?: unknown } =
      subresource === 'status' ? { ...structuredClone(old), status: copy.status } : copy;
    if (subresource === undefined && old.status !== undefined && hasStatus(kind)) after.status = old.status;
    const respecified = JSON.stringify(after.spec) !== JSON.stringify(old.spec);
    const generation = (before.metadata.generation ?? 1) + (respecified ? 1 : 0);
    after.metadata = { ...after.metadata, uid: before.metadata.uid, generation };
    this.writes.push(`${verb} ${kind} ${keyOf(before)}${subresource ? ` ${subresource}` : ''}`);
    const done = !after.metadata.finalizers?.length && !hasSpecFinalizers(after);
    if (after.metadata.deletionTimestamp && done && kind !== 'Pod') {
      this.#remove(kind, before);
      return after;
    }
    if (JSON.stringify(after) === JSON.stringify(before)) return before;
    return this.#put(kind, 'MODIFIED', after, before);
  }

  #collection(kind: KindName): Map<string, AnyObject> {
    let collection = this.#objects.get(kind);
    if (!collection) {
      collection = new Map();
      this.#objects.set(kind, collection);
    }
    return collection;
  }

  #existing(kind: KindName, at: NamespacedName): AnyObject {
    const object = this.#collection(kind).get(
      keyOf({ name: at.name, namespace: apiResources[kind].namespaced ? at.namespace : undefined }),
    );
    if (!object) throw this.#refusal('NotFound', kind, at.name, 'not found');
    return object;
  }

  #put(kind: KindName, type: 'ADDED' | 'MODIFIED', object: AnyObject, before?: AnyObject): AnyObject {
    const version = ++this.#version;
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    this.#collection(kind).set(keyOf(stored), stored);
    this.#tell({ version, kind, type, object: stored, before });
    return stored;
  }

  #remove(kind: KindName, before: AnyObject): void {
    const version = ++this.#version;
    this.#collection(kind).delete(keyOf(before));
    const object = { ...before, metadata: { ...before.metadata, resourceVersion: String(version) } };
    this.#tell({ version, kind, type: 'DELETED', object, before });
  }

  #tell(change: Change): void {
    this.#changes.push(change);
    for (const wake of [...this.#wakeups]) wake();
  }

  #refusal(reason: StatusReason, kind: KindName, name: string, text: string) {
    const { plural, group } = apiResources[kind];
    return statusError(reason, `${plural}${group ? `.${group}` : ''} "${name}" ${text}`, { name, kind: plural });
  }
}

const hasStatus = (kind: KindName) =>
  ['Pod', 'Node', 'Service', 'Deployment', 'ReplicaSet', 'Namespace', 'NetworkPolicy'].includes(kind);

/** A Namespace stays until its own finalizers are gone too. */
function hasSpecFinalizers(object: AnyObject): boolean {
  const { spec } = object as { spec?: { finalizers?: readonly string[] } };
  return object.kind === 'Namespace' && (spec?.finalizers ?? []).length > 0;
}

function filterOf(options: ListOptions): Filter {
  const labels = parseSelector(options.labelSelector ?? '');
  const fields = parseFieldSelector(options.fieldSelector ?? '');
  return (object) =>
    (options.namespace === undefined || object.metadata.namespace === options.namespace) &&
    matches(labels, object.metadata.labels) &&
    matchesFields(fields, object);
}

/** What a watcher with a filter sees of a change: an object that leaves the filter is deleted for it. */
function seenThrough(wanted: Filter, change: Change): WatchEvent<AnyObject> | undefined {
  const was = change.before !== undefined && wanted(change.before);
  const is = change.type !== 'DELETED' && wanted(change.object);
  if (is) return { type: was ? 'MODIFIED' : 'ADDED', object: change.object };
  return was ? { type: 'DELETED', object: change.object } : undefined;
}
