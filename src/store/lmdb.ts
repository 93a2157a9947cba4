/**
 * The durable store: LMDB, embedded. Three tables: `values` (key -> newest value), `log` (revision -> the changes of that
 * commit with the values before and after, for watches and lists from an older revision), `meta` (revision, compacted).
 * A group of commits is one LMDB transaction, synced to disk before anybody is told. One process at a time.
 */
import { mkdirSync } from 'node:fs';
import { type Database, open, type RootDatabase } from 'lmdb';
import { type Commit, Committer, type CommitterOptions, type Engine } from './committer.ts';
import type { Change, KeyValue, Revision, RevisionedStore } from './contract.ts';

export interface LmdbStoreOptions extends CommitterOptions {
  /** The folder; made when absent. */
  readonly path: string;
}

export function lmdbStore(options: LmdbStoreOptions): RevisionedStore {
  mkdirSync(options.path, { recursive: true, mode: 0o700 });
  return new Committer(new LmdbEngine(options.path), options);
}

/** Virtual address space, not disk or memory: the largest size of the store. */
const MAP_SIZE_BYTES = 8 * 1024 ** 3;

class LmdbEngine implements Engine {
  readonly #root: RootDatabase<Buffer, string>;
  readonly #values: Database<Buffer, string>;
  readonly #log: Database<Buffer, number>;
  readonly #meta: Database<number, string>;
  #revision: Revision;
  #compacted: Revision;

  constructor(path: string) {
    this.#root = open<Buffer, string>({
      path,
      noSubdir: false,
      maxDbs: 4,
      mapSize: MAP_SIZE_BYTES,
      encoding: 'binary',
      // A commit is flushed before it counts as done: no acknowledged write may be lost with the machine either.
      overlappingSync: false,
    });
    this.#values = this.#root.openDB({ name: 'values', encoding: 'binary' });
    this.#log = this.#root.openDB({ name: 'log', encoding: 'binary' });
    this.#meta = this.#root.openDB({ name: 'meta', encoding: 'json' });
    this.#revision = this.#meta.get('revision') ?? 1;
    this.#compacted = this.#meta.get('compacted') ?? 1;
  }

  get revision(): Revision {
    return this.#revision;
  }

  get compactedRevision(): Revision {
    return this.#compacted;
  }

  read(key: string): KeyValue | undefined {
    const bytes = this.#values.getBinary(key);
    return bytes && decodeValue(key, bytes);
  }

  scan(prefix: string, after?: string, limit?: number): KeyValue[] {
    const items: KeyValue[] = [];
    for (const { key, value } of this.#values.getRange(rangeOf(prefix, after, limit))) {
      items.push(decodeValue(key, value));
    }
    return items;
  }

  count(prefix: string, after?: string): number {
    return this.#values.getKeysCount(rangeOf(prefix, after));
  }

  *history(after: Revision): Iterable<Commit> {
    for (const { key, value } of this.#log.getRange({ start: after + 1 })) yield decodeCommit(key, value);
  }

  async write(commits: readonly Commit[]): Promise<void> {
    const last = commits.at(-1)!.revision;
    await this.#root.batch(() => {
      for (const commit of commits) {
        for (const { key, current } of commit.changes) {
          if (current) void this.#values.put(key, encodeValue(current));
          else void this.#values.remove(key);
        }
        void this.#log.put(commit.revision, encodeCommit(commit));
      }
      void this.#meta.put('revision', last);
    });
    await this.#root.flushed;
    this.#revision = last;
  }

  async compact(revision: Revision): Promise<void> {
    const old = [...this.#log.getKeys({ end: revision + 1 })];
    await this.#root.batch(() => {
      for (const key of old) void this.#log.remove(key);
      void this.#meta.put('compacted', revision);
    });
    await this.#root.flushed;
    this.#compacted = revision;
  }

  async close(): Promise<void> {
    await this.#root.close();
  }
}

/** From after the key, or from the prefix itself, up to the end of the prefix. */
function rangeOf(prefix: string, after?: string, limit?: number) {
  const past = after !== undefined && after >= prefix;
  return {
    start: past ? after : prefix,
    ...(past ? { exclusiveStart: true } : {}),
    // U+FFFF sorts after every character that a key holds.
    end: `${prefix}\uffff`,
    ...(limit === undefined ? {} : { limit }),
  };
}

const VALUE_HEADER_BYTES = 16;

/** 8 bytes create revision, 8 bytes last change, then the value. */
function encodeValue({ value, createRevision, modRevision }: KeyValue): Buffer {
  const bytes = Buffer.allocUnsafe(VALUE_HEADER_BYTES + value.length);
  bytes.writeBigUInt64BE(BigInt(createRevision), 0);
  bytes.writeBigUInt64BE(BigInt(modRevision), 8);
  bytes.set(value, VALUE_HEADER_BYTES);
  return bytes;
}

function decodeValue(key: string, bytes: Buffer): KeyValue {
  return {
    key,
    createRevision: Number(bytes.readBigUInt64BE(0)),
    modRevision: Number(bytes.readBigUInt64BE(8)),
    value: bytes.subarray(VALUE_HEADER_BYTES),
  };
}

/** What `log` keeps of a change: revisions and lengths; the values follow in the same order. */
interface LoggedChange {
  readonly key: string;
  readonly current?: { readonly created: Revision; readonly bytes: number };
  readonly previous?: { readonly created: Revision; readonly changed: Revision; readonly bytes: number };
}

function encodeCommit({ changes }: Commit): Buffer {
  const header = Buffer.from(
    JSON.stringify(
      changes.map(
        ({ key, current, previous }): LoggedChange => ({
          key,
          ...(current ? { current: { created: current.createRevision, bytes: current.value.length } } : {}),
          ...(previous
            ? {
                previous: {
                  created: previous.createRevision,
                  changed: previous.modRevision,
                  bytes: previous.value.length,
                },
              }
            : {}),
        }),
      ),
    ),
  );
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32BE(header.length);
  const values = changes.flatMap(({ current, previous }) =>
    [current, previous].flatMap((kv) => (kv ? [kv.value] : [])),
  );
  return Buffer.concat([length, header, ...values]);
}

function decodeCommit(revision: Revision, bytes: Buffer): Commit {
  const headerBytes = bytes.readUInt32BE(0);
  const logged = JSON.parse(bytes.toString('utf8', 4, 4 + headerBytes)) as LoggedChange[];
  let at = 4 + headerBytes;
  const take = (length: number) => {
    at += length;
    return bytes.subarray(at - length, at);
  };
  const changes = logged.map(({ key, current, previous }): Change => {
    const now = current && {
      key,
      value: take(current.bytes),
      createRevision: current.created,
      modRevision: revision,
    };
    const before = previous && {
      key,
      value: take(previous.bytes),
      createRevision: previous.created,
      modRevision: previous.changed,
    };
    return { key, revision, current: now, previous: before };
  });
  return { revision, changes };
}
