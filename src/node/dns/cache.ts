/**
 * Encoded answers, found by the bytes of the question before anything is decoded: this is the path that most queries take.
 *
 *     header | name, case folded | type, class | OPT without options, or nothing
 *              \_______________ the key ______________________________________/
 *
 * An answer is never older than the last change: when `generation` has grown, everything is forgotten. An answer of several
 * records is kept in several orders that take turns, so that clients that take the first one are spread. Keys and answers
 * stand in one arena of a fixed size; when it is full, everything is forgotten too. Queries with anything else in them
 * (options, other records) are answered without the cache.
 */
import type { DnsMetrics, Handler, Transport } from './chain.ts';
import { Flag, HEADER_BYTES, OPT_BYTES, Type } from './wire.ts';

export interface AnswerCacheOptions {
  /** Grows with every change of what answers are made of. */
  readonly generation: () => number;
  readonly counts: DnsMetrics;
  /** For keys and answers. */
  readonly arenaBytes?: number;
  /** Of the hash: secret, so that nobody can choose names that collide. */
  readonly seed?: number;
}

const ARENA_BYTES = 8 << 20;
/** Orders in which an answer of several records is kept. */
const TURNS = 8;
/** RFC 1035 section 2.3.4. */
const MAX_LABEL = 63;
const TYPE_AND_CLASS_BYTES = 4;
/** FNV-1a, 32 bits. */
const FNV_PRIME = 0x01000193;

/** Places are offsets into the arena. */
interface Entry {
  readonly transport: Transport;
  /** The key: the folded name, then the rest, whose length is in `keyLength`. */
  readonly keyAt: number;
  readonly keyLength: number;
  /** Each answer's place and length, in turn. */
  readonly answers: number[];
  /** How many there are to be before the entry is used. */
  readonly wanted: number;
  next: number;
}

/** A-Z to a-z, everything else as it is: names are compared so (RFC 4343). */
const FOLD = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte));

export class AnswerCache {
  readonly #options: AnswerCacheOptions;
  readonly #arena: Buffer;
  readonly #entries = new Map<number, Entry>();
  readonly #seed: number;
  #filledAt = -1;
  #used = 0;

  constructor(options: AnswerCacheOptions) {
    this.#options = options;
    this.#arena = Buffer.allocUnsafeSlow(options.arenaBytes ?? ARENA_BYTES);
    this.#seed = (options.seed ?? Math.random() * 2 ** 32) | 0;
  }

  /** How many questions are known. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Writes the kept answer to a message into `out`, with the message's id, flags and spelling of the name, and returns its
   * length; 0 when there is none. Takes any bytes. `out` must have room for the longest answer of the transport.
   */
  find(packet: Buffer, length: number, transport: Transport, out: Buffer): number {
    const nameEnd = endOfName(packet, length);
    if (nameEnd === 0) return 0;
    const entry = this.#entry(packet, nameEnd, length, transport);
    if (!entry || entry.answers.length < 2 * entry.wanted) return 0;
    const turn = 2 * (entry.next++ % entry.wanted);
    const at = entry.answers[turn]!;
    const size = entry.answers[turn + 1]!;
    this.#arena.copy(out, 0, at, at + size);
    personalize(out, packet, nameEnd);
    const { counts } = this.#options;
    counts.cacheHits++;
    counts.byRcode[out[3]! & 0xf]!++;
    return size;
  }

  /** The link of the chain that keeps what the next ones answer at once; finding is done before, by `find`. */
  link(next: Handler): Handler {
    return (query, transport, packet) => {
      const response = next(query, transport, packet);
      if (Buffer.isBuffer(response)) this.#keep(packet, transport, response);
      return response;
    };
  }

