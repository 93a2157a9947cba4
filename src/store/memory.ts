/** The store in memory, for tests and throw-away clusters. Nothing survives the process. */
import { type Commit, Committer, type CommitterOptions, type Engine } from './committer.ts';
import type { KeyValue, Revision, RevisionedStore } from './contract.ts';

export function memoryStore(options: CommitterOptions = {}): RevisionedStore {
  return new Committer(new MemoryEngine(), options);
}

class MemoryEngine implements Engine {
  readonly #values = new Map<string, KeyValue>();
  /** The keys in order; rebuilt by the first scan after a key came or went. */
  #keys: string[] | undefined = [];
  #commits: Commit[] = [];
  #revision: Revision = 1;
  #compacted: Revision = 1;

  get revision(): Revision {
    return this.#revision;
  }

  get compactedRevision(): Revision {
    return this.#compacted;
  }

  read(key: string): KeyValue | undefined {
    return this.#values.get(key);
  }

  scan(prefix: string, after?: string, limit = Number.POSITIVE_INFINITY): KeyValue[] {
    const items: KeyValue[] = [];
    const keys = this.#sorted();
    for (let i = this.#start(keys, prefix, after); i < keys.length && items.length < limit; i++) {
      if (!keys[i]!.startsWith(prefix)) break;
      items.push(this.#values.get(keys[i]!)!);
    }
    return items;
  }

  count(prefix: string, after?: string): number {
    return this.scan(prefix, after).length;
  }

  #sorted(): readonly string[] {
    this.#keys ??= [...this.#values.keys()].sort();
    return this.#keys;
  }

  /** The place of the first key of the prefix after `after`. */
  #start(keys: readonly string[], prefix: string, after: string | undefined): number {
    const first = after !== undefined && after >= prefix ? after : prefix;
    let low = 0;
    let high = keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (keys[middle]! < first) low = middle + 1;
      else high = middle;
    }
    return keys[low] === after ? low + 1 : low;
  }

  *history(after: Revision): Iterable<Commit> {
    for (const commit of this.#commits) if (commit.revision > after) yield commit;
  }

  async write(commits: readonly Commit[]): Promise<void> {
    for (const commit of commits) {
      for (const { key, current, previous } of commit.changes) {
        if (current) this.#values.set(key, current);
        else this.#values.delete(key);
        if (!current !== !previous || !previous) this.#keys = undefined;
      }
      this.#commits.push(commit);
      this.#revision = commit.revision;
    }
  }

  async compact(revision: Revision): Promise<void> {
    this.#compacted = revision;
    this.#commits = this.#commits.filter((commit) => commit.revision > revision);
  }

  async close(): Promise<void> {}
}
