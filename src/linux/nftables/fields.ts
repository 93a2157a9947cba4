/**
 * The fields of set keys and map values, between nft's text ("10.96.0.1 . tcp . 80") and the kernel's bytes. Pure.
 *
 * In a concatenation every field is padded to 4 bytes. Addresses, protocols and ports are in network order, a mark and a
 * class (a packet's `meta priority`) in the machine's (little-endian, as everywhere in netlink/). The text is read character by character because a large load has
 * hundreds of thousands of fields: 0.1 us each.
 */
import { cidrSize, formatIp, ipFromBytes, ipToBigInt, ipToBytes, parseCidr } from '../../base/ip.ts';

/** Data types by nft's names, as `nft describe` has them. */
export type Field = 'ipv4_addr' | 'ipv6_addr' | 'inet_proto' | 'inet_service' | 'mark' | 'classid';

/** Bytes of a field with its padding. */
export const FIELD_SIZE: Readonly<Record<Field, number>> = {
  ipv4_addr: 4,
  ipv6_addr: 16,
  inet_proto: 4,
  inet_service: 4,
  mark: 4,
  classid: 4,
};

/** Fields in the machine's order. */
const HOST_ORDER: ReadonlySet<Field> = new Set(['mark', 'classid']);

const TCP = 6;
const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ['icmp', 1],
  ['tcp', TCP],
  ['udp', 17],
  ['icmpv6', 58],
  ['sctp', 132],
]);
const PROTOCOL_NAMES: ReadonlyMap<number, string> = new Map([...PROTOCOLS].map(([name, number]) => [number, name]));

export function sizeOf(fields: readonly Field[]): number {
  return fields.reduce((sum, field) => sum + FIELD_SIZE[field], 0);
}

const SPACE = 0x20;
const DASH = 0x2d;
const DOT = 0x2e;
const SLASH = 0x2f;
const ZERO = 0x30;
const COLON = 0x3a;
const X = 0x78;

/** Reads an element's text from left to right into bytes. */
export class TextScanner {
  text = '';
  at = 0;

  begin(text: string): this {
    this.text = text;
    this.at = 0;
    return this;
  }

  get isAtEnd(): boolean {
    return this.at === this.text.length;
  }

  /** Goes on behind the given words, or throws. */
  expect(words: string): void {
    if (!this.text.startsWith(words, this.at)) this.fail(JSON.stringify(words));
    this.at += words.length;
  }

