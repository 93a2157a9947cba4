/**
 * An informer's copy in which a controller sees its own writes at once.
 *
 * A controller that acts on a copy from before its last write makes the same object twice. Here the answer of every write is
 * laid over the copy until the watch has caught up: created and changed objects are seen, deleted ones are not. A layer
 * that the watch never confirms (the object was made and removed while a relist was under way) ends after `maxAgeMs`.
 *
 * Versions are compared as numbers, which Kubernetes allows since KEP-5504; where they are no numbers the next event of the
 * object counts as newer.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import type { DeleteOptions, KubeClient, PatchOptions } from '../kube/client.ts';
import type { Informer } from '../kube/informer.ts';
import { keyOf } from '../kube/names.ts';
import { isConflict, isNotFound } from '../kube/status.ts';
import type { Draft, KindMap, KindName } from '../kube/types.ts';

const maxAgeMs = 30_000;

type Layer<T> =
  | { readonly type: 'written'; readonly object: T; readonly at: number }
  | { readonly type: 'deleted'; readonly uid: string; readonly at: number };

type ValuesOf<T> = (object: T) => readonly string[];

export class FreshStore<K extends KindName> {
  readonly #informer: Informer<K>;
  readonly #client: KubeClient;
  readonly #clock: Clock;
  readonly #layers = new Map<string, Layer<KindMap[K]>>();
  readonly #written = new Map<string, string>();
  readonly #indexes = new Map<string, ValuesOf<KindMap[K]>>();

  constructor(informer: Informer<K>, client: KubeClient, clock: Clock = systemClock) {
    this.#informer = informer;
    this.#client = client;
    this.#clock = clock;
    informer.addHandler({
      onAdd: (object) => this.#seen(object),
      onUpdate: (_, object) => this.#seen(object),
      onDelete: (object) => this.#gone(object),
    });
  }

  /** Adds an index to the informer, and to what lies over it. Names are shared with the informer's other users. */
  addIndex(name: string, valuesOf: ValuesOf<KindMap[K]>): void {
    this.#indexes.set(name, valuesOf);
    this.#informer.addIndex(name, valuesOf);
  }

  get(key: string): KindMap[K] | undefined {
    const layer = this.#layerOf(key);
    if (!layer) return this.#informer.get(key);
    return layer.type === 'written' ? layer.object : undefined;
  }

  byIndex(index: string, value: string): readonly KindMap[K][] {
    const copies = this.#informer.byIndex(index, value);
    if (this.#layers.size === 0) return copies;
    const valuesOf = this.#indexes.get(index);
    if (!valuesOf) throw new Error(`the store of ${this.#informer.kind} has no index ${index}`);
    const found = new Map(copies.map((object) => [keyOf(object), object]));
    for (const key of [...this.#layers.keys()]) {
      const layer = this.#layerOf(key);
      if (layer?.type === 'deleted') found.delete(key);
      else if (layer && valuesOf(layer.object).includes(value)) found.set(key, layer.object);
      else if (layer) found.delete(key);
    }
    return [...found.values()];
  }

  /** Whether the version of the object is one that was written here: no news for its writer. */
  isOwnWrite(object: KindMap[K]): boolean {
    return this.#written.get(keyOf(object)) === object.metadata.resourceVersion;
  }

  async create(draft: Draft<KindMap[K]>): Promise<KindMap[K]> {
    return this.#wrote(await this.#client.create(this.#informer.kind, draft));
  }

  update(object: KindMap[K]): Promise<KindMap[K]> {
    return this.#change(object, () => this.#client.update(this.#informer.kind, object));
  }

  updateStatus(object: KindMap[K]): Promise<KindMap[K]> {
    return this.#change(object, () => this.#client.updateStatus(this.#informer.kind, object));
  }

  patch(object: KindMap[K], patch: object, options?: PatchOptions): Promise<KindMap[K]> {
    return this.#change(object, () => this.#client.patch(this.#informer.kind, object.metadata, patch, options));
  }

  /** Deletes this very object (by uid). One that is gone already counts as deleted; true when this call did it. */
  async delete(object: KindMap[K], options: DeleteOptions = {}): Promise<boolean> {
    const { uid } = object.metadata;
    let done = true;
    try {
      await this.#client.delete(this.#informer.kind, object.metadata, { ...options, preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
      done = false;
    }
    const copy = this.#informer.get(keyOf(object));
    if (copy?.metadata.uid === uid && !copy.metadata.deletionTimestamp) {
      this.#layers.set(keyOf(object), { type: 'deleted', uid, at: this.#clock.now() });
    } else this.#layers.delete(keyOf(object));
    return done;
  }

  async #change(object: KindMap[K], write: () => Promise<KindMap[K]>): Promise<KindMap[K]> {
    try {
      return this.#wrote(await write());
    } catch (error) {
      if (isConflict(error) || isNotFound(error)) this.#layers.delete(keyOf(object));
      throw error;
    }
  }

  #wrote(object: KindMap[K]): KindMap[K] {
    const key = keyOf(object);
    this.#written.set(key, object.metadata.resourceVersion);
    const copy = this.#informer.get(key);
    if (!copy || !isAtLeast(copy, object)) this.#layers.set(key, { type: 'written', object, at: this.#clock.now() });
    return object;
  }

  #layerOf(key: string): Layer<KindMap[K]> | undefined {
    const layer = this.#layers.get(key);
    if (layer && this.#clock.now() - layer.at > maxAgeMs) {
      this.#layers.delete(key);
      return undefined;
    }
    return layer;
  }

  #seen(object: KindMap[K]): void {
    const key = keyOf(object);
    const layer = this.#layers.get(key);
    if (!layer) return;
    const confirmed =
      layer.type === 'written'
        ? isAtLeast(object, layer.object)
        : object.metadata.uid !== layer.uid || object.metadata.deletionTimestamp !== undefined;
    if (confirmed) this.#layers.delete(key);
  }

  #gone(object: KindMap[K]): void {
    const key = keyOf(object);
    const layer = this.#layers.get(key);
    const uid = layer?.type === 'written' ? layer.object.metadata.uid : layer?.uid;
    if (uid === object.metadata.uid) this.#layers.delete(key);
    this.#written.delete(key);
  }
}

interface Versioned {
  readonly metadata: { readonly uid: string; readonly resourceVersion: string };
}

/** Whether the first is the second's version or a later one. */
function isAtLeast(object: Versioned, other: Versioned): boolean {
  const a = object.metadata.resourceVersion;
  const b = other.metadata.resourceVersion;
  if (!/^\d+$/.test(a) || !/^\d+$/.test(b)) return true;
  return BigInt(a) >= BigInt(b);
}
