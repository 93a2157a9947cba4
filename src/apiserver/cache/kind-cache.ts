/**
 * All objects of one kind in memory, the last changes, and who watches them. Watchers are kept apart by the kind's index
 * (pods: by node), so that a change of one pod does not visit the watchers of all other nodes.
 */
import type { FieldRequirement, Selector } from '../../kube/selectors.ts';
import { matches, matchesFields } from '../../kube/selectors.ts';
import type { Kind } from '../resources/kind.ts';
import type { StoredObject, WatchType } from './stored-object.ts';

/** Which objects a list or a watch is about. */
export interface Query {
  readonly namespace?: string | undefined;
  readonly labels: Selector;
  readonly fields: readonly FieldRequirement[];
}

/** One change of an object. `after` of a deletion is absent; `revision` is the event's. */
export interface CacheEvent {
  readonly revision: number;
  readonly before: StoredObject | undefined;
  readonly after: StoredObject | undefined;
}

export type WatchSink = (type: WatchType, stored: StoredObject, revision: number) => void;

interface Watcher {
  readonly query: Query;
  readonly sink: WatchSink;
}

/** How many changes of a kind can be watched from an older version; beyond, a watch must list again (410). */
const MAX_EVENTS = 1024;

/** Index value of watchers that watch everything. */
const ALL = Symbol('all');

export class KindCache {
  readonly kind: Kind;
  readonly #objects = new Map<string, StoredObject>();
  readonly #namespaces = new Map<string, Map<string, StoredObject>>();
  readonly #watchers = new Map<string | typeof ALL, Set<Watcher>>();
  #sorted: StoredObject[] | undefined;
  #events: CacheEvent[] = [];
  /** Events after this revision are all there. */
  #completeAfter = 0;

  constructor(kind: Kind) {
    this.kind = kind;
  }

  get size(): number {
    return this.#objects.size;
  }

  get watcherCount(): number {
    let count = 0;
    for (const watchers of this.#watchers.values()) count += watchers.size;
    return count;
  }

  get(namespace: string | undefined, name: string): StoredObject | undefined {
    return this.#objects.get(cacheKey(namespace, name));
  }

  /** The matching objects, in order of namespace and name. */
  list(query: Query): StoredObject[] {
    const all = query.namespace === undefined ? this.#all() : this.#inNamespace(query.namespace);
    return query.labels.length === 0 && query.fields.length === 0
      ? all
      : all.filter((stored) => selects(query, stored));
  }

  #all(): StoredObject[] {
    this.#sorted ??= [...this.#objects.values()].sort(byName);
    return this.#sorted;
  }

  #inNamespace(namespace: string): StoredObject[] {
    return [...(this.#namespaces.get(namespace)?.values() ?? [])].sort(byName);
  }

  /** Puts what was there at the start. */
  load(stored: StoredObject): void {
    this.#put(stored);
  }

  /** The start of the history that `remember` will give. */
  beginHistory(revision: number): void {
    this.#completeAfter = revision;
  }

  /** Notes a change from before the start. */
  remember(event: CacheEvent): void {
    this.#events.push(event);
    if (this.#events.length <= MAX_EVENTS * 1.25) return;
    const dropped = this.#events.length - MAX_EVENTS;
    this.#completeAfter = this.#events[dropped - 1]!.revision;
    this.#events = this.#events.slice(dropped);
  }

  apply(event: CacheEvent): void {
    const { before, after } = event;
    if (after) this.#put(after);
    else if (before) this.#remove(before);
    this.remember(event);
    const deleted = after ?? before?.at(event.revision);
    const told = new Set<string | typeof ALL>([ALL]);
    for (const stored of [before, after]) if (stored) told.add(this.#indexValue(stored));
    for (const value of told) {
      for (const watcher of this.#watchers.get(value) ?? []) deliver(watcher, event, deleted);
    }
  }

  #indexValue(stored: StoredObject): string | typeof ALL {
    return this.kind.watchIndex ? fieldValue(stored, this.kind.watchIndex) : ALL;
  }

  #put(stored: StoredObject): void {
    const key = cacheKey(stored.namespace, stored.name);
    this.#objects.set(key, stored);
    this.#sorted = undefined;
    if (stored.namespace === undefined) return;
    let inNamespace = this.#namespaces.get(stored.namespace);
    if (!inNamespace) {
      inNamespace = new Map();
      this.#namespaces.set(stored.namespace, inNamespace);
    }
    inNamespace.set(stored.name, stored);
  }

  #remove(stored: StoredObject): void {
    this.#objects.delete(cacheKey(stored.namespace, stored.name));
    this.#sorted = undefined;
    if (stored.namespace === undefined) return;
    const inNamespace = this.#namespaces.get(stored.namespace);
    inNamespace?.delete(stored.name);
    if (inNamespace?.size === 0) this.#namespaces.delete(stored.namespace);
  }

  /**
   * Tells the sink of all changes after the revision, old ones before it returns. Undefined when they are no longer all
   * known. The result ends the watch.
   */
  watch(query: Query, after: number, sink: WatchSink): (() => void) | undefined {
    if (after < this.#completeAfter) return undefined;
    const watcher: Watcher = { query, sink };
    for (const event of this.#events) {
      if (event.revision > after) deliver(watcher, event, event.after ?? event.before?.at(event.revision));
    }
    const value = this.#watchValue(query);
    let watchers = this.#watchers.get(value);
    if (!watchers) {
      watchers = new Set();
      this.#watchers.set(value, watchers);
    }
    watchers.add(watcher);
    return () => {
      watchers.delete(watcher);
      if (watchers.size === 0 && this.#watchers.get(value) === watchers) this.#watchers.delete(value);
    };
  }

  /** A watch for one value of the indexed field is told only of changes from or to it. */
  #watchValue(query: Query): string | typeof ALL {
    const only = query.fields.find(({ path, operator }) => path === this.kind.watchIndex && operator === '=');
    return only ? only.value : ALL;
  }
}

export function cacheKey(namespace: string | undefined, name: string): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

const byName = (a: StoredObject, b: StoredObject): number => {
  const order = compareText(a.namespace ?? '', b.namespace ?? '');
  return order === 0 ? compareText(a.name, b.name) : order;
};

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function fieldValue(stored: StoredObject, path: string): string {
  let at: unknown = stored.object;
  for (const part of path.split('.'))
    at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[part] : undefined;
  return at === undefined || at === null ? '' : String(at);
}

export function selects(query: Query, stored: StoredObject): boolean {
  return (
    (query.namespace === undefined || query.namespace === stored.namespace) &&
    matches(query.labels, stored.object.metadata.labels) &&
    matchesFields(query.fields, stored.object)
  );
}

/** An object that begins to match is ADDED, one that no longer matches is DELETED, as it was before. */
function deliver({ query, sink }: Watcher, event: CacheEvent, last: StoredObject | undefined): void {
  const { before, after, revision } = event;
  const matched = before !== undefined && selects(query, before);
  const isMatch = after !== undefined && selects(query, after);
  if (isMatch) sink(matched ? 'MODIFIED' : 'ADDED', after, revision);
  else if (matched) sink('DELETED', after ? before.at(revision) : last!, revision);
}