  #keep(packet: Buffer, transport: Transport, response: Buffer): void {
    const nameEnd = endOfName(packet, packet.length);
    if (nameEnd === 0) return;
    const keyLength = packet.length - HEADER_BYTES;
    if (this.#used + keyLength + response.length > this.#arena.length) this.#forget();
    if (keyLength + response.length > this.#arena.length) return;
    let entry = this.#entry(packet, nameEnd, packet.length, transport);
    if (!entry) {
      const keyAt = this.#store(packet, HEADER_BYTES, packet.length);
      for (let i = keyAt; i < keyAt + nameEnd - HEADER_BYTES; i++) this.#arena[i] = FOLD[this.#arena[i]!]!;
      // Records beyond the first, of whatever section, may stand in several orders; only answers are worth it.
      const wanted = response.readUInt16BE(6) > 1 ? TURNS : 1;
      entry = { transport, keyAt, keyLength, answers: [], wanted, next: 0 };
      this.#entries.set(this.#hash(packet, nameEnd, packet.length, transport), entry);
    }
    if (entry.answers.length >= 2 * entry.wanted) return;
    const at = this.#store(response, 0, response.length);
    const kept = this.#arena.subarray(at);
    kept.writeUInt16BE(kept.readUInt16BE(2) & ~(Flag.recursionDesired | Flag.checkingDisabled), 2);
    entry.answers.push(at, response.length);
  }

  #store(bytes: Buffer, start: number, end: number): number {
    const at = this.#used;
    bytes.copy(this.#arena, at, start, end);
    this.#used += end - start;
    return at;
  }

  #forget(): void {
    this.#entries.clear();
    this.#used = 0;
  }

  /** The entry of exactly this question, as it is now. */
  #entry(packet: Buffer, nameEnd: number, length: number, transport: Transport): Entry | undefined {
    const generation = this.#options.generation();
    if (generation !== this.#filledAt) {
      this.#forget();
      this.#filledAt = generation;
      return undefined;
    }
    const entry = this.#entries.get(this.#hash(packet, nameEnd, length, transport));
    if (!entry || entry.keyLength !== length - HEADER_BYTES || entry.transport !== transport) return undefined;
    const shift = entry.keyAt - HEADER_BYTES;
    const arena = this.#arena;
    for (let i = HEADER_BYTES; i < nameEnd; i++) if (arena[i + shift] !== FOLD[packet[i]!]) return undefined;
    for (let i = nameEnd; i < length; i++) if (arena[i + shift] !== packet[i]) return undefined;
    return entry;
  }

  #hash(packet: Buffer, nameEnd: number, length: number, transport: Transport): number {
    let hash = transport === 'tcp' ? ~this.#seed : this.#seed;
    for (let i = HEADER_BYTES; i < nameEnd; i++) hash = Math.imul(hash ^ FOLD[packet[i]!]!, FNV_PRIME);
    for (let i = nameEnd; i < length; i++) hash = Math.imul(hash ^ packet[i]!, FNV_PRIME);
    return hash;
  }
}

/**
 * Where the question's name ends in a message that the cache can serve: a query (opcode 0) with one question and nothing
 * else but an OPT record without options; 0 for all others. Length bytes of labels are below 64, so folding leaves them.
 */
function endOfName(packet: Buffer, length: number): number {
  if (length < HEADER_BYTES + 1 + TYPE_AND_CLASS_BYTES || (packet[2]! & 0xf8) !== 0) return 0;
  const questions = (packet[4]! << 8) | packet[5]!;
  const records = packet[6]! | packet[7]! | packet[8]! | packet[9]! | packet[10]!;
  if (questions !== 1 || records !== 0 || packet[11]! > 1) return 0;
  let at = HEADER_BYTES;
  for (let label = packet[at]!; label !== 0; label = packet[at]!) {
    at += label + 1;
    if (label > MAX_LABEL || at >= length) return 0;
  }
  const rest = at + 1 + TYPE_AND_CLASS_BYTES;
  if (packet[11] === 0) return rest === length ? at + 1 : 0;
  return rest + OPT_BYTES === length && isPlainOpt(packet, rest) ? at + 1 : 0;
}

function isPlainOpt(packet: Buffer, at: number): boolean {
  return packet[at] === 0 && packet.readUInt16BE(at + 1) === Type.OPT && packet.readUInt16BE(at + 9) === 0;
}

/** Makes a kept answer one to this message: its id, its RD and CD flags, its spelling of the name. */
function personalize(response: Buffer, packet: Buffer, nameEnd: number): void {
  response[0] = packet[0]!;
  response[1] = packet[1]!;
  response[2] = response[2]! | (packet[2]! & (Flag.recursionDesired >> 8));
  response[3] = response[3]! | (packet[3]! & Flag.checkingDisabled);
  for (let i = HEADER_BYTES; i < nameEnd; i++) response[i] = packet[i]!;
}
