/** The little of ASN.1 DER (X.690) that certificates need. */

const concat = (parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts);

/** Tag, length, content. */
export function tlv(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = concat(content);
  return concat([Buffer.from([tag]), lengthOf(body.length), body]);
}

function lengthOf(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length]);
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest >>>= 8) bytes.unshift(rest & 0xff);
  return Buffer.from([0x80 | bytes.length, ...bytes]);
}

export const sequence = (...content: readonly Uint8Array[]): Buffer => tlv(0x30, ...content);
export const set = (...content: readonly Uint8Array[]): Buffer => tlv(0x31, ...content);
/** An unsigned integer in big-endian bytes. */
export const integer = (bytes: Uint8Array): Buffer =>
  tlv(0x02, (bytes[0] ?? 0) & 0x80 || bytes.length === 0 ? concat([Buffer.from([0]), bytes]) : bytes);
export const boolean = (value: 'true' | 'false'): Buffer => tlv(0x01, Buffer.from([value === 'true' ? 0xff : 0]));
export const octets = (bytes: Uint8Array): Buffer => tlv(0x04, bytes);
export const bits = (bytes: Uint8Array, unused = 0): Buffer => tlv(0x03, Buffer.from([unused]), bytes);
export const utf8 = (text: string): Buffer => tlv(0x0c, Buffer.from(text));
/** [n] EXPLICIT or a constructed context tag. */
export const context = (n: number, ...content: readonly Uint8Array[]): Buffer => tlv(0xa0 | n, ...content);
/** [n] IMPLICIT of a primitive. */
export const contextPrimitive = (n: number, bytes: Uint8Array): Buffer => tlv(0x80 | n, bytes);

export function oid(text: string): Buffer {
  const [first, second, ...rest] = text.split('.').map(Number) as [number, number, ...number[]];
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let high = arc >>> 7; high > 0; high >>>= 7) groups.unshift((high & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return tlv(0x06, Buffer.from(bytes));
}

/** UTCTime up to 2049, GeneralizedTime after (RFC 5280 section 4.1.2.5). */
export function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]/g, '').slice(0, 14);
  return date.getUTCFullYear() < 2050
    ? tlv(0x17, Buffer.from(`${digits.slice(2)}Z`))
    : tlv(0x18, Buffer.from(`${digits}Z`));
}

export interface Element {
  readonly tag: number;
  readonly content: Buffer;
  /** With tag and length. */
  readonly whole: Buffer;
}

/** The elements inside a constructed element's content. Throws RangeError on what is cut off. */
export function elements(content: Buffer): Element[] {
  const result: Element[] = [];
  for (let at = 0; at < content.length; ) {
    const start = at;
    const tag = content.readUInt8(at++);
    let length = content.readUInt8(at++);
    if (length & 0x80) {
      const count = length & 0x7f;
      length = content.readUIntBE(at, count);
      at += count;
    }
    if (at + length > content.length) throw new RangeError('DER element is cut off');
    result.push({ tag, content: content.subarray(at, at + length), whole: content.subarray(start, at + length) });
    at += length;
  }
  return result;
}
