/**
 * The chain that a query passes: metrics, errors, ready, cache, cluster, forward. Each link answers or hands on; the first
 * is the outermost. Queries of the cluster's own names are answered synchronously.
 */
import { type Clock, systemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { isInternetClass } from './decode.ts';
import { encodeAnswer, MAX_MESSAGE_BYTES } from './encode.ts';
import { type Answer, bareAnswer, type Query, Rcode, type ResourceRecord, Type } from './wire.ts';
import type { Zone } from './zone.ts';

/** How a query came, which bounds the answer. */
export type Transport = 'udp' | 'tcp';

/** A whole response, or its promise where others must be asked. The packet's bytes stay as they are. */
export type Handler = (query: Query, transport: Transport, packet: Buffer) => Buffer | Promise<Buffer>;

/** Encodes an answer as large as the client takes it. */
export function encode(query: Query, transport: Transport, answer: Answer): Buffer {
  return encodeAnswer(query, answer, transport === 'tcp' ? MAX_MESSAGE_BYTES : query.udpSize);
}

/** Counters since the start. */
export interface DnsMetrics {
  /** Queries by transport. Messages that are none are `malformed`. */
  udp: number;
  tcp: number;
  /** Answered with FORMERR, NOTIMP or BADVERS, or ignored. */
  malformed: number;
  /** Queries answered from the cache. */
  cacheHits: number;
  /** Queries sent to upstream servers. */
  forwarded: number;
  /** Of answers to queries; index: response code. */
  readonly byRcode: number[];
}

export function createMetrics(): DnsMetrics {
  return { udp: 0, tcp: 0, malformed: 0, cacheHits: 0, forwarded: 0, byRcode: Array<number>(16).fill(0) };
}

/** Counts the response codes. The outermost link, so that failures count too. */
export function metrics(next: Handler, counts: DnsMetrics): Handler {
  const count = (response: Buffer) => {
    counts.byRcode[response[3]! & 0xf]!++;
    return response;
  };
  return (query, transport, packet) => {
    const response = next(query, transport, packet);
    return Buffer.isBuffer(response) ? count(response) : response.then(count);
  };
}

/** Pods can cause failures as often as they like (names of others while no upstream server answers): one line per period. */
const LOG_PERIOD_MS = 10_000;

/** A link's failure becomes SERVFAIL and a line in the log; the server goes on. */
export function errors(next: Handler, log: Logger, clock: Clock = systemClock): Handler {
  let quietUntil = 0;
  let suppressed = 0;
  const failed = (query: Query, transport: Transport, error: unknown) => {
    if (clock.now() >= quietUntil) {
      log.warn({ name: query.name, type: query.type, suppressed, error }, `dns: ${messageOf(error)}`);
      quietUntil = clock.now() + LOG_PERIOD_MS;
      suppressed = 0;
    } else suppressed++;
    return encode(query, transport, bareAnswer(Rcode.serverFailure));
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

/** SERVFAIL until the indexes are complete: NXDOMAIN would be believed and remembered. */
export function ready(next: Handler, hasSynced: () => boolean): Handler {
  return (query, transport, packet) =>
    hasSynced() ? next(query, transport, packet) : encode(query, transport, bareAnswer(Rcode.serverFailure));
}

/** Outside: whoever can be asked for a name that is not the cluster's; where an ExternalName leads to. */
export type Outside = (name: string, type: number) => Answer | Promise<Answer>;

/** Answers the names of the cluster, the records of an answer in random order. */
export function cluster(
  next: Handler,
  { zone, outside, random = Math.random }: { zone: Zone; outside: Outside; random?: () => number },
): Handler {
  return (query, transport, packet) => {
    if (!isInternetClass(query)) return encode(query, transport, bareAnswer(Rcode.refused));
    const found = zone.resolve(query.name, query.type);
    if (!found) return next(query, transport, packet);
    // RFC 5936 section 2.2.1: nobody is given the zone as a whole.
    if (query.type === Type.AXFR || query.type === Type.IXFR) {
      return encode(query, transport, bareAnswer(Rcode.refused));
    }
    const send = (answer: Answer) => encode(query, transport, { ...answer, answers: shuffled(answer.answers, random) });
    if (found.continuesAt === undefined) return send(found);
    const rest = outside(found.continuesAt, query.type);
    const join = (more: Answer) => send({ ...found, rcode: more.rcode, answers: [...found.answers, ...more.answers] });
    return rest instanceof Promise ? rest.then(join) : join(rest);
  };
}

/** Fisher-Yates; CNAMEs stay before what they lead to. */
function shuffled(records: readonly ResourceRecord[], random: () => number): readonly ResourceRecord[] {
  if (records.length < 2) return records;
  const aliases = records.filter((record) => record.type === 'CNAME');
  const rest = records.filter((record) => record.type !== 'CNAME');
  for (let i = rest.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [rest[i], rest[j]] = [rest[j]!, rest[i]!];
  }
  return [...aliases, ...rest];
}

/** The end of the chain in a cluster without a way out: names of others are refused, at once and plainly. */
export const refuseOthers: Handler = (query, transport) => encode(query, transport, bareAnswer(Rcode.refused));

/** Where nobody can be asked, an ExternalName's answer ends with its CNAME. */
export const nothingOutside: Outside = () => bareAnswer(Rcode.noError);
