/**
 * What the embedded engines share: compares are decided at once in memory against the newest accepted state, then commits are
 * written in groups (those that arrive while one group is being synced form the next), and only then acknowledged and told to
 * watchers, in order of their revisions.
 *
 *   commit() -> compare with head -> revision assigned -> group -> engine.write (fsync) -> watchers -> promise resolves
 *
 * The group is bounded by the callers: each one waits for its promise. When a write fails, everything accepted since is
 * rejected and forgotten; the revisions are not used again.
 */
import {
  type Change,
  type CommitResult,
  CompactedError,
  FutureRevisionError,
  type KeyValue,
  type Range,
  type RangeOptions,
  type Revision,
  type RevisionedStore,
  type Transaction,
  type Watcher,
} from './contract.ts';

/** All changes of one revision. */
export interface Commit {
  readonly revision: Revision;
  readonly changes: readonly Change[];
}

/** Where an embedded store keeps its state. Reads are synchronous and see only what `write` has finished. */
export interface Engine {
  readonly revision: Revision;
  readonly compactedRevision: Revision;
  read(key: string): KeyValue | undefined;
  /** Keys of the prefix after `after`, in order. */
  scan(prefix: string, after?: string, limit?: number): KeyValue[];
  count(prefix: string, after?: string): number;
  /** The commits after the revision, in order. */
  history(after: Revision): Iterable<Commit>;
  /** Resolves when all is durable; rejects when nothing of it was kept. */
  write(commits: readonly Commit[]): Promise<void>;
  compact(revision: Revision): Promise<void>;
  close(): Promise<void>;
}

interface Accepted {
  readonly commit: Commit;
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
}

export interface CommitterOptions {
  /** How many revisions of history are kept for watches from an older revision; default 20,000. */
  readonly historyRevisions?: number;
}

export class Committer implements RevisionedStore {
  readonly #engine: Engine;
  readonly #historyRevisions: number;
  readonly #watchers = new Set<{ readonly prefix: string; readonly watcher: Watcher }>();
  /** The newest accepted, not yet durable state of keys; a change without `current` is a deletion. */
  readonly #accepted = new Map<string, Change>();
  #group: Accepted[] = [];
  #writing: Promise<void> | undefined;
  #nextRevision: Revision;
  #closed = false;

  constructor(engine: Engine, options: CommitterOptions = {}) {
    this.#engine = engine;
    this.#historyRevisions = options.historyRevisions ?? 20_000;
    this.#nextRevision = engine.revision + 1;
  }

  get revision(): Revision {
    return this.#engine.revision;
  }

  get compactedRevision(): Revision {
    return this.#engine.compactedRevision;
  }

  async get(key: string): Promise<KeyValue | undefined> {
    return this.#engine.read(key);
  }

  async range(prefix: string, options: RangeOptions = {}): Promise<Range> {
    const { after, limit } = options;
    const revision = options.revision ?? this.revision;
    if (revision > this.revision)
      throw new FutureRevisionError(`revision ${revision} is newer than the newest, ${this.revision}`);
    if (revision < this.compactedRevision) throw new CompactedError(this.compactedRevision);
    if (revision < this.revision) return this.#rangeAt(prefix, revision, after, limit);
    const items = this.#engine.scan(prefix, after, limit);
    const last = items.at(-1)?.key;
    const remaining = limit !== undefined && items.length === limit && last ? this.#engine.count(prefix, last) : 0;
    return { items, revision, remaining };
  }

  /** The newest state with the changes since the revision undone. */
  #rangeAt(prefix: string, revision: Revision, after?: string, limit?: number): Range {
    const state = new Map(this.#engine.scan(prefix).map((item) => [item.key, item]));
    const undone = new Set<string>();
    for (const commit of this.#engine.history(revision)) {
      for (const { key, previous } of commit.changes) {
        if (!key.startsWith(prefix) || undone.has(key)) continue;
        undone.add(key);
        if (previous) state.set(key, previous);
        else state.delete(key);
      }
    }
    const items = [...state.values()]
      .filter((item) => after === undefined || item.key > after)
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    const end = Math.min(items.length, limit ?? items.length);
    return { items: items.slice(0, end), revision, remaining: items.length - end };
  }

