/** Reads and writes of objects: the cache for reads, the store's compare-and-commit for writes. Knows no rules of kinds. */
import type { StatusError } from '../kube/status.ts';
import { statusError } from '../kube/status.ts';
import type { RevisionedStore } from '../store/contract.ts';
import { decodeStored, encodeForStore, StoredObject } from './cache/stored-object.ts';
import { storeKey, type WatchCache } from './cache/watch-cache.ts';
import type { ApiObject, Existing, Kind } from './resources/kind.ts';
import { qualifiedResource } from './validation/field.ts';

/** What to do with an object that is there. `keep` answers with it unchanged. */
export type Decision =
  | { readonly put: ApiObject; readonly onCommit?: () => void; readonly onRollback?: () => void }
  | { readonly remove: true; readonly last?: Existing }
  | { readonly keep: true };

export interface Written {
  readonly stored: StoredObject;
  readonly outcome: 'put' | 'removed' | 'kept';
}

/** An update that others overtake is tried again so often. */
const MAX_ATTEMPTS = 50;

export class Storage {
  readonly #store: RevisionedStore;
  readonly #cache: WatchCache;

  constructor(store: RevisionedStore, cache: WatchCache) {
    this.#store = store;
    this.#cache = cache;
  }

  find(kind: Kind, namespace: string | undefined, name: string): StoredObject | undefined {
    return this.#cache.of(kind).get(namespace, name)?.in(kind);
  }

  get(kind: Kind, namespace: string | undefined, name: string): StoredObject {
    const stored = this.find(kind, namespace, name);
    if (!stored) throw notFound(kind, name);
    return stored;
  }

  /** Throws AlreadyExists. */
  async create(kind: Kind, object: ApiObject): Promise<StoredObject> {
    const { namespace, name } = object.metadata;
    const key = storeKey(kind, namespace, name);
    const result = await this.#store.commit({
      compares: [{ key, modRevision: 0 }],
      mutations: [{ key, value: encodeForStore(object) }],
    });
    if (!result.ok) throw alreadyExists(kind, name);
    return this.#written(kind, object, result.revision);
  }

  /** What the cache holds now if it is that version, so that its bytes are shared. */
  async #written(kind: Kind, object: ApiObject, revision: number): Promise<StoredObject> {
    await this.#cache.waitFor(revision);
    const cached = this.find(kind, object.metadata.namespace, object.metadata.name);
    return cached?.revision === revision ? cached : new StoredObject(object, 0).at(revision);
  }

  /**
   * Decides on the newest version and writes, again and again until nobody has come between. `decide` gets a version that
   * it must not change, may be called several times, and may throw. Throws NotFound.
   */
  async update(
    kind: Kind,
    namespace: string | undefined,
    name: string,
    decide: (current: StoredObject) => Decision,
  ): Promise<Written> {
    let current = this.get(kind, namespace, name);
    const key = storeKey(kind, namespace, name);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const decision = decide(current);
      if ('keep' in decision) return { stored: current, outcome: 'kept' };
      const put = 'put' in decision ? decision : undefined;
      let result: Awaited<ReturnType<RevisionedStore['commit']>>;
      try {
        result = await this.#store.commit({
          compares: [{ key, modRevision: current.revision }],
          mutations: [{ key, value: put && encodeForStore(put.put) }],
        });
      } catch (error) {
        put?.onRollback?.();
        throw error;
      }
      if (result.ok) {
        put?.onCommit?.();
        if (put) return { stored: await this.#written(kind, put.put, result.revision), outcome: 'put' };
        await this.#cache.waitFor(result.revision);
        const last = 'last' in decision && decision.last ? new StoredObject(decision.last, 0) : current;
        return { stored: last.at(result.revision), outcome: 'removed' };
      }
      put?.onRollback?.();
      if (!result.actual) throw notFound(kind, name);
      current = decodeStored(result.actual.value, result.actual.modRevision).in(kind);
    }
    throw conflict(kind, name, 'the object is changed too often; try again');
  }

  /** The state of a collection at an older revision, for the pages of a list. Throws CompactedError. */
  async rangeAt(prefix: string, revision: number): Promise<StoredObject[]> {
    const { items } = await this.#store.range(prefix, { revision });
    return items.map((item) => decodeStored(item.value, item.modRevision));
  }
}

const detailsOf = (kind: Kind, name: string) => ({
  name,
  ...(kind.group ? { group: kind.group } : {}),
  kind: kind.plural,
});

export function notFound(kind: Kind, name: string): StatusError {
  return statusError('NotFound', `${qualifiedResource(kind)} ${JSON.stringify(name)} not found`, detailsOf(kind, name));
}

export function alreadyExists(kind: Kind, name: string): StatusError {
  return statusError(
    'AlreadyExists',
    `${qualifiedResource(kind)} ${JSON.stringify(name)} already exists`,
    detailsOf(kind, name),
  );
}

export function conflict(kind: Kind, name: string, why: string): StatusError {
  return statusError(
    'Conflict',
    `Operation cannot be fulfilled on ${qualifiedResource(kind)} ${JSON.stringify(name)}: ${why}`,
    detailsOf(kind, name),
  );
}

export const MODIFIED = 'the object has been modified; please apply your changes to the latest version and try again';
