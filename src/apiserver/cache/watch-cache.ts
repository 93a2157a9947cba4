/** The whole store's objects in memory, fed by one watch of the store. Reads and client watches are answered from here. */
import type { Logger } from '../../base/log.ts';
import { statusError } from '../../kube/status.ts';
import type { Change, KeyValue, RevisionedStore } from '../../store/contract.ts';
import type { Kind } from '../resources/kind.ts';
import { KindCache } from './kind-cache.ts';
import { decodeStored, type StoredObject } from './stored-object.ts';

const PREFIX = '/registry/';

/** How far back a restarted server lets clients continue their watches, in revisions. */
const RESTART_HISTORY = 500;

/** Where the objects of a kind lie in the store. */
export function storePrefix(kind: Pick<Kind, 'group' | 'plural'>): string {
  return `${PREFIX}${kind.group ? `${kind.group}/` : ''}${kind.plural}/`;
}

export function storeKey(kind: Kind, namespace: string | undefined, name: string): string {
  return `${storePrefix(kind)}${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

interface Waiter {
  readonly revision: number;
  readonly resolve: () => void;
}

export class WatchCache {
  readonly #store: RevisionedStore;
  readonly #log: Logger;
  readonly #byPrefix = new Map<string, KindCache>();
  readonly #waiters = new Set<Waiter>();
  #revision = 0;
  #stop: (() => void) | undefined;

  constructor(store: RevisionedStore, kinds: readonly Kind[], log: Logger) {
    this.#store = store;
    this.#log = log;
    for (const kind of kinds) {
      const prefix = storePrefix(kind);
      if (!this.#byPrefix.has(prefix)) this.#byPrefix.set(prefix, new KindCache(kind));
    }
  }

  /** Everything up to this revision is in the cache. */
  get revision(): number {
    return this.#revision;
  }

  of(kind: Pick<Kind, 'group' | 'plural'>): KindCache {
    const cache = this.#byPrefix.get(storePrefix(kind));
    if (!cache) throw new Error(`no cache of ${kind.plural}`);
    return cache;
  }

  all(): Iterable<KindCache> {
    return this.#byPrefix.values();
  }

  async start(): Promise<void> {
    const { items, revision } = await this.#store.range(PREFIX);
    for (const item of items) this.#cacheOf(item.key)?.load(decodeStored(item.value, item.modRevision));
    this.#revision = revision;
    const from = Math.max(this.#store.compactedRevision, revision - RESTART_HISTORY);
    for (const cache of this.all()) cache.beginHistory(from);
    this.#stop = this.#store.watch(PREFIX, from, {
      onChanges: (changes, at) => this.#onChanges(changes, at, at <= revision),
      onClosed: (error) => this.#log.debug({ error }, 'the store ended its watch'),
    });
  }

  stop(): void {
    this.#stop?.();
  }

  #cacheOf(key: string): KindCache | undefined {
    // "/registry/pods/ns/name", or with a group (which has a dot or is one of few words) before the resource.
    const first = key.indexOf('/', PREFIX.length);
    const core = this.#byPrefix.get(key.slice(0, first + 1));
    return core ?? this.#byPrefix.get(key.slice(0, key.indexOf('/', first + 1) + 1));
  }

  #onChanges(changes: readonly Change[], revision: number, isOld: boolean): void {
    for (const change of changes) {
      const cache = this.#cacheOf(change.key);
      if (!cache) continue;
      const after = change.current && decodeStored(change.current.value, revision);
      const before = change.previous && this.#previous(cache, change.previous, isOld);
      if (isOld) cache.remember({ revision, before, after });
      else cache.apply({ revision, before, after });
    }
    if (isOld) return;
    this.#revision = revision;
    for (const waiter of this.#waiters) if (waiter.revision <= revision) waiter.resolve();
  }

  #previous(cache: KindCache, previous: KeyValue, isOld: boolean): StoredObject {
    if (!isOld) {
      const prefix = storePrefix(cache.kind);
      const [first, second] = previous.key.slice(prefix.length).split('/') as [string, string | undefined];
      const cached = second === undefined ? cache.get(undefined, first) : cache.get(first, second);
      if (cached?.revision === previous.modRevision) return cached;
    }
    return decodeStored(previous.value, previous.modRevision);
  }

  /** Resolves when the cache has the revision. Rejects with 504 when it does not come. */
  async waitFor(revision: number, timeoutMs = 3000): Promise<void> {
    if (revision <= this.#revision) return;
    const arrival = Promise.withResolvers<void>();
    const waiter: Waiter = { revision, resolve: arrival.resolve };
    this.#waiters.add(waiter);
    const timer = setTimeout(() => arrival.reject(tooLarge(revision, this.#revision)), timeoutMs);
    try {
      await arrival.promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
    }
  }
}

function tooLarge(revision: number, current: number) {
  return statusError('Timeout', `Too large resource version: ${revision}, current: ${current}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  });
}
