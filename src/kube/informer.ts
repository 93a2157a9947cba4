/**
 * An informer: a local copy of all objects of a kind, kept true by list and watch. Handlers are told of each change, after
 * the copy has it. Objects are shared: nobody may mutate them.
 *
 * A relist tells the differences as ordinary changes, so handlers never miss a deletion. Nothing is told of the initial
 * list as anything but `onAdd`; `synced` resolves when it is complete.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { isAbort, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Startable } from '../base/startable.ts';
import type { AnyObject, KubeClient, ListOptions } from './client.ts';
import { keyOf } from './names.ts';
import { isExpired } from './status.ts';
import type { KindMap, KindName } from './types.ts';

export interface InformerHandler<T> {
  onAdd?(object: T): void;
  onUpdate?(before: T, after: T): void;
  onDelete?(object: T): void;
}

/** Read access to an informer's copy. */
export interface Lister<T> {
  readonly hasSynced: boolean;
  /** By "namespace/name" or "name". */
  get(key: string): T | undefined;
  list(): IterableIterator<T>;
  /** The objects under a value of an index that was added with `addIndex`. */
  byIndex(index: string, value: string): readonly T[];
  readonly size: number;
}

/** A copy that is kept true and tells of changes: an informer, or a view of one. */
export interface InformerSource<T> extends Lister<T> {
  start(signal: AbortSignal): Promise<void>;
  addHandler(handler: InformerHandler<T>): () => void;
}

interface Index<T> {
  readonly valuesOf: (object: T) => readonly string[];
  /** The only object of a value, as nearly always (a pod's uid, an address), or all by key: a map takes 200 bytes. */
  readonly entries: Map<string, T | Map<string, T>>;
}

export interface InformerOptions extends ListOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly clock?: Clock;
}

export class Informer<K extends KindName> implements InformerSource<KindMap[K]>, Startable {
  readonly kind: K;
  readonly #options: InformerOptions;
  readonly #clock: Clock;
  readonly #objects = new Map<string, KindMap[K]>();
  readonly #handlers = new Set<InformerHandler<KindMap[K]>>();
  readonly #indexes = new Map<string, Index<KindMap[K]>>();
  readonly #sync = Promise.withResolvers<void>();
  #hasSynced = false;
  #started = false;

