/** The query of /containerLogs: the kubelet's options, as an API server sends them. Pure. */
import { statusError } from '../../../kube/status.ts';
import { type Instant, parseInstant } from './log-line.ts';

export interface LogQuery {
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  /** Only lines written at this moment or later. */
  readonly since?: Instant;
  readonly tailLines?: number;
  readonly limitBytes?: number;
  /** Only lines of this stream. */
  readonly stream?: 'stdout' | 'stderr';
}

/** Parses the query; `nowMs` (milliseconds since the epoch) is what sinceSeconds counts from. Throws BadRequest. */
export function parseLogQuery(query: URLSearchParams, nowMs: number): LogQuery {
  const tail = query.get('tailLines');
  return {
    follow: flag(query, 'follow'),
    previous: flag(query, 'previous'),
    timestamps: flag(query, 'timestamps'),
    since: sinceOf(query, nowMs),
    tailLines: tail === 'all' ? undefined : integer(query, 'tailLines', 0),
    limitBytes: integer(query, 'limitBytes', 1),
    stream: streamOf(query),
  };
}

function flag(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  return value !== null && value !== '0' && value.toLowerCase() !== 'false';
}

function integer(query: URLSearchParams, name: string, least: number): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least) throw unusable(name, text);
  return value;
}

function sinceOf(query: URLSearchParams, nowMs: number): Instant | undefined {
  const seconds = integer(query, 'sinceSeconds', 1);
  const time = query.get('sinceTime') || undefined;
  if (seconds !== undefined && time) throw unusable('sinceTime', time);
  if (seconds !== undefined) {
    const ms = nowMs - seconds * 1000;
    return { seconds: Math.floor(ms / 1000), nanos: (ms - Math.floor(ms / 1000) * 1000) * 1e6 };
  }
  if (!time) return undefined;
  return parseInstant(time) ?? reject('sinceTime', time);
}

function streamOf(query: URLSearchParams): 'stdout' | 'stderr' | undefined {
  const stream = query.get('stream');
  if (!stream || stream === 'All') return undefined;
  if (stream === 'Stdout') return 'stdout';
  return stream === 'Stderr' ? 'stderr' : reject('stream', stream);
}

function reject(name: string, text: string): never {
  throw unusable(name, text);
}

const unusable = (name: string, text: string) =>
  statusError('BadRequest', `unable to use the log option ${name}=${JSON.stringify(text)}`);
