/** Where the last lines of a CRI log file begin, found by reading backwards from its end. */
import type { FileHandle } from 'node:fs/promises';
import { decodeLogLine } from './log-line.ts';

const NEWLINE = 0x0a;
const BLOCK_BYTES = 64 * 1024;
/** A line's time stamp, stream and tags are shorter than this. */
const PREFIX_BYTES = 128;

type Readable = Pick<FileHandle, 'read'>;

/**
 * The offset at which the last `count` lines of output begin. A line of output that the runtime has split into several
 * file lines counts once. Bytes after the last newline (being written at this moment) belong to no line.
 */
export async function findTailOffset(
  file: Readable,
  size: number,
  count: number,
  blockBytes = BLOCK_BYTES,
): Promise<number> {
  if (count <= 0) return size;
  let left = count;
  let start: number | undefined;
  for await (const line of linesBackwards(file, size, blockBytes)) {
    // Seen backwards, an F line begins an output line and a P line continues it, but for one not yet ended.
    if (!line.partial || start === undefined) {
      if (left === 0) break;
      left--;
    }
    start = line.start;
  }
  return start ?? 0;
}

/** The complete lines of the file, from the last to the first. */
async function* linesBackwards(
  file: Readable,
  size: number,
  blockBytes: number,
): AsyncGenerator<{ start: number; partial: boolean }> {
  let following: Buffer = Buffer.alloc(0);
  let sawNewline = false;
  for (let end = size; end > 0; ) {
    const begin = Math.max(0, end - blockBytes);
    const block = await readExactly(file, begin, end - begin);
    // What follows a block is needed where the block ends within a line's prefix.
    const bytes = Buffer.concat([block, following]);
    for (let at = block.lastIndexOf(NEWLINE); at >= 0; at = at > 0 ? block.lastIndexOf(NEWLINE, at - 1) : -1) {
      if (sawNewline) yield { start: begin + at + 1, partial: isPartial(bytes, at + 1) };
      sawNewline = true;
    }
    following = bytes.subarray(0, PREFIX_BYTES);
    end = begin;
  }
  if (sawNewline) yield { start: 0, partial: isPartial(following, 0) };
}

function isPartial(bytes: Buffer, lineStart: number): boolean {
  const prefix = bytes.subarray(lineStart, lineStart + PREFIX_BYTES);
  const newline = prefix.indexOf(NEWLINE);
  return decodeLogLine(newline < 0 ? prefix : prefix.subarray(0, newline))?.partial === true;
}

/** Reads as much of the range as the file holds. */
async function readExactly(file: Readable, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}