  constructor(kind: K, options: InformerOptions) {
    this.kind = kind;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Resolves after the first complete list. */
  get synced(): Promise<void> {
    return this.#sync.promise;
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): KindMap[K] | undefined {
    return this.#objects.get(key);
  }

  list(): IterableIterator<KindMap[K]> {
    return this.#objects.values();
  }

  /** The "namespace/name" or "name" of all objects. */
  keys(): IterableIterator<string> {
    return this.#objects.keys();
  }

  byIndex(index: string, value: string): readonly KindMap[K][] {
    const entries = this.#indexes.get(index);
    if (!entries) throw new Error(`the informer of ${this.kind} has no index ${index}`);
    const entry = entries.entries.get(value);
    if (entry instanceof Map) return [...entry.values()];
    return entry === undefined ? [] : [entry];
  }

  /** Adds an index; may be called before or after the start. */
  addIndex(name: string, valuesOf: (object: KindMap[K]) => readonly string[]): void {
    const index: Index<KindMap[K]> = { valuesOf, entries: new Map() };
    this.#indexes.set(name, index);
    for (const [key, object] of this.#objects) insert(index, key, object);
  }

  /** Adds a handler; it is told of everything that is there already, unless it has seen to that itself. Returns its removal. */
  addHandler(handler: InformerHandler<KindMap[K]>, present: 'tell' | 'seen' = 'tell'): () => void {
    this.#handlers.add(handler);
    if (present === 'tell') for (const object of this.#objects.values()) handler.onAdd?.(object);
    return () => this.#handlers.delete(handler);
  }

  /** Starts list and watch; resolves after the first complete list. Starting twice is harmless. */
  async start(signal: AbortSignal): Promise<void> {
    if (!this.#started) {
      this.#started = true;
      void this.#run(signal);
    }
    const aborted = Promise.withResolvers<void>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      await Promise.race([this.synced, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
      aborted.promise.catch(() => {});
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    let version: string | undefined;
    let failures = 0;
    while (!signal.aborted) {
      try {
        if (version === undefined) {
          const { items, resourceVersion } = await this.#options.client.list(this.kind, this.#options);
          this.#replace(items);
          version = resourceVersion;
        }
        for await (const event of this.#watch(version, signal)) {
          failures = 0;
          version = event.object.metadata.resourceVersion;
          if (event.type === 'DELETED') this.#remove(keyOf(event.object as AnyObject), event.object as KindMap[K]);
          else if (event.type !== 'BOOKMARK') this.#put(event.object as KindMap[K]);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (isExpired(error)) {
          version = undefined;
          continue;
        }
        failures++;
        if (!isAbort(error))
          this.#options.log.debug({ kind: this.kind, failures, error }, `informer: ${messageOf(error)}`);
        await this.#clock.sleep(Math.min(2000, 20 * 2 ** Math.min(failures, 10)), signal).catch(() => {});
      }
    }
  }

  #watch(resourceVersion: string, signal: AbortSignal) {
    return this.#options.client.watch(this.kind, { ...this.#options, resourceVersion, signal });
  }

  #replace(items: readonly KindMap[K][]): void {
    if (this.#objects.size > 0) {
      const present = new Set(items.map((item) => keyOf(item as AnyObject)));
      for (const [key, object] of this.#objects) if (!present.has(key)) this.#remove(key, object);
    }
    for (const item of items) this.#put(item);
    this.#hasSynced = true;
    this.#sync.resolve();
  }

  #put(object: KindMap[K]): void {
    const key = keyOf(object as AnyObject);
    const before = this.#objects.get(key);
    if (before?.metadata.resourceVersion === object.metadata.resourceVersion) return;
    this.#objects.set(key, object);
    // A first list is long, and mostly nobody is to be told of it.
    if (this.#indexes.size > 0) this.#reindex(key, before, object);
    if (this.#handlers.size > 0) this.#tell(before, object);
  }

  #reindex(key: string, before: KindMap[K] | undefined, object: KindMap[K]): void {
    for (const index of this.#indexes.values()) {
      if (before) drop(index, key, before);
      insert(index, key, object);
    }
  }

  #tell(before: KindMap[K] | undefined, object: KindMap[K]): void {
    for (const handler of this.#handlers) {
      if (!before) handler.onAdd?.(object);
      else if (before.metadata.uid !== object.metadata.uid) {
        handler.onDelete?.(before);
        handler.onAdd?.(object);
      } else handler.onUpdate?.(before, object);
    }
  }

  #remove(key: string, last: KindMap[K]): void {
    const before = this.#objects.get(key);
    if (!before) return;
    this.#objects.delete(key);
    for (const index of this.#indexes.values()) drop(index, key, before);
    for (const handler of this.#handlers) handler.onDelete?.(last);
  }
}

function insert<T>(index: Index<T>, key: string, object: T): void {
  for (const value of index.valuesOf(object)) {
    const entry = index.entries.get(value);
    if (entry === undefined || entry === object) index.entries.set(value, object);
    else if (entry instanceof Map) entry.set(key, object);
    else {
      const other = keyOf(entry as unknown as AnyObject);
      index.entries.set(
        value,
        new Map([
          [other, entry],
          [key, object],
        ]),
      );
    }
  }
}

function drop<T>(index: Index<T>, key: string, object: T): void {
  for (const value of index.valuesOf(object)) {
    const entry = index.entries.get(value);
    if (entry instanceof Map) {
      entry.delete(key);
      const [only] = entry.size === 1 ? entry.values() : [];
      if (only !== undefined) index.entries.set(value, only);
    } else if (entry === object) index.entries.delete(value);
  }
}
