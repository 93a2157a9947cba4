/**
 * Answers and queries to bytes. Answers are compressed (RFC 1035 section 4.1.4): owner names and targets that were written
 * before become pointers, except the targets of SRV records (RFC 2782). What does not fit is left out as RFC 2181 section 9
 * and RFC 6891 say.
 */
import { ipToBytes } from '../../base/ip.ts';
import {
  type Answer,
  Class,
  Flag,
  HEADER_BYTES,
  MAX_UDP_BYTES,
  OPCODE_MASK,
  OPT_BYTES,
  type Query,
  type ResourceRecord,
  Type,
} from './wire.ts';

/** RFC 1035 section 4.1.4: a pointer has 14 bits. */
const MAX_POINTER = 0x3fff;
/** The longest message (RFC 1035 section 4.2.2). */
export const MAX_MESSAGE_BYTES = 65_535;
/** More than the longest record that we write, SOA: three names, fixed fields. */
const RECORD_ROOM = 1024;

/**
 * Encodes an answer to a query. What does not fit into `limit` bytes is left out and the truncated flag set, so that the
 * client comes again over TCP; the additional section is the first to go, without that flag (RFC 2181 section 9).
 */
export function encodeAnswer(query: Query, answer: Answer, limit: number): Buffer {
  const writer = new Writer(limit - (query.edns ? OPT_BYTES : 0));
  writer.question(query);
  const answers = writer.section(answer.answers);
  const authority = answers < answer.answers.length ? 0 : writer.section(answer.authority);
  const truncated = answers < answer.answers.length || (answers === 0 && authority < answer.authority.length);
  const additional = truncated ? 0 : writer.section(answer.additional);
  if (query.edns) writer.opt(answer.rcode >> 4, query.edns.dnssecOk);
  const flags =
    Flag.response |
    (query.flags & (Flag.recursionDesired | Flag.checkingDisabled)) |
    Flag.recursionAvailable |
    (answer.authoritative ? Flag.authoritative : 0) |
    (truncated ? Flag.truncated : 0) |
    (answer.rcode & 0xf);
  return writer.finish(query.id, flags, [1, answers, authority, additional + (query.edns ? 1 : 0)]);
}

/** A response to a message whose question cannot be repeated: nothing but the header. */
export function encodeRefusal(packet: Buffer, rcode: number): Buffer {
  const response = Buffer.alloc(HEADER_BYTES);
  packet.copy(response, 0, 0, 2);
  const echoed = packet.readUInt16BE(2) & (OPCODE_MASK | Flag.recursionDesired | Flag.checkingDisabled);
  response.writeUInt16BE(Flag.response | echoed | rcode, 2);
  return response;
}

/** A question of our own, with EDNS. */
export function encodeQuery({ id, name, type }: { id: number; name: string; type: number }): Buffer {
  const writer = new Writer(MAX_MESSAGE_BYTES);
  writer.name(name);
  writer.uint16(type);
  writer.uint16(Class.IN);
  writer.opt(0, false);
  return writer.finish(id, Flag.recursionDesired, [1, 0, 0, 1]);
}

const TYPE_OF: Readonly<Record<ResourceRecord['type'], number>> = Type;

/** One message at a time is written, here; `finish` copies it out. */
const scratch = Buffer.allocUnsafeSlow(MAX_MESSAGE_BYTES + RECORD_ROOM);

class Writer {
  #at = HEADER_BYTES;
  readonly #limit: number;
  /** Where each name was written, for pointers, in order of their places. */
  readonly #names = new Map<string, number>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Repeats the question as it came. */
  question({ question, name }: Query): void {
    question.copy(scratch, HEADER_BYTES);
    let at = HEADER_BYTES;
    for (let rest = name; rest !== ''; rest = parentOf(rest)) {
      this.#names.set(rest, at);
      at += 1 + scratch[at]!;
    }
    this.#at = HEADER_BYTES + question.length;
  }

