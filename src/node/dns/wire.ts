/**
 * The DNS wire format (RFC 1035 section 4), as much of it as an authoritative server for cluster.local reads and writes:
 * one question, EDNS(0) (RFC 6891), and the record types A, AAAA, CNAME, SRV, PTR, NS, SOA, TXT. Answers are compressed
 * (RFC 1035 section 4.1.4): owner names and targets that were written before become pointers, except SRV targets (RFC 2782).
 *
 * Decoding never throws on garbage: it returns undefined, or the little that is needed to answer FORMERR.
 */
import { ipToBytes } from '../../base/ip.ts';

export const Type = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, SRV: 33, OPT: 41, ANY: 255 } as const;
export const Rcode = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  nxDomain: 3,
  notImplemented: 4,
  refused: 5,
} as const;
export const CLASS_IN = 1;
const CLASS_ANY = 255;

const HEADER_LENGTH = 12;
/** RFC 1035 section 4.2.1: without EDNS. */
const CLASSIC_UDP_SIZE = 512;
/** What we send at most in one datagram, whatever the client offers: no fragments on any common path (DNS flag day 2020). */
export const MAX_UDP_SIZE = 1232;
const FLAG_RESPONSE = 0x8000;
const FLAG_AUTHORITATIVE = 0x0400;
const FLAG_TRUNCATED = 0x0200;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;
const OPCODE_MASK = 0x7800;

/** A request, its single question in lower case and without the final dot. */
export interface Query {
  readonly id: number;
  readonly flags: number;
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** The question's bytes as they came: sent back unchanged, because clients vary the case (0x20) and compare. */
  readonly question: Buffer;
  /** The datagram size that the client takes: 512 without EDNS. */
  readonly udpSize: number;
  readonly edns: boolean;
}

export type ResourceRecord = { readonly name: string; readonly ttl: number } & (
  | { readonly type: 'A' | 'AAAA'; readonly address: string }
  | { readonly type: 'CNAME' | 'PTR' | 'NS'; readonly target: string }
  | {
      readonly type: 'SRV';
      readonly priority: number;
      readonly weight: number;
      readonly port: number;
      readonly target: string;
    }
  | { readonly type: 'TXT'; readonly text: string }
  | {
      readonly type: 'SOA';
      readonly primary: string;
      readonly mailbox: string;
      readonly serial: number;
      readonly refresh: number;
      readonly retry: number;
      readonly expire: number;
      readonly minimum: number;
    }
);

export interface Answer {
  readonly rcode: number;
  readonly authoritative: boolean;
  readonly answers: readonly ResourceRecord[];
  readonly authority: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
}

/** What became of a datagram: a query, a refusal to be sent, or nothing to say (no header, or itself a response). */
export type Decoded =
  | { readonly kind: 'query'; readonly query: Query }
  | { readonly kind: 'refuse'; readonly response: Buffer }
  | { readonly kind: 'ignore' };

export function decodeQuery(packet: Buffer): Decoded {
  if (packet.length < HEADER_LENGTH) return { kind: 'ignore' };
  const flags = packet.readUInt16BE(2);
  if (flags & FLAG_RESPONSE) return { kind: 'ignore' };
  if (flags & OPCODE_MASK) return refuse(packet, Rcode.notImplemented);
  if (packet.readUInt16BE(4) !== 1) return refuse(packet, Rcode.formatError);
  const name = decodeName(packet, HEADER_LENGTH);
  if (!name || name.end + 4 > packet.length) return refuse(packet, Rcode.formatError);
  const edns = decodeEdns(packet, name.end + 4);
  if (edns === 'broken') return refuse(packet, Rcode.formatError);
  const query: Query = {
    id: packet.readUInt16BE(0),
    flags,
    name: name.text,
    type: packet.readUInt16BE(name.end),
    class: packet.readUInt16BE(name.end + 2),
    question: packet.subarray(HEADER_LENGTH, name.end + 4),
    udpSize: edns === undefined ? CLASSIC_UDP_SIZE : Math.min(MAX_UDP_SIZE, Math.max(CLASSIC_UDP_SIZE, edns)),
    edns: edns !== undefined,
  };
  return { kind: 'query', query };
}

