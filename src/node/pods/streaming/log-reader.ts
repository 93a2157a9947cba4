/**
 * Reads a container's log: from the wanted tail on, and with follow until the container has ended and all was read.
 * Memory is bounded by one block and one line, whatever the file's size.
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { codeOf } from '../../../base/errors.ts';
import { statusError } from '../../../kube/status.ts';
import { LogPrinter } from './log-printer.ts';
import type { LogQuery } from './log-query.ts';
import { findTailOffset } from './log-tail.ts';
import { LogWatcher } from './log-watcher.ts';
import type { LogFile } from './pod-streams.ts';

const BLOCK_BYTES = 128 * 1024;
/** How often a follower asks whether the container still runs, in milliseconds. */
const STATUS_INTERVAL_MS = 500;

/**
 * Yields the printed bytes; ends early, without an error, when the signal aborts. `locate` is asked again while
 * following: another path or a container that does not run means that the file gets no more bytes.
 * Throws NotFound when there is no file of a container that has ended.
 */
export async function* readLog(
  locate: () => Promise<LogFile>,
  query: LogQuery,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const first = await locate();
  const printer = new LogPrinter(query);
  if (query.follow) {
    yield* followLog(first.path, locate, query, printer, signal);
    return;
  }
  await using file = await openLog(first.path);
  if (!file) {
    if (first.running) return;
    throw statusError('NotFound', `the log file ${first.path} is not there`);
  }
  const { size } = await file.stat();
  const begin = query.tailLines === undefined ? 0 : await findTailOffset(file, size, query.tailLines);
  yield* printFrom(file, begin, printer, signal);
  yield printer.finish();
}

/** Prints up to the file's present end and returns the offset reached. */
async function* printFrom(
  file: FileHandle,
  begin: number,
  printer: LogPrinter,
  signal: AbortSignal,
): AsyncGenerator<Buffer, number> {
  const block = Buffer.allocUnsafe(BLOCK_BYTES);
  for (let offset = begin; ; ) {
    if (signal.aborted || printer.full) return offset;
    const { bytesRead } = await file.read(block, 0, block.length, offset);
    if (bytesRead === 0) return offset;
    offset += bytesRead;
    const text = printer.print(block.subarray(0, bytesRead));
    if (text.length > 0) yield text;
  }
}

async function* followLog(
  path: string,
  locate: () => Promise<LogFile>,
  query: LogQuery,
  printer: LogPrinter,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  using watcher = new LogWatcher(path);
  let tailLines = query.tailLines;
  for (let ended = false; !ended; ) {
    await using file = await openLog(path);
    if (file) {
      const { size } = await file.stat();
      const begin = tailLines === undefined ? 0 : await findTailOffset(file, size, tailLines);
      ended = (yield* followFile(file, begin, { path, locate, printer, watcher, signal })) === 'ended';
    } else {
      ended = signal.aborted || !(await stillWritten(path, locate));
      if (!ended) await watcher.changed(STATUS_INTERVAL_MS, signal);
    }
    // A file that comes later (first write, rotation) is read from its beginning.
    tailLines = undefined;
  }
  yield printer.finish();
}

interface Following {
  readonly path: string;
  readonly locate: () => Promise<LogFile>;
  readonly printer: LogPrinter;
  readonly watcher: LogWatcher;
  readonly signal: AbortSignal;
}

/** Follows one file until nothing more will come (ended) or another file has taken its place (rotated). */
async function* followFile(
  file: FileHandle,
  begin: number,
  { path, locate, printer, watcher, signal }: Following,
): AsyncGenerator<Buffer, 'ended' | 'rotated'> {
  let asked = 0;
  for (let offset = begin, last: 'ended' | 'rotated' | undefined; ; ) {
    offset = yield* printFrom(file, offset, printer, signal);
    if (signal.aborted || printer.full) return 'ended';
    // Decided before the last read: all that was written until then has been printed.
    if (last) return last;
    const { size } = await file.stat();
    if (await isReplaced(file, path)) last = 'rotated';
    else if (Date.now() - asked >= STATUS_INTERVAL_MS) {
      asked = Date.now();
      if (!(await stillWritten(path, locate))) last = 'ended';
    }
    if (!last && size <= offset) await watcher.changed(STATUS_INTERVAL_MS, signal);
  }
}

/** Whether the container that writes the path still runs. A pod that is gone writes nothing. */
async function stillWritten(path: string, locate: () => Promise<LogFile>): Promise<boolean> {
  try {
    const now = await locate();
    return now.running && now.path === path;
  } catch {
    return false;
  }
}

/** Whether the path names another file now. A path that is gone for a moment (rotation renames) does not count. */
async function isReplaced(file: FileHandle, path: string): Promise<boolean> {
  try {
    const [mine, present] = [await file.stat(), await stat(path)];
    return mine.ino !== present.ino || mine.dev !== present.dev;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
}

async function openLog(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
