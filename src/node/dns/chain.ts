/**
 * The chain that a query passes: errors, metrics, cache, cluster, forward. Each link answers or hands on; the first is the
 * outermost. Queries of the cluster's own names are answered synchronously.
 */
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Answer, Query } from './wire.ts';
import { encodeAnswer, isInternetClass, Rcode } from './wire.ts';
import type { Zone } from './zone.ts';

/** How a query came, which bounds the answer. */
export type Transport = 'udp' | 'tcp';

/** A whole response, or its promise where others must be asked. */
export type Handler = (query: Query, transport: Transport, packet: Buffer) => Buffer | Promise<Buffer>;

const TCP_LIMIT = 65_535;

const plain = (rcode: number): Answer => ({ rcode, authoritative: false, answers: [], authority: [], additional: [] });

/** How large an answer may be. */
export function sizeLimit(query: Query, transport: Transport): number {
  return transport === 'tcp' ? TCP_LIMIT : query.udpSize;
}

export function encode(query: Query, transport: Transport, answer: Answer): Buffer {
  return encodeAnswer(query, answer, sizeLimit(query, transport));
}

/** A link's failure becomes SERVFAIL and a line in the log; the server goes on. */
export function errors(next: Handler, log: Logger): Handler {
  const failed = (query: Query, transport: Transport, error: unknown) => {
    log.warn({ name: query.name, type: query.type, error }, `dns: ${messageOf(error)}`);
    return encode(query, transport, plain(Rcode.serverFailure));
  };
  return (query, transport, packet) => {
    try {
      const response = next(query, transport, packet);
      return Buffer.isBuffer(response) ? response : response.catch((error: unknown) => failed(query, transport, error));
    } catch (error) {
      return failed(query, transport, error);
    }
  };
}

/** Counters by response code and transport. */
export interface DnsMetrics {
  queries: number;
  tcp: number;
  cacheHits: number;
  forwarded: number;
  /** Index: response code. */
  readonly byRcode: number[];
}

export function createMetrics(): DnsMetrics {
  return { queries: 0, tcp: 0, cacheHits: 0, forwarded: 0, byRcode: Array<number>(16).fill(0) };
}

export function metrics(next: Handler, counts: DnsMetrics): Handler {
  const count = (response: Buffer) => {
    counts.byRcode[response[3]! & 0xf]!++;
    return response;
  };
  return (query, transport, packet) => {
    counts.queries++;
    if (transport === 'tcp') counts.tcp++;
    const response = next(query, transport, packet);
    return Buffer.isBuffer(response) ? count(response) : response.then(count);
  };
}

/** SERVFAIL until the indexes are complete: NXDOMAIN would be believed and remembered. */
export function ready(next: Handler, hasSynced: () => boolean): Handler {
  return (query, transport, packet) =>
    hasSynced() ? next(query, transport, packet) : encode(query, transport, plain(Rcode.serverFailure));
}

/**
 * Keeps encoded answers of the cluster's names. `generation` is a number that grows with every change of an index: an
 * answer is never older than the last change. An answer with several addresses is kept in several orders, which take turns,
 * so that clients that take the first one are spread.
 */
export function cache(next: Handler, generation: () => number, counts: DnsMetrics, maxEntries = 20_000): Handler {
  let filledAt = -1;
  const entries = new Map<string, { turns: Buffer[]; next: number }>();
  return (query, transport, packet) => {
    const now = generation();
    if (now !== filledAt) {
      entries.clear();
      filledAt = now;
    }
    const key = `${query.name} ${query.type} ${transport === 'tcp' ? 0 : query.udpSize}${query.edns ? 'e' : ''}`;
    const entry = entries.get(key);
    if (entry && entry.turns.length >= TURNS) {
      counts.cacheHits++;
      return personal(entry.turns[entry.next++ % TURNS]!, query);
    }
    const response = next(query, transport, packet);
    if (!Buffer.isBuffer(response)) return response;
    if (entries.size >= maxEntries) entries.clear();
    const several = response.readUInt16BE(6) > 1;
    if (!several) entries.set(key, { turns: Array<Buffer>(TURNS).fill(response), next: 0 });
    else if (entry) entry.turns.push(response);
    else entries.set(key, { turns: [response], next: 0 });
    return response;
  };
}

/** Orders of one answer that are kept. */
const TURNS = 8;

/** A kept answer for another query: its id, its recursion flag, its spelling of the name. */
function personal(kept: Buffer, query: Query): Buffer {
  const response = Buffer.from(kept);
  response.writeUInt16BE(query.id, 0);
  response[2] = (response[2]! & 0xfe) | ((query.flags >> 8) & 1);
  query.question.copy(response, 12);
  return response;
}

/** Answers the names of the cluster, addresses in random order. */
export function cluster(next: Handler, zone: Zone, random: () => number = Math.random): Handler {
  return (query, transport, packet) => {
    if (!isInternetClass(query)) return encode(query, transport, plain(Rcode.refused));
    const answer = zone.resolve(query.name, query.type);
    if (!answer) return next(query, transport, packet);
    return encode(query, transport, { ...answer, answers: shuffled(answer.answers, random) });
  };
}

/** Fisher-Yates; a CNAME stays before what it leads to. */
function shuffled<T extends { readonly type: string }>(records: readonly T[], random: () => number): readonly T[] {
  if (records.length < 2 || records.some((record) => record.type === 'CNAME')) return records;
  const result = [...records];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}

/** The end of the chain in a cluster without a way out: names of others are refused, at once and plainly. */
export const refuseOthers: Handler = (query, transport) => encode(query, transport, plain(Rcode.refused));
