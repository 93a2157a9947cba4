/**
 * Bytes to queries, and the few records of an upstream server's response that are passed on. Nothing here throws on
 * garbage, and every loop ends: names in questions have no pointers, and pointers elsewhere only lead backwards.
 */
import { ipFromBytes } from '../../base/ip.ts';
import { encodeAnswer, encodeRefusal } from './encode.ts';
import {
  bareAnswer,
  CLASSIC_UDP_BYTES,
  Class,
  type Edns,
  Flag,
  HEADER_BYTES,
  MAX_UDP_BYTES,
  OPCODE_MASK,
  type Query,
  Rcode,
  type ResourceRecord,
  Type,
} from './wire.ts';

/** What became of a message: a query, a refusal to be sent, or nothing to say (no header, or itself a response). */
export type Decoded =
  | { readonly kind: 'query'; readonly query: Query }
  | { readonly kind: 'refuse'; readonly response: Buffer }
  | { readonly kind: 'ignore' };

/** Decodes a request. The query refers to the packet's bytes: they must not change while it is in use. */
export function decodeQuery(packet: Buffer): Decoded {
  if (packet.length < HEADER_BYTES) return { kind: 'ignore' };
  const flags = packet.readUInt16BE(2);
  // Answering a response would let two servers talk for ever.
  if (flags & Flag.response) return { kind: 'ignore' };
  if (flags & OPCODE_MASK) return refuse(packet, Rcode.notImplemented);
  // RFC 9619: a query has one question.
  if (packet.readUInt16BE(4) !== 1) return refuse(packet, Rcode.formatError);
  const name = questionName(packet, HEADER_BYTES);
  if (!name || name.end + 4 > packet.length) return refuse(packet, Rcode.formatError);
  const edns = decodeEdns(packet, name.end + 4);
  if (edns === 'broken') return refuse(packet, Rcode.formatError);
  const query: Query = {
    id: packet.readUInt16BE(0),
    flags,
    name: name.text,
    type: packet.readUInt16BE(name.end),
    class: packet.readUInt16BE(name.end + 2),
    question: packet.subarray(HEADER_BYTES, name.end + 4),
    udpSize: edns ? Math.min(MAX_UDP_BYTES, Math.max(CLASSIC_UDP_BYTES, edns.size)) : CLASSIC_UDP_BYTES,
    edns,
  };
  // RFC 6891 section 6.1.3: of later versions we know only how to say so.
  if (edns && edns.version > 0) {
    return { kind: 'refuse', response: encodeAnswer(query, bareAnswer(Rcode.badVersion), query.udpSize) };
  }
  return { kind: 'query', query };
}

function refuse(packet: Buffer, rcode: number): Decoded {
  return { kind: 'refuse', response: encodeRefusal(packet, rcode) };
}

/** Whether the question's class is the Internet's. */
export function isInternetClass(query: Query): boolean {
  return query.class === Class.IN || query.class === Class.ANY;
}

interface DecodedName {
  readonly text: string;
  /** Where the next field begins. */
  readonly end: number;
}

/** Reads an uncompressed name: a question has nothing before it that a pointer could mean. */
function questionName(packet: Buffer, start: number): DecodedName | undefined {
  const labels: string[] = [];
  for (let at = start; ; ) {
    const length = packet[at];
    if (length === undefined || length > 63) return undefined;
    at++;
    if (length === 0) return { text: labels.join('.'), end: at };
    // RFC 1035 section 2.3.4: 255 bytes with the root's.
    if (at + length > packet.length || at + length - start > 254) return undefined;
    labels.push(decodeLabel(packet, at, at + length));
    at += length;
  }
}

/** A label in lower case; bytes that are no plain ASCII, and dots, become \DDD as in RFC 1035 section 5.1. */
function decodeLabel(packet: Buffer, start: number, end: number): string {
  for (let i = start; i < end; i++) {
    const byte = packet[i]!;
    if (byte <= 0x20 || byte >= 0x7f || byte === 0x2e || byte === 0x5c) return escapedLabel(packet, start, end);
  }
  return packet.toString('latin1', start, end).toLowerCase();
}

function escapedLabel(packet: Buffer, start: number, end: number): string {
  let text = '';
  for (const byte of packet.subarray(start, end)) {
    if (byte <= 0x20 || byte >= 0x7f || byte === 0x2e || byte === 0x5c) text += `\\${String(byte).padStart(3, '0')}`;
    else text += String.fromCharCode(byte).toLowerCase();
  }
  return text;
}

