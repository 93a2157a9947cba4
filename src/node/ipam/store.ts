/**
 * The reservations on disk: an append-only journal, compacted now and then by writing a new file and renaming it.
 *
 * What survives what:
 *   - kill -9: a record is in the kernel's page cache when `append` returns, so nothing appended is lost;
 *   - a power cut: nothing is lost whose `durable` promise has resolved (fdatasync, shared by all that wait for it).
 * A crash while writing leaves a torn last line, which the next start cuts off; a crash while compacting leaves the old
 * file or the new one, never a mixture.
 */
import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { codeOf } from '../../base/errors.ts';
import {
  type DecodedJournal,
  decodeJournal,
  type JournalRecord,
  type JournalState,
  renderRecord,
  replayJournal,
} from './journal-record.ts';

const HEAD: JournalRecord = { op: 'journal', version: 1 };
/** A journal is compacted when it has this many lines more than four times what is live. */
const COMPACTION_SLACK = 1000;

interface JournalFile {
  readonly fd: number;
  readonly lines: number;
}

interface Sync {
  readonly waiting: PromiseWithResolvers<void>[];
  running: boolean;
}

export class ReservationStore {
  readonly #path: string;
  /** Names everything that is live, for a compaction. */
  readonly #snapshot: () => readonly JournalRecord[];
  #fd: number;
  #size: number;
  #lines: number;
  #suspect = false;
  #closed = false;
  readonly #sync: Sync = { waiting: [], running: false };

  private constructor(path: string, file: JournalFile, snapshot: () => readonly JournalRecord[]) {
    this.#path = path;
    this.#fd = file.fd;
    this.#lines = file.lines;
    this.#size = fstatSync(file.fd).size;
    this.#snapshot = snapshot;
  }

  /**
   * Reads the journal at `path`; undefined when there is none or nothing in it. Throws JournalCorruptError, and file system errors.
   * Changes nothing.
   */
  static read(path: string): JournalState | undefined {
    const decoded = readJournal(path);
    return decoded?.records.length ? replayJournal(decoded.records) : undefined;
  }

  /**
   * Opens the journal for writing. A torn tail is cut off; an absent journal is made, complete with the snapshot, in
   * one step. Throws as `read` does.
   */
  static open(path: string, snapshot: () => readonly JournalRecord[]): ReservationStore {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const decoded = readJournal(path);
    if (!decoded || decoded.records.length === 0)
      return new ReservationStore(path, replaceJournal(path, snapshot()), snapshot);
    const fd = openSync(path, 'a', 0o600);
    try {
      ftruncateSync(fd, decoded.validBytes);
      fdatasyncSync(fd);
      return new ReservationStore(path, { fd, lines: decoded.records.length }, snapshot);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /**
   * Appends a record; when this returns, a crash of this process cannot lose it. The promise resolves when a crash of
   * the machine cannot either. Throws (and leaves the journal as it was) when it cannot be written, as on a full disk.
   */
  append(record: JournalRecord): { readonly durable: Promise<void> } {
    if (this.#closed) throw new Error('the journal of pod addresses is closed');
    if (this.#suspect) this.compact();
    this.#write(renderRecord(record));
    return { durable: this.#durable() };
  }

  /**
   * As `append`, for a record that may get lost: in a power cut, or when the disk is full. The journal is then rewritten
   * by the next append, so that it tells the truth again.
   */
  appendLazily(record: JournalRecord): void {
    if (this.#closed) throw new Error('the journal of pod addresses is closed');
    try {
      this.#write(renderRecord(record));
    } catch {
      this.#suspect = true;
    }
  }

  /**
   * Compacts when the journal has grown; `live` is the number of live reservations. A compaction that fails changes
   * nothing: the next one tries again, and a full disk is reported by the next append.
   */
  compactIfGrown(live: number): void {
    if (this.#lines <= COMPACTION_SLACK + 4 * live) return;
    try {
      this.compact();
    } catch {
      // See above.
    }
  }

  /** Writes all that is live into a new file and puts it in the journal's place. */
  compact(): void {
    const old = this.#fd;
    const { fd, lines } = replaceJournal(this.#path, this.#snapshot());
    this.#fd = fd;
    this.#lines = lines;
    this.#size = fstatSync(fd).size;
    this.#suspect = false;
    this.#closeWhenIdle(old);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    fdatasyncSync(this.#fd);
    this.#closeWhenIdle(this.#fd);
  }

  #write(line: string): void {
    const bytes = Buffer.from(line);
    try {
      let written = 0;
      while (written < bytes.length) written += writeSync(this.#fd, bytes, written);
    } catch (error) {
      ftruncateSync(this.#fd, this.#size);
      throw error;
    }
    this.#size += bytes.length;
    this.#lines++;
  }

  /** One fdatasync at a time: whoever comes while one runs shares the next one. */
  #durable(): Promise<void> {
    const waiter = Promise.withResolvers<void>();
    this.#sync.waiting.push(waiter);
    this.#pumpSync();
    return waiter.promise;
  }

  #pumpSync(): void {
    if (this.#sync.running || this.#sync.waiting.length === 0) return;
    const waiters = this.#sync.waiting.splice(0);
    this.#sync.running = true;
    fdatasync(this.#fd, (error) => {
      this.#sync.running = false;
      // After a failed sync the kernel may have dropped the pages: only a new file can be trusted.
      if (error) this.#suspect = true;
      for (const waiter of waiters) error ? waiter.reject(error) : waiter.resolve();
      this.#pumpSync();
    });
  }

  /** A descriptor must not be closed (and its number reused) while a sync on it runs in the thread pool. */
  #closeWhenIdle(fd: number): void {
    if (!this.#sync.running && this.#sync.waiting.length === 0) closeSync(fd);
    else
      void this.#durable()
        .catch(() => {})
        .finally(() => closeSync(fd));
  }
}

/** Writes a journal of these records beside `path`, then renames it into place: a crash leaves the old one or the new one. */
function replaceJournal(path: string, snapshot: readonly JournalRecord[]): JournalFile {
  const temporary = `${path}.new`;
  rmSync(temporary, { force: true });
  const fd = openSync(temporary, 'a', 0o600);
  try {
    const records = [HEAD, ...snapshot];
    writeFileSync(fd, records.map(renderRecord).join(''));
    fdatasyncSync(fd);
    renameSync(temporary, path);
    syncDirectory(path);
    return { fd, lines: records.length };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function readJournal(path: string): DecodedJournal | undefined {
  try {
    return decodeJournal(readFileSync(path));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Makes a rename or a new file in the folder survive a power cut. */
function syncDirectory(path: string): void {
  const fd = openSync(dirname(path), 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