  /** The same as `expect(' . ')`, without a search. */
  #separator(): void {
    const { text, at } = this;
    const isThere =
      text.charCodeAt(at) === SPACE && text.charCodeAt(at + 1) === DOT && text.charCodeAt(at + 2) === SPACE;
    if (!isThere) this.fail('" . "');
    this.at = at + 3;
  }

  fail(wanted: string): never {
    throw new TypeError(`${wanted} expected at ${this.at} in the element ${JSON.stringify(this.text.slice(0, 200))}`);
  }

  /** Reads fields separated by " . " and writes them from `offset` on, which must be zero before. */
  fields(fields: readonly Field[], bytes: Buffer, offset: number): void {
    let to = offset;
    for (let i = 0; i < fields.length; i++) {
      if (i > 0) this.#separator();
      const field = fields[i]!;
      this.field(field, bytes, to);
      to += FIELD_SIZE[field];
    }
  }

  /** Reads a text that is these fields and nothing else. */
  whole(text: string, fields: readonly Field[], bytes: Buffer, offset: number): void {
    this.begin(text).fields(fields, bytes, offset);
    if (!this.isAtEnd) this.fail('the end');
  }

  field(field: Field, bytes: Buffer, offset: number): void {
    switch (field) {
      case 'ipv4_addr':
        return this.#ipv4(bytes, offset);
      case 'ipv6_addr':
        return this.#ipv6(bytes, offset);
      case 'inet_proto':
        bytes[offset] = this.#protocol();
        return;
      case 'inet_service': {
        const port = this.number(0xffff);
        bytes[offset] = port >>> 8;
        bytes[offset + 1] = port & 0xff;
        return;
      }
      case 'mark':
        writeLittleEndian(bytes, offset, this.number(0xffffffff));
        return;
      case 'classid':
        writeLittleEndian(bytes, offset, this.#classid());
        return;
    }
  }

  /**
   * Reads fields of which each may be a range ("80-90") and an address a CIDR: its first value goes to `first`, its last one
   * to `last`, in the order in which the kernel compares them (see `turnHostFields`).
   */
  ranges(fields: readonly Field[], bytes: Buffer, first: number, last: number): void {
    let at = 0;
    for (let i = 0; i < fields.length; i++) {
      if (i > 0) this.expect(' . ');
      const field = fields[i]!;
      const start = this.at;
      this.field(field, bytes, first + at);
      const next = this.text.charCodeAt(this.at);
      if (next === DASH) {
        this.at++;
        this.field(field, bytes, last + at);
      } else if (next === SLASH) this.#cidr(start, bytes, first + at, last + at);
      else bytes.copyWithin(last + at, first + at, first + at + FIELD_SIZE[field]);
      at += FIELD_SIZE[field];
    }
    turnHostFields(fields, bytes, first);
    turnHostFields(fields, bytes, last);
  }

  #cidr(start: number, bytes: Buffer, first: number, last: number): void {
    this.word();
    const cidr = parseCidr(this.text.slice(start, this.at));
    bytes.set(ipToBytes(cidr.address), first);
    bytes.set(ipToBytes(formatIp(cidr.family, ipToBigInt(cidr.address) + cidrSize(cidr) - 1n)), last);
  }

  /** Two hexadecimal numbers, as tc writes a handle: "1:2f". */
  #classid(): number {
    const major = this.#hexDigits();
    this.expect(':');
    const minor = this.#hexDigits();
    if (major > 0xffff || minor > 0xffff) this.fail('a class');
    return major * 0x10000 + minor;
  }

  #hexDigits(): number {
    const start = this.at;
    let value = 0;
    for (; ; this.at++) {
      const digit = this.at < this.text.length ? hexDigit(this.text.charCodeAt(this.at)) : -1;
      if (digit < 0) break;
      value = value * 16 + digit;
    }
    return this.at === start ? this.fail('a hexadecimal number') : value;
  }

  /** A decimal number, or a hexadecimal one after "0x". */
  number(max: number): number {
    const { text, at: start } = this;
    let at = start;
    let value = 0;
    for (; at < text.length; at++) {
      const digit = text.charCodeAt(at) - ZERO;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    if (value === 0 && at === start + 1 && at < text.length && text.charCodeAt(at) === X) return this.#hexadecimal(max);
    this.at = at;
    if (at === start || value > max) this.fail(`a number up to ${max}`);
    return value;
  }

  /** What stands before the next space, or the end. */
  word(): string {
    const end = this.text.indexOf(' ', this.at);
    const word = this.text.slice(this.at, end < 0 ? undefined : end);
    this.at += word.length;
    return word;
  }

  #hexadecimal(max: number): number {
    this.expect('0x');
    const value = this.#hexDigits();
    return value > max ? this.fail(`a number up to ${max}`) : value;
  }

  #ipv4(bytes: Buffer, offset: number): void {
    const { text } = this;
    let { at } = this;
    for (let i = 0; i < 4; i++) {
      if (i > 0 && text.charCodeAt(at++) !== DOT) this.fail('an IPv4 address');
      const start = at;
      let value = 0;
      for (; at < text.length; at++) {
        const digit = text.charCodeAt(at) - ZERO;
        if (digit < 0 || digit > 9) break;
        value = value * 10 + digit;
      }
      if (at === start || value > 255) this.fail('an IPv4 address');
      bytes[offset + i] = value;
    }
    this.at = at;
  }

  /** Hexadecimal groups, with "::" once at most; the rare mixed notation is left to the general parser. */
  #ipv6(bytes: Buffer, offset: number): void {
    const { text } = this;
    const start = this.at;
    let group = 0;
    let digits = 0;
    let groups = 0;
    let gap = -1;
    for (; ; this.at++) {
      const code = this.at < text.length ? text.charCodeAt(this.at) : SPACE;
      const digit = hexDigit(code);
      if (digit >= 0) {
        group = group * 16 + digit;
        digits++;
        continue;
      }
      if (code === DOT) return this.#generalIpv6(bytes, offset, start);
      if (digits > 4 || groups > 7) this.fail('an IPv6 address');
      if (digits > 0) {
        bytes[offset + 2 * groups] = group >>> 8;
        bytes[offset + 2 * groups++ + 1] = group & 0xff;
      }
      if (code !== COLON) break;
      if (text.charCodeAt(this.at + 1) === COLON && gap < 0) {
        gap = groups;
        this.at++;
      } else if (digits === 0) this.fail('an IPv6 address');
      group = digits = 0;
    }
    const isOpen = digits === 0 && gap !== groups;
    if (isOpen || (gap < 0 ? groups !== 8 : groups > 7)) this.fail('an IPv6 address');
    if (gap < 0) return;
    const tail = 2 * (groups - gap);
    const from = offset + 2 * gap;
    bytes.copyWithin(offset + 16 - tail, from, from + tail);
    bytes.fill(0, from, offset + 16 - tail);
  }

  #generalIpv6(bytes: Buffer, offset: number, start: number): void {
    this.at = start;
    const [text] = /^[0-9a-f:.]*/i.exec(this.text.slice(start))!;
    const address = ipToBytes(text);
    if (address.length !== 16) this.fail('an IPv6 address');
    this.at += text.length;
    bytes.set(address, offset);
  }

  #protocol(): number {
    const { text } = this;
    const code = text.charCodeAt(this.at);
    if (code >= ZERO && code < ZERO + 10) return this.number(255);
    // Nearly all of them: no need to look it up.
    if (text.startsWith('tcp ', this.at)) {
      this.at += 3;
      return TCP;
    }
    const word = this.word();
    return PROTOCOLS.get(word) ?? this.fail('a protocol');
  }
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  if (code >= 0x61 && code <= 0x66) return code - 0x57;
  if (code >= 0x41 && code <= 0x46) return code - 0x37;
  return -1;
}

