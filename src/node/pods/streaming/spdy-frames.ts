/**
 * SPDY/3.1 frames, as far as a client of Kubernetes' streaming servers needs them (draft-mbelshe-httpbis-spdy-00 with the
 * 3.1 changes; the peer is moby/spdystream in containerd). Pure.
 *
 * Two things of SPDY are left out on purpose. Flow control: spdystream neither sends nor reads WINDOW_UPDATE, so a client
 * that honours windows stops after 64 KiB; here TCP's back-pressure of the one connection does the work. Compression:
 * our header blocks are zlib streams of stored blocks (RFC 1951 section 3.2.4), which every inflater reads, and the
 * headers of the peer's SYN_REPLY say nothing that is needed.
 */

const VERSION = 3;
const CONTROL = 0x80;

export const FrameType = {
  SYN_STREAM: 1,
  SYN_REPLY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PING: 6,
  GOAWAY: 7,
  HEADERS: 8,
  WINDOW_UPDATE: 9,
} as const;

export const FLAG_FIN = 0x01;
/** Both kinds of frames begin with 8 bytes; the last 3 are the length of what follows. */
export const FRAME_HEADER_BYTES = 8;

export interface DataFrameHeader {
  readonly kind: 'data';
  readonly streamId: number;
  readonly fin: boolean;
  readonly length: number;
}

export interface ControlFrameHeader {
  readonly kind: 'control';
  readonly type: number;
  readonly fin: boolean;
  readonly length: number;
}

/** Decodes the first 8 bytes of a frame. Throws RangeError for another version of SPDY (or another protocol). */
export function decodeFrameHeader(bytes: Buffer): DataFrameHeader | ControlFrameHeader {
  const fin = (bytes[4]! & FLAG_FIN) !== 0;
  const length = bytes.readUIntBE(5, 3);
  if ((bytes[0]! & CONTROL) === 0) return { kind: 'data', streamId: bytes.readUInt32BE(0), fin, length };
  const version = bytes.readUInt16BE(0) & 0x7fff;
  if (version !== VERSION) throw new RangeError(`SPDY version ${version} in place of ${VERSION}`);
  return { kind: 'control', type: bytes.readUInt16BE(2), fin, length };
}

/** The header of a DATA frame; the payload of at most 2^24-1 bytes follows it. */
export function encodeDataHeader(streamId: number, length: number, flags = 0): Buffer {
  const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
  header.writeUInt32BE(streamId, 0);
  header[4] = flags;
  header.writeUIntBE(length, 5, 3);
  return header;
}

/** Opens a stream. `first`: whether it is the connection's first header block (the zlib stream begins with it). */
export function encodeSynStream(streamId: number, headers: Readonly<Record<string, string>>, first: boolean): Buffer {
  const fields = Buffer.alloc(10);
  fields.writeUInt32BE(streamId, 0);
  return encodeControl(FrameType.SYN_STREAM, Buffer.concat([fields, storedBlock(encodeHeaders(headers), first)]));
}

/** Answers a PING of the peer with its own 4 bytes. */
export function encodePing(id: Buffer): Buffer {
  return encodeControl(FrameType.PING, id);
}

function encodeControl(type: number, body: Buffer): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt16BE((CONTROL << 8) | VERSION, 0);
  header.writeUInt16BE(type, 2);
  header.writeUIntBE(body.length, 5, 3);
  return Buffer.concat([header, body]);
}

/** Name/value block, section 2.6.10: counts and lengths of 32 bits, names in lower case. */
function encodeHeaders(headers: Readonly<Record<string, string>>): Buffer {
  const entries = Object.entries(headers);
  const texts = entries.flatMap(([name, value]) => [name.toLowerCase(), value]);
  return Buffer.concat([uint32(entries.length), ...texts.flatMap((text) => lengthPrefixed(Buffer.from(text)))]);
}

const lengthPrefixed = (bytes: Buffer): Buffer[] => [uint32(bytes.length), bytes];

function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** RFC 1950: deflate, 32 KiB window, no preset dictionary; (0x78 << 8 | 0x01) is divisible by 31. */
const ZLIB_HEADER = Buffer.from([0x78, 0x01]);
/** An empty stored block: what Z_SYNC_FLUSH ends with, upon which inflaters hand out everything before it. */
const SYNC_FLUSH = Buffer.from([0x00, 0x00, 0x00, 0xff, 0xff]);

function storedBlock(bytes: Buffer, first: boolean): Buffer {
  if (bytes.length > 0xffff) throw new RangeError('a header block of over 65535 bytes');
  const block = Buffer.alloc(5);
  block.writeUInt16LE(bytes.length, 1);
  block.writeUInt16LE(bytes.length ^ 0xffff, 3);
  return Buffer.concat([...(first ? [ZLIB_HEADER] : []), block, bytes, SYNC_FLUSH]);
}
