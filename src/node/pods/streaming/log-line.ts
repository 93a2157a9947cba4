/**
 * One line of a CRI log file: `TIMESTAMP stdout|stderr TAGS TEXT\n`. The first tag is F (the text ends a line of the
 * container's output) or P (the line goes on in the next one). Source: the CRI log format of the kubelet's
 * design proposal kubelet-cri-logging.md. Pure; works on bytes, since text may be anything and is never decoded.
 */

const SPACE = 0x20;
const PARTIAL = 0x50; // P

export interface LogLine {
  /** RFC 3339 with nanoseconds, as written by the runtime. */
  readonly timestamp: string;
  readonly stream: 'stdout' | 'stderr';
  /** The output line does not end here. */
  readonly partial: boolean;
  readonly text: Buffer;
}

/** Decodes a line without its newline; undefined when it is none of a CRI log. */
export function decodeLogLine(line: Buffer): LogLine | undefined {
  const afterTime = line.indexOf(SPACE);
  const afterStream = afterTime < 0 ? -1 : line.indexOf(SPACE, afterTime + 1);
  if (afterStream < 0) return undefined;
  const stream = line.toString('latin1', afterTime + 1, afterStream);
  if (stream !== 'stdout' && stream !== 'stderr') return undefined;
  const afterTags = line.indexOf(SPACE, afterStream + 1);
  if (afterTags === afterStream + 1) return undefined;
  return {
    timestamp: line.toString('latin1', 0, afterTime),
    stream,
    partial: line[afterStream + 1] === PARTIAL,
    // An empty text may come without the space before it.
    text: afterTags < 0 ? line.subarray(line.length) : line.subarray(afterTags + 1),
  };
}

/** A moment with nanoseconds, comparable with `isBefore`. */
export interface Instant {
  /** Whole seconds since the epoch. */
  readonly seconds: number;
  readonly nanos: number;
}

/** Parses RFC 3339 with up to nine digits of fraction; undefined for anything else. */
export function parseInstant(text: string): Instant | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/.exec(text);
  const milliseconds = match ? Date.parse(match[1]! + match[3]!) : Number.NaN;
  if (!match || Number.isNaN(milliseconds)) return undefined;
  return { seconds: milliseconds / 1000, nanos: Number((match[2] ?? '').padEnd(9, '0')) };
}

export function isBefore(a: Instant, b: Instant): boolean {
  return a.seconds < b.seconds || (a.seconds === b.seconds && a.nanos < b.nanos);
}

/** The time stamp as kubectl prints it: always nine digits of fraction (the kubelet's RFC3339NanoFixed). */
export function fixedWidthTimestamp(timestamp: string): string {
  const match = /^(.{19})(?:\.(\d+))?(.*)$/.exec(timestamp);
  return match ? `${match[1]}.${(match[2] ?? '').padEnd(9, '0').slice(0, 9)}${match[3]}` : timestamp;
}