  commit(transaction: Transaction): Promise<CommitResult> {
    if (this.#closed) return Promise.reject(new Error('the store is closed'));
    for (const { key, modRevision } of transaction.compares) {
      const actual = this.#head(key);
      if ((actual?.modRevision ?? 0) !== modRevision)
        return Promise.resolve({ ok: false, revision: this.revision, key, actual });
    }
    const changes = this.#changesOf(transaction);
    if (changes.length === 0) return Promise.resolve({ ok: true, revision: this.revision });
    const revision = this.#nextRevision++;
    for (const change of changes) this.#accepted.set(change.key, change);
    return new Promise((resolve, reject) => {
      this.#group.push({ commit: { revision, changes }, resolve, reject });
      this.#writing ??= this.#writeGroups();
    });
  }

  #head(key: string): KeyValue | undefined {
    const accepted = this.#accepted.get(key);
    return accepted ? accepted.current : this.#engine.read(key);
  }

  #changesOf(transaction: Transaction): Change[] {
    const revision = this.#nextRevision;
    const changes: Change[] = [];
    for (const { key, value } of transaction.mutations) {
      const previous = this.#head(key);
      if (value === undefined && !previous) continue;
      const current =
        value === undefined
          ? undefined
          : { key, value, createRevision: previous?.createRevision ?? revision, modRevision: revision };
      changes.push({ key, revision, current, previous });
    }
    return changes;
  }

  async #writeGroups(): Promise<void> {
    // One turn of the event loop's microtasks, so that commits made together are synced together.
    await Promise.resolve();
    while (this.#group.length > 0) {
      const group = this.#group;
      this.#group = [];
      try {
        await this.#engine.write(group.map((accepted) => accepted.commit));
      } catch (error) {
        const failed = [...group, ...this.#group];
        this.#group = [];
        this.#accepted.clear();
        for (const { reject } of failed) reject(error);
        continue;
      }
      for (const { commit } of group) this.#publish(commit);
      for (const { commit, resolve } of group) resolve({ ok: true, revision: commit.revision });
      await this.#trimHistory();
    }
    this.#writing = undefined;
  }

  #publish(commit: Commit): void {
    for (const change of commit.changes)
      if (this.#accepted.get(change.key) === change) this.#accepted.delete(change.key);
    for (const { prefix, watcher } of this.#watchers) {
      const changes = commit.changes.filter((change) => change.key.startsWith(prefix));
      if (changes.length > 0) watcher.onChanges(changes, commit.revision);
    }
  }

  async #trimHistory(): Promise<void> {
    const excess = this.revision - this.compactedRevision - this.#historyRevisions;
    if (excess > Math.max(100, this.#historyRevisions / 10))
      await this.#engine.compact(this.revision - this.#historyRevisions);
  }

  watch(prefix: string, after: Revision, watcher: Watcher): () => void {
    if (after < this.compactedRevision) throw new CompactedError(this.compactedRevision);
    for (const { revision, changes } of this.#engine.history(after)) {
      const touched = changes.filter((change) => change.key.startsWith(prefix));
      if (touched.length > 0) watcher.onChanges(touched, revision);
    }
    const entry = { prefix, watcher };
    this.#watchers.add(entry);
    return () => this.#watchers.delete(entry);
  }

  async compact(revision: Revision): Promise<void> {
    if (revision > this.revision) throw new FutureRevisionError(`revision ${revision} is not there yet`);
    if (revision > this.compactedRevision) await this.#engine.compact(revision);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#writing;
    for (const { watcher } of this.#watchers) watcher.onClosed?.(new Error('the store was closed'));
    this.#watchers.clear();
    await this.#engine.close();
  }
}
