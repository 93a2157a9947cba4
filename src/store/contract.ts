/**
 * The revisioned store: ordered keys, one global revision that every commit raises by one, compare-and-commit, and a watch that
 * delivers every change in order. The shape is etcd's (mvcc), so that an etcd engine fits behind it; the embedded engines are
 * `memory.ts` (tests) and `lmdb.ts` (durable). It knows nothing of Kubernetes: values are bytes.
 */

/** The store's logical clock: 1 for an empty store, plus 1 for every commit. Below 2^53, so a plain number carries it. */
export type Revision = number;

export interface KeyValue {
  readonly key: string;
  readonly value: Uint8Array;
  /** The revision at which the key came into being (again). */
  readonly createRevision: Revision;
  /** The revision of the last change. */
  readonly modRevision: Revision;
}

/** One key's change. `current` is absent for a deletion, `previous` for a creation. */
export interface Change {
  readonly key: string;
  readonly revision: Revision;
  readonly current?: KeyValue | undefined;
  readonly previous?: KeyValue | undefined;
}

/** The key must have been changed last at this revision; 0: it must not exist. */
export interface Compare {
  readonly key: string;
  readonly modRevision: Revision;
}

/** A value to put, or a deletion when `value` is absent. Deleting what is absent changes nothing. */
export interface Mutation {
  readonly key: string;
  readonly value?: Uint8Array | undefined;
}

export interface Transaction {
  readonly compares: readonly Compare[];
  /** Each key at most once; all get the same revision. */
  readonly mutations: readonly Mutation[];
}

/** When a compare fails nothing is changed, and `actual` is what the first failing key holds (also when not yet durable). */
export type CommitResult =
  | { readonly ok: true; readonly revision: Revision }
  | { readonly ok: false; readonly revision: Revision; readonly key: string; readonly actual: KeyValue | undefined };

export interface RangeOptions {
  /** At most so many; all when absent. */
  readonly limit?: number;
  /** Only keys after this one. */
  readonly after?: string;
  /** The state at this revision; the newest when absent. Throws Expired when it was compacted. */
  readonly revision?: Revision;
}

export interface Range {
  readonly items: readonly KeyValue[];
  /** The revision whose state this is. */
  readonly revision: Revision;
  /** How many more keys of the prefix follow the last item. */
  readonly remaining: number;
}

export interface Watcher {
  /** Called with the changes of one commit that touch the prefix, in order of revisions. Must not throw. */
  onChanges(changes: readonly Change[], revision: Revision): void;
  /** Called once if the store can no longer deliver. */
  onClosed?(error: Error): void;
}

/** The asked revision was compacted away: read the current state again. */
export class CompactedError extends Error {
  override readonly name = 'CompactedError';
  readonly compacted: Revision;
  constructor(compacted: Revision) {
    super(`the required revision has been compacted (oldest is ${compacted})`);
    this.compacted = compacted;
  }
}

/** The asked revision lies in the future. */
export class FutureRevisionError extends Error {
  override readonly name = 'FutureRevisionError';
}

export interface RevisionedStore {
  /** The revision of the newest commit that is durable and visible. */
  readonly revision: Revision;
  /** Changes up to this revision are no longer available. */
  readonly compactedRevision: Revision;
  get(key: string): Promise<KeyValue | undefined>;
  /** The keys that begin with the prefix, in byte order. */
  range(prefix: string, options?: RangeOptions): Promise<Range>;
  /**
   * Compares and changes atomically. Resolves when the change is durable and after every watcher has been told of it.
   * Rejects when it could not be made durable; then nothing was changed.
   */
  commit(transaction: Transaction): Promise<CommitResult>;
  /** Delivers all changes after the revision, old ones first. Throws CompactedError. Returns the end of the watch. */
  watch(prefix: string, after: Revision, watcher: Watcher): () => void;
  /** Forgets the changes up to the revision; the newest values stay. */
  compact(revision: Revision): Promise<void>;
  close(): Promise<void>;
}