function refuse(packet: Buffer, rcode: number): Decoded {
  const response = Buffer.alloc(HEADER_LENGTH);
  packet.copy(response, 0, 0, 2);
  const echoed = packet.readUInt16BE(2) & (OPCODE_MASK | FLAG_RECURSION_DESIRED);
  response.writeUInt16BE(FLAG_RESPONSE | echoed | rcode, 2);
  return { kind: 'refuse', response };
}

/** Reads an uncompressed name: a question has nothing before it that a pointer could mean. */
function decodeName(packet: Buffer, start: number): { text: string; end: number } | undefined {
  let at = start;
  let text = '';
  for (;;) {
    const length = packet[at];
    if (length === undefined || length > 63) return undefined;
    at++;
    if (length === 0) return { text, end: at };
    if (at + length > packet.length || at + length - start > 254) return undefined;
    text = text === '' ? label(packet, at, length) : `${text}.${label(packet, at, length)}`;
    at += length;
  }
}

/** A label in lower case; bytes that are no plain ASCII, and dots, become \DDD as in RFC 1035 section 5.1. */
function label(packet: Buffer, at: number, length: number): string {
  let text = '';
  for (let i = at; i < at + length; i++) {
    const byte = packet[i]!;
    if (byte >= 0x41 && byte <= 0x5a) text += String.fromCharCode(byte + 0x20);
    else if (byte > 0x20 && byte < 0x7f && byte !== 0x2e && byte !== 0x5c) text += String.fromCharCode(byte);
    else text += `\\${String(byte).padStart(3, '0')}`;
  }
  return text;
}

/** The UDP size of the OPT record, undefined without one. Other additional records (TSIG, SIG(0)) are passed over. */
function decodeEdns(packet: Buffer, start: number): number | undefined | 'broken' {
  const records = packet.readUInt16BE(6) + packet.readUInt16BE(8) + packet.readUInt16BE(10);
  let at = start;
  let size: number | undefined;
  for (let i = 0; i < records; i++) {
    const end = skipName(packet, at);
    if (end === undefined || end + 10 > packet.length) return 'broken';
    const type = packet.readUInt16BE(end);
    const next = end + 10 + packet.readUInt16BE(end + 8);
    if (next > packet.length) return 'broken';
    if (type === Type.OPT) {
      if (size !== undefined || end !== at + 1) return 'broken';
      size = packet.readUInt16BE(end + 2);
    }
    at = next;
  }
  return size;
}

function skipName(packet: Buffer, start: number): number | undefined {
  let at = start;
  for (;;) {
    const length = packet[at];
    if (length === undefined) return undefined;
    if (length >= 0xc0) return at + 2;
    if (length > 63) return undefined;
    at += length + 1;
    if (length === 0) return at;
  }
}

/** Whether the question's class is the Internet's. */
export function isInternetClass(query: Query): boolean {
  return query.class === CLASS_IN || query.class === CLASS_ANY;
}

/**
 * Encodes an answer to a query. What does not fit into `limit` bytes is left out and the truncated flag set, so that the
 * client comes again over TCP; the additional section is the first to go, without that flag.
 */
export function encodeAnswer(query: Query, answer: Answer, limit: number): Buffer {
  const writer = new Writer(query, limit - (query.edns ? 11 : 0));
  const counts = [writer.section(answer.answers), 0, 0];
  let truncated = counts[0]! < answer.answers.length;
  if (!truncated) counts[1] = writer.section(answer.authority);
  truncated ||= counts[1]! < answer.authority.length && answer.answers.length === 0;
  if (!truncated) counts[2] = writer.section(answer.additional);
  if (query.edns) writer.edns();
  const flags =
    FLAG_RESPONSE |
    (query.flags & FLAG_RECURSION_DESIRED) |
    FLAG_RECURSION_AVAILABLE |
    (answer.authoritative ? FLAG_AUTHORITATIVE : 0) |
    (truncated ? FLAG_TRUNCATED : 0) |
    answer.rcode;
  return writer.finish(flags, counts[0]!, counts[1]!, counts[2]! + (query.edns ? 1 : 0));
}

const TYPE_OF: Readonly<Record<ResourceRecord['type'], number>> = Type;

class Writer {
  #bytes: Buffer;
  #at: number;
  readonly #limit: number;
  /** Where each name suffix was written, for pointers. */
  readonly #names = new Map<string, number>();