/** Writes a field that is a plain number: a mark. */
export function writeNumber(field: Field, value: number | undefined, bytes: Buffer, offset: number): void {
  if (field !== 'mark' || value === undefined) throw new TypeError(`${field}: ${value} instead of its text`);
  writeLittleEndian(bytes, offset, value);
}

function writeLittleEndian(bytes: Buffer, offset: number, value: number): void {
  bytes[offset] = value & 0xff;
  bytes[offset + 1] = (value >>> 8) & 0xff;
  bytes[offset + 2] = (value >>> 16) & 0xff;
  bytes[offset + 3] = value >>> 24;
}

/**
 * Turns the fields in the machine's order around. In a set of concatenated ranges the kernel compares keys byte by byte from the
 * front; so nft has the rules that ask such a set bring these fields into network order, and its elements have it too.
 */
export function turnHostFields(fields: readonly Field[], bytes: Buffer, offset: number): void {
  let at = offset;
  for (const field of fields) {
    if (HOST_ORDER.has(field)) bytes.subarray(at, at + FIELD_SIZE[field]).reverse();
    at += FIELD_SIZE[field];
  }
}

/** The text of fields from the kernel's bytes. */
export function decodeFields(fields: readonly Field[], bytes: Buffer): string {
  return decodeEach(fields, bytes).join(' . ');
}

/** The text of the key of a set of concatenated ranges, from its first and its last bytes. */
export function decodeRanges(fields: readonly Field[], first: Buffer, last: Buffer): string {
  const [from, to] = [first, last].map((bytes) => {
    const turned = Buffer.from(bytes);
    turnHostFields(fields, turned, 0);
    return decodeEach(fields, turned);
  }) as [string[], string[]];
  return from.map((text, i) => (text === to[i] ? text : `${text}-${to[i]}`)).join(' . ');
}

function decodeEach(fields: readonly Field[], bytes: Buffer): string[] {
  let at = 0;
  return fields.map((field) => {
    const text = decodeField(field, bytes, at);
    at += FIELD_SIZE[field];
    return text;
  });
}

function decodeField(field: Field, bytes: Buffer, at: number): string {
  if (at + FIELD_SIZE[field] > bytes.length) return '?';
  switch (field) {
    case 'ipv4_addr':
    case 'ipv6_addr':
      return ipFromBytes(bytes.subarray(at, at + FIELD_SIZE[field]));
    case 'inet_proto':
      return PROTOCOL_NAMES.get(bytes[at]!) ?? String(bytes[at]);
    case 'inet_service':
      return String(bytes.readUInt16BE(at));
    case 'mark':
      return String(bytes.readUInt32LE(at));
    case 'classid':
      return `${bytes.readUInt16LE(at + 2).toString(16)}:${bytes.readUInt16LE(at).toString(16)}`;
  }
}
