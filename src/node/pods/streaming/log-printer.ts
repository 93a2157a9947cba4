/** Turns the bytes of a CRI log file, block by block, into the bytes that the container wrote. Pure but for its state. */
import { decodeLogLine, fixedWidthTimestamp, isBefore, parseInstant } from './log-line.ts';
import type { LogQuery } from './log-query.ts';

const NEWLINE = Buffer.from('\n');
/** A runtime splits lines at 16 KiB (containerd) or a few times that; a line this long is no CRI log. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;

export class LogPrinter {
  readonly #query: Pick<LogQuery, 'since' | 'stream' | 'timestamps'>;
  /** Bytes that may still be printed. */
  #left: number;
  /** The begin of a file line whose end has not been read yet. */
  #rest: Buffer[] = [];
  #restBytes = 0;
  #atLineStart = true;

  constructor(query: Pick<LogQuery, 'since' | 'stream' | 'timestamps' | 'limitBytes'>) {
    this.#query = query;
    this.#left = query.limitBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Whether limitBytes was reached: nothing more will be printed. */
  get full(): boolean {
    return this.#left <= 0;
  }

  /** Takes the next block of the file and returns what is to be printed for it. Throws on lines without end. */
  print(block: Buffer): Buffer {
    const out: Buffer[] = [];
    let begin = 0;
    for (let end = block.indexOf(0x0a); end >= 0 && !this.full; end = block.indexOf(0x0a, begin)) {
      this.#printLine(this.#completeLine(block.subarray(begin, end)), out);
      begin = end + 1;
    }
    this.#keep(block.subarray(begin));
    return Buffer.concat(out);
  }

  /** At the end of a file that is no longer written: prints a last line that lacks its newline. */
  finish(): Buffer {
    const out: Buffer[] = [];
    if (this.#restBytes > 0 && !this.full) this.#printLine(this.#completeLine(Buffer.alloc(0)), out, 'unfinished');
    return Buffer.concat(out);
  }

  #completeLine(end: Buffer): Buffer {
    if (this.#restBytes === 0) return end;
    const line = Buffer.concat([...this.#rest, end]);
    this.#rest = [];
    this.#restBytes = 0;
    return line;
  }

  #keep(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#restBytes += bytes.length;
    if (this.#restBytes > MAX_LINE_BYTES) throw new Error(`a line of over ${MAX_LINE_BYTES} bytes: not a CRI log file`);
    // A copy: the reader uses its block again.
    this.#rest.push(Buffer.from(bytes));
  }

  /** Lines that are no CRI log lines are left out, as the kubelet does. */
  #printLine(bytes: Buffer, out: Buffer[], kind: 'complete' | 'unfinished' = 'complete'): void {
    const line = decodeLogLine(bytes);
    if (!line) return;
    const { since, stream, timestamps } = this.#query;
    if (stream && line.stream !== stream) return;
    if (since) {
      const instant = parseInstant(line.timestamp);
      if (instant && isBefore(instant, since)) return;
    }
    if (timestamps && this.#atLineStart) this.#put(Buffer.from(`${fixedWidthTimestamp(line.timestamp)} `), out);
    this.#put(line.text, out);
    if (!line.partial && kind === 'complete') this.#put(NEWLINE, out);
    this.#atLineStart = !line.partial;
  }

  #put(bytes: Buffer, out: Buffer[]): void {
    const part = bytes.length <= this.#left ? bytes : bytes.subarray(0, Math.max(0, this.#left));
    this.#left -= part.length;
    if (part.length > 0) out.push(part);
  }
}