/** The OPT record, undefined without one. Other additional records (TSIG, SIG(0)) are passed over. */
function decodeEdns(packet: Buffer, start: number): (Edns & { readonly size: number }) | undefined | 'broken' {
  const records = packet.readUInt16BE(6) + packet.readUInt16BE(8) + packet.readUInt16BE(10);
  let found: (Edns & { readonly size: number }) | undefined;
  for (let at = start, i = 0; i < records; i++) {
    const end = skipName(packet, at);
    if (end === undefined || end + 10 > packet.length) return 'broken';
    const next = end + 10 + packet.readUInt16BE(end + 8);
    if (next > packet.length) return 'broken';
    if (packet.readUInt16BE(end) === Type.OPT) {
      // RFC 6891 section 6.1.1: one, at the root.
      if (found !== undefined || end !== at + 1) return 'broken';
      const size = packet.readUInt16BE(end + 2);
      found = { size, version: packet[end + 5]!, dnssecOk: (packet[end + 6]! & 0x80) !== 0 };
    }
    at = next;
  }
  return found;
}

function skipName(packet: Buffer, start: number): number | undefined {
  for (let at = start; ; ) {
    const length = packet[at];
    if (length === undefined) return undefined;
    if (length >= 0xc0) return at + 2;
    if (length > 63) return undefined;
    at += length + 1;
    if (length === 0) return at;
  }
}

/** What of a response to one of our own questions is of interest. */
export interface DecodedResponse {
  readonly rcode: number;
  readonly truncated: boolean;
  /** A, AAAA and CNAME of the answer section, in order. */
  readonly answers: readonly ResourceRecord[];
}

/** Decodes an upstream server's response; undefined where it is broken. */
export function decodeResponse(packet: Buffer): DecodedResponse | undefined {
  if (packet.length < HEADER_BYTES) return undefined;
  let at: number | undefined = HEADER_BYTES;
  for (let i = packet.readUInt16BE(4); i > 0; i--) {
    at = skipName(packet, at);
    if (at === undefined) return undefined;
    at += 4;
  }
  const answers: ResourceRecord[] = [];
  for (let i = packet.readUInt16BE(6); i > 0; i--) {
    const name = compressedName(packet, at);
    if (!name || name.end + 10 > packet.length) return undefined;
    const data = name.end + 10;
    const end = data + packet.readUInt16BE(name.end + 8);
    if (end > packet.length) return undefined;
    const record = decodeRecord(packet, name, data, end);
    if (record === 'broken') return undefined;
    if (record) answers.push(record);
    at = end;
  }
  const flags = packet.readUInt16BE(2);
  return { rcode: flags & 0xf, truncated: (flags & Flag.truncated) !== 0, answers };
}

function decodeRecord(
  packet: Buffer,
  { text: name, end: fields }: DecodedName,
  start: number,
  end: number,
): ResourceRecord | undefined | 'broken' {
  const ttl = packet.readUInt32BE(fields + 4);
  switch (packet.readUInt16BE(fields)) {
    case Type.A:
      if (end - start !== 4) return 'broken';
      return { name, ttl, type: 'A', address: ipFromBytes(packet.subarray(start, end)) };
    case Type.AAAA:
      if (end - start !== 16) return 'broken';
      return { name, ttl, type: 'AAAA', address: ipFromBytes(packet.subarray(start, end)) };
    case Type.CNAME: {
      const target = compressedName(packet, start);
      return target?.end === end ? { name, ttl, type: 'CNAME', target: target.text } : 'broken';
    }
    default:
      return undefined;
  }
}

/** Reads a name that may end in a pointer (RFC 1035 section 4.1.4). */
function compressedName(packet: Buffer, start: number): DecodedName | undefined {
  const labels: string[] = [];
  let end: number | undefined;
  let bytes = 1;
  // Each jump leads before the last one's target: there are no circles.
  for (let at = start, limit = start; ; ) {
    const length = packet[at];
    if (length === undefined) return undefined;
    if (length === 0) return { text: labels.join('.'), end: end ?? at + 1 };
    if (length >= 0xc0) {
      if (at + 2 > packet.length) return undefined;
      const target = packet.readUInt16BE(at) & 0x3fff;
      if (target >= limit) return undefined;
      end ??= at + 2;
      limit = target;
      at = target;
      continue;
    }
    bytes += length + 1;
    if (length > 63 || bytes > 255 || at + 1 + length > packet.length) return undefined;
    labels.push(decodeLabel(packet, at + 1, at + 1 + length));
    at += length + 1;
  }
}