  constructor(query: Query, limit: number) {
    this.#limit = limit;
    this.#bytes = Buffer.alloc(Math.max(CLASSIC_UDP_SIZE, HEADER_LENGTH + query.question.length));
    this.#bytes.writeUInt16BE(query.id, 0);
    query.question.copy(this.#bytes, HEADER_LENGTH);
    this.#at = HEADER_LENGTH + query.question.length;
    this.#remember(query.name, HEADER_LENGTH);
  }

  /** Writes the records that fit; returns how many did. */
  section(records: readonly ResourceRecord[]): number {
    for (const [i, record] of records.entries()) {
      const start = this.#at;
      this.#record(record);
      if (this.#at > this.#limit) {
        this.#at = start;
        return i;
      }
    }
    return records.length;
  }

  edns(): void {
    this.#reserve(11);
    this.#bytes[this.#at++] = 0;
    this.#uint16(Type.OPT);
    this.#uint16(MAX_UDP_SIZE);
    this.#uint32(0);
    this.#uint16(0);
  }

  finish(flags: number, answers: number, authority: number, additional: number): Buffer {
    this.#bytes.writeUInt16BE(flags, 2);
    this.#bytes.writeUInt16BE(1, 4);
    this.#bytes.writeUInt16BE(answers, 6);
    this.#bytes.writeUInt16BE(authority, 8);
    this.#bytes.writeUInt16BE(additional, 10);
    return this.#bytes.subarray(0, this.#at);
  }

  #record(record: ResourceRecord): void {
    this.#name(record.name);
    this.#reserve(10);
    this.#uint16(TYPE_OF[record.type]);
    this.#uint16(CLASS_IN);
    this.#uint32(record.ttl);
    const lengthAt = this.#at;
    this.#uint16(0);
    this.#data(record);
    this.#bytes.writeUInt16BE(this.#at - lengthAt - 2, lengthAt);
  }

  #data(record: ResourceRecord): void {
    switch (record.type) {
      case 'A':
      case 'AAAA':
        return this.#raw(ipToBytes(record.address));
      case 'CNAME':
      case 'PTR':
      case 'NS':
        return this.#name(record.target);
      case 'SRV':
        this.#reserve(6);
        this.#uint16(record.priority);
        this.#uint16(record.weight);
        this.#uint16(record.port);
        return this.#name(record.target, 'whole');
      case 'TXT': {
        const text = Buffer.from(record.text).subarray(0, 255);
        return this.#raw(Buffer.concat([Buffer.of(text.length), text]));
      }
      case 'SOA':
        this.#name(record.primary);
        this.#name(record.mailbox);
        this.#reserve(20);
        for (const value of [record.serial, record.refresh, record.retry, record.expire, record.minimum])
          this.#uint32(value);
    }
  }

  #name(name: string, form: 'compressed' | 'whole' = 'compressed'): void {
    let rest = name;
    while (rest !== '') {
      const known = form === 'compressed' ? this.#names.get(rest) : undefined;
      if (known !== undefined && known < this.#at) {
        this.#reserve(2);
        return this.#uint16(0xc000 | known);
      }
      if (form === 'compressed' && this.#at < 0x4000) this.#names.set(rest, this.#at);
      const dot = rest.indexOf('.');
      const head = labelBytes(dot < 0 ? rest : rest.slice(0, dot));
      this.#raw(Buffer.concat([Buffer.of(head.length), head]));
      rest = dot < 0 ? '' : rest.slice(dot + 1);
    }
    this.#raw(Buffer.of(0));
  }

  #remember(name: string, start: number): void {
    let at = start;
    for (let rest = name; rest !== ''; ) {
      this.#names.set(rest, at);
      const dot = rest.indexOf('.');
      at += 1 + labelBytes(dot < 0 ? rest : rest.slice(0, dot)).length;
      rest = dot < 0 ? '' : rest.slice(dot + 1);
    }
  }

  #raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #uint16(value: number): void {
    this.#at = this.#bytes.writeUInt16BE(value, this.#at);
  }

  #uint32(value: number): void {
    this.#at = this.#bytes.writeUInt32BE(value >>> 0, this.#at);
  }

  #reserve(length: number): void {
    if (this.#at + length <= this.#bytes.length) return;
    this.#bytes = Buffer.concat([this.#bytes], Math.max(this.#bytes.length * 2, this.#at + length));
  }
}

/** The bytes of a label in text form: \DDD becomes its byte again. */
function labelBytes(text: string): Buffer {
  return Buffer.from(
    text.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(Number(digits))),
    'latin1',
  );
}