  /** Writes the records that fit; returns how many did. */
  section(records: readonly ResourceRecord[]): number {
    for (const [i, record] of records.entries()) {
      const start = this.#at;
      this.#record(record);
      if (this.#at > this.#limit) {
        this.#at = start;
        // What was cut off is nothing to point to.
        for (const [name, at] of this.#names) if (at >= start) this.#names.delete(name);
        return i;
      }
    }
    return records.length;
  }

  /** The OPT record (RFC 6891 section 6.1.2), for which the limit left room. */
  opt(extendedRcode: number, dnssecOk: boolean): void {
    scratch[this.#at++] = 0;
    this.uint16(Type.OPT);
    this.uint16(MAX_UDP_BYTES);
    scratch[this.#at++] = extendedRcode;
    scratch[this.#at++] = 0;
    this.uint16(dnssecOk ? 0x8000 : 0);
    this.uint16(0);
  }

  finish(id: number, flags: number, counts: readonly [number, number, number, number]): Buffer {
    const end = this.#at;
    this.#at = 0;
    for (const value of [id, flags, ...counts]) this.uint16(value);
    const message = Buffer.allocUnsafe(end);
    scratch.copy(message, 0, 0, end);
    return message;
  }

  #record(record: ResourceRecord): void {
    this.name(record.name);
    this.uint16(TYPE_OF[record.type]);
    this.uint16(Class.IN);
    this.#uint32(record.ttl);
    const lengthAt = this.#at;
    this.#at += 2;
    this.#data(record);
    scratch.writeUInt16BE(this.#at - lengthAt - 2, lengthAt);
  }

  #data(record: ResourceRecord): void {
    switch (record.type) {
      case 'A':
      case 'AAAA':
        return this.#raw(ipToBytes(record.address));
      case 'CNAME':
      case 'PTR':
      case 'NS':
        return this.name(record.target);
      case 'SRV':
        for (const value of [record.priority, record.weight, record.port]) this.uint16(value);
        return this.name(record.target, 'whole');
      case 'TXT': {
        const text = Buffer.from(record.text).subarray(0, 255);
        scratch[this.#at++] = text.length;
        return this.#raw(text);
      }
      case 'SOA':
        this.name(record.primary);
        this.name(record.mailbox);
        for (const value of [record.serial, record.refresh, record.retry, record.expire, record.minimum])
          this.#uint32(value);
    }
  }

  name(name: string, form: 'compressed' | 'whole' = 'compressed'): void {
    for (let rest = name; rest !== ''; rest = parentOf(rest)) {
      const known = form === 'compressed' ? this.#names.get(rest) : undefined;
      if (known !== undefined) return this.uint16(0xc000 | known);
      if (form === 'compressed' && this.#at <= MAX_POINTER) this.#names.set(rest, this.#at);
      this.#label(firstLabelOf(rest));
    }
    scratch[this.#at++] = 0;
  }

  #label(text: string): void {
    const bytes = text.includes('\\') ? unescaped(text) : text;
    if (bytes.length === 0 || bytes.length > 63) throw new RangeError(`not a label: ${JSON.stringify(text)}`);
    scratch[this.#at] = bytes.length;
    scratch.write(bytes, this.#at + 1, 'latin1');
    this.#at += 1 + bytes.length;
  }

  #raw(bytes: Uint8Array): void {
    scratch.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  uint16(value: number): void {
    this.#at = scratch.writeUInt16BE(value, this.#at);
  }

  #uint32(value: number): void {
    this.#at = scratch.writeUInt32BE(value >>> 0, this.#at);
  }
}

function firstLabelOf(name: string): string {
  const dot = name.indexOf('.');
  return dot < 0 ? name : name.slice(0, dot);
}

function parentOf(name: string): string {
  const dot = name.indexOf('.');
  return dot < 0 ? '' : name.slice(dot + 1);
}

/** A label as its bytes were: \DDD becomes its byte again. */
function unescaped(text: string): string {
  return text.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(Number(digits)));
}
