/**
 * Encodes netlink messages, one or many in one buffer (linux/netlink.h).
 *
 * A message is a 16-byte header, a family's fixed struct, then attributes (length, type, value), each padded to 4
 * bytes. Integers are in the machine's byte order; every machine Node runs on under Linux with koffi is little-endian,
 * and so is this code. `be16`/`be32` are for the fields that travel in network order.
 */
import { ipToBytes } from '../../base/ip.ts';

/** sizeof(struct nlmsghdr). */
export const HEADER_SIZE = 16;

// Request flags, linux/netlink.h
export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_ECHO = 0x8;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

/** Set in an attribute's type when its value is attributes again. */
const NLA_F_NESTED = 0x8000;

export class MessageWriter {
  #bytes: Buffer;
  #length = 0;
  /** Where each message starts. */
  readonly #starts: number[] = [];

  constructor(capacity = 512) {
    this.#bytes = Buffer.allocUnsafe(capacity);
  }

  /** Number of messages begun. */
  get count(): number {
    return this.#starts.length;
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  /** Begins a message; what follows belongs to it until the next one begins. NLM_F_REQUEST is added. */
  message(type: number, flags = 0): this {
    this.#closeMessage();
    this.#starts.push(this.#length);
    return this.u32(0)
      .u16(type)
      .u16(flags | NLM_F_REQUEST)
      .u32(0)
      .u32(0);
  }

  u8(value: number): this {
    this.#reserve(1);
    this.#length = this.#bytes.writeUInt8(value, this.#length);
    return this;
  }

  u16(value: number): this {
    this.#reserve(2);
    this.#length = this.#bytes.writeUInt16LE(value, this.#length);
    return this;
  }

  u32(value: number): this {
    this.#reserve(4);
    this.#length = this.#bytes.writeUInt32LE(value >>> 0, this.#length);
    return this;
  }

  be16(value: number): this {
    this.#reserve(2);
    this.#length = this.#bytes.writeUInt16BE(value, this.#length);
    return this;
  }

  zeros(count: number): this {
    this.#reserve(count);
    this.#bytes.fill(0, this.#length, this.#length + count);
    this.#length += count;
    return this;
  }

  bytes(value: Uint8Array): this {
    this.#reserve(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
    return this;
  }

  /** So many bytes that `fill` writes, all of them, from the given offset on. */
  filled(count: number, fill: (bytes: Buffer, offset: number) => void): this {
    this.#reserve(count);
    fill(this.#bytes, this.#length);
    this.#length += count;
    return this;
  }

  attr(type: number, value: Uint8Array): this {
    return this.#attrHeader(type, value.length).bytes(value).#pad();
  }

  attrU8(type: number, value: number): this {
    return this.#attrHeader(type, 1).u8(value).#pad();
  }

  attrU16(type: number, value: number): this {
    return this.#attrHeader(type, 2).u16(value).#pad();
  }

  attrU32(type: number, value: number): this {
    return this.#attrHeader(type, 4).u32(value);
  }

  /** A 16-bit value in network order. */
  attrBe16(type: number, value: number): this {
    return this.#attrHeader(type, 2).be16(value).#pad();
  }

  /** A 32-bit value in network order. */
  attrBe32(type: number, value: number): this {
    this.#attrHeader(type, 4).#reserve(4);
    this.#length = this.#bytes.writeUInt32BE(value >>> 0, this.#length);
    return this;
  }

  /** Text with the closing NUL that the kernel's string attributes have. */
  attrString(type: number, value: string): this {
    return this.attr(type, Buffer.from(`${value}\0`));
  }

  /** An IP address as its 4 or 16 bytes. */
  attrIp(type: number, address: string): this {
    return this.attr(type, ipToBytes(address));
  }

  /** An attribute without a value (a flag). */
  attrFlag(type: number): this {
    return this.#attrHeader(type, 0);
  }

  /** An attribute that contains what `body` writes. */
  nest(type: number, body: () => void): this {
    return this.nestPlain(type | NLA_F_NESTED, body);
  }

  /** A nest whose type is sent without the nested bit, as rtnetlink's older attributes are. */
  nestPlain(type: number, body: () => void): this {
    const start = this.#length;
    this.#attrHeader(type, 0);
    body();
    this.#bytes.writeUInt16LE(this.#length - start, start);
    return this.#pad();
  }

  /** Where a message begins in the finished bytes. */
  startOf(index: number): number | undefined {
    return this.#starts[index];
  }

  /**
   * The finished bytes with consecutive sequence numbers from `firstSequence` on; the last message asks for an
   * acknowledgement when `acknowledgeLast` is "ack". The bytes stay valid until the writer is written to again.
   */
  finish(firstSequence: number, acknowledgeLast: 'ack' | 'as is' = 'as is'): Buffer {
    this.#closeMessage();
    this.#starts.forEach((start, i) => {
      this.#bytes.writeUInt32LE((firstSequence + i) >>> 0, start + 8);
    });
    const last = this.#starts.at(-1);
    if (last !== undefined && acknowledgeLast === 'ack') {
      this.#bytes.writeUInt16LE(this.#bytes.readUInt16LE(last + 6) | NLM_F_ACK, last + 6);
    }
    return this.#bytes.subarray(0, this.#length);
  }

  /** Makes room for so many more bytes at once: growing by and by copies and leaves garbage. */
  reserve(count: number): this {
    this.#reserve(count);
    return this;
  }

  /** Keeps the first `count` messages only: for an encoder that found out half way that it cannot go on. */
  truncate(count: number): void {
    const start = this.#starts[count];
    if (start === undefined) return;
    this.#starts.length = count;
    this.#length = start;
  }

  #closeMessage(): void {
    const start = this.#starts.at(-1);
    if (start !== undefined) this.#bytes.writeUInt32LE(this.#length - start, start);
  }

  #attrHeader(type: number, valueLength: number): this {
    return this.u16(4 + valueLength).u16(type);
  }

  #pad(): this {
    const rest = this.#length & 3;
    return rest === 0 ? this : this.zeros(4 - rest);
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}
