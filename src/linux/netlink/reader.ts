/**
 * Decodes netlink messages and attributes. Everything here is total: bytes that are cut off, overlong or nonsense give
 * fewer messages or absent attributes, never an exception and never an endless loop. What comes from a socket is the
 * kernel's, but a decoder that trusts lengths is one bug away from a hang.
 */
import { type IpAddress, ipFromBytes } from '../../base/ip.ts';
import { HEADER_SIZE } from './writer.ts';

// Control message types and answer flags, linux/netlink.h
export const NLMSG_NOOP = 1;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLM_F_MULTI = 0x2;
export const NLM_F_DUMP_INTR = 0x10;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;

/** The bits of an attribute's type that are flags (nested, network byte order). */
const ATTRIBUTE_TYPE_MASK = 0x3fff;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** What follows the header; a view on the received bytes. */
  readonly payload: Buffer;
}

/** Splits received bytes into messages. A message that is cut off, and all after it, is left out. */
export function decodeMessages(bytes: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  let offset = 0;
  while (offset + HEADER_SIZE <= bytes.length) {
    const length = bytes.readUInt32LE(offset);
    if (length < HEADER_SIZE || offset + length > bytes.length) break;
    messages.push({
      type: bytes.readUInt16LE(offset + 4),
      flags: bytes.readUInt16LE(offset + 6),
      sequence: bytes.readUInt32LE(offset + 8),
      payload: bytes.subarray(offset + HEADER_SIZE, offset + length),
    });
    offset += align(length);
  }
  return messages;
}

/** The attributes of a message or nest, read by type; of repeated types the last one counts. */
export class Attributes {
  readonly #bytes: Buffer;
  /** Attribute type -> where its value starts and ends. */
  readonly #spans = new Map<number, readonly [start: number, end: number]>();

  constructor(bytes: Buffer, offset = 0) {
    this.#bytes = bytes;
    forEachSpan(bytes, offset, (type, start, end) => this.#spans.set(type, [start, end]));
  }

  has(type: number): boolean {
    return this.#spans.has(type);
  }

  bytes(type: number): Buffer | undefined {
    const span = this.#spans.get(type);
    return span && this.#bytes.subarray(span[0], span[1]);
  }

  u8(type: number): number | undefined {
    const at = this.#at(type, 1);
    return at === undefined ? undefined : this.#bytes.readUInt8(at);
  }

  u16(type: number): number | undefined {
    const at = this.#at(type, 2);
    return at === undefined ? undefined : this.#bytes.readUInt16LE(at);
  }

  u32(type: number): number | undefined {
    const at = this.#at(type, 4);
    return at === undefined ? undefined : this.#bytes.readUInt32LE(at);
  }

  i32(type: number): number | undefined {
    const at = this.#at(type, 4);
    return at === undefined ? undefined : this.#bytes.readInt32LE(at);
  }

  be16(type: number): number | undefined {
    const at = this.#at(type, 2);
    return at === undefined ? undefined : this.#bytes.readUInt16BE(at);
  }

  be32(type: number): number | undefined {
    const at = this.#at(type, 4);
    return at === undefined ? undefined : this.#bytes.readUInt32BE(at);
  }

  /** Text up to its NUL. */
  string(type: number): string | undefined {
    const value = this.bytes(type);
    if (value === undefined) return undefined;
    const end = value.indexOf(0);
    return value.toString('utf8', 0, end < 0 ? value.length : end);
  }

  /** An IP address of 4 or 16 bytes; any other length is no address. */
  ip(type: number): IpAddress | undefined {
    const value = this.bytes(type);
    return value && (value.length === 4 || value.length === 16) ? ipFromBytes(value) : undefined;
  }

  /** A link-layer address of 6 bytes as aa:bb:cc:dd:ee:ff. */
  mac(type: number): string | undefined {
    const value = this.bytes(type);
    return value?.length === 6 ? decodeMac(value) : undefined;
  }

  nested(type: number): Attributes | undefined {
    const span = this.#spans.get(type);
    return span && new Attributes(this.#bytes.subarray(span[0], span[1]));
  }

  #at(type: number, size: number): number | undefined {
    const span = this.#spans.get(type);
    return span && span[1] - span[0] >= size ? span[0] : undefined;
  }
}

function forEachSpan(bytes: Buffer, from: number, visit: (type: number, start: number, end: number) => void): void {
  let offset = from;
  while (offset + 4 <= bytes.length) {
    const length = bytes.readUInt16LE(offset);
    if (length < 4 || offset + length > bytes.length) return;
    visit(bytes.readUInt16LE(offset + 2) & ATTRIBUTE_TYPE_MASK, offset + 4, offset + length);
    offset += align(length);
  }
}

/** Rounds up to the 4 bytes that netlink aligns to; without bit operations, which would make 2^31 negative. */
function align(length: number): number {
  return Math.ceil(length / 4) * 4;
}

/** What an NLMSG_ERROR or NLMSG_DONE message says. */
export interface Acknowledgement {
  /** 0 for success, else a positive errno value. */
  readonly errno: number;
  /** The kernel's words, when it gave some (NLMSGERR_ATTR_MSG). */
  readonly message: string | undefined;
  /** Where in the request the attribute begins that the kernel found bad, in bytes from the request's header. */
  readonly badOffset?: number;
}

/** Decodes NLMSG_ERROR: the errno, the request's header (and body unless capped), then the extended attributes. */
export function decodeAcknowledgement(message: NetlinkMessage): Acknowledgement {
  const { payload } = message;
  if (payload.length < 4) return { errno: 0, message: undefined };
  const errno = Math.abs(payload.readInt32LE(0));
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno, message: undefined };
  const attributes = new Attributes(payload, attributesOffset(message));
  const badOffset = attributes.u32(NLMSGERR_ATTR_OFFS);
  const answer = { errno, message: attributes.string(NLMSGERR_ATTR_MSG) };
  return badOffset === undefined ? answer : { ...answer, badOffset };
}

function attributesOffset({ type, flags, payload }: NetlinkMessage): number {
  if (type === NLMSG_DONE) return 4;
  if ((flags & NLM_F_CAPPED) !== 0 || payload.length < 8) return 4 + HEADER_SIZE;
  return 4 + align(Math.max(payload.readUInt32LE(4), HEADER_SIZE));
}

/** "aa:bb:cc:dd:ee:ff" from bytes of any length. */
export function decodeMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** The six bytes of a MAC. Throws TypeError on anything else. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) throw new TypeError(`not a MAC address: ${JSON.stringify(text)}`);
  return Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16));
}
