/**
 * The client's end of an SPDY/3.1 connection to a container runtime's streaming server: opens streams, sends and receives
 * their bytes. The peer never opens streams. Back-pressure is the connection's: `write` tells when to wait, `pause` stops
 * reading for all streams together (the peer sends without windows, see spdy-frames.ts).
 */
import type { Duplex } from 'node:stream';
import {
  type ControlFrameHeader,
  type DataFrameHeader,
  decodeFrameHeader,
  encodeDataHeader,
  encodePing,
  encodeSynStream,
  FLAG_FIN,
  FRAME_HEADER_BYTES,
  FrameType,
} from './spdy-frames.ts';

/** Frames are cut to this, so that a large write does not keep other streams waiting. */
const MAX_DATA_BYTES = 64 * 1024;
/** Control frames of streaming servers carry a few headers. */
const MAX_CONTROL_BYTES = 256 * 1024;

/** What happens on the connection, in the order of its bytes. */
export interface SpdyEvents {
  /** Bytes of a stream, as they arrive. The buffer is the receiver's to keep. */
  data(streamId: number, bytes: Buffer): void;
  /** The peer will send nothing more on the stream: it ended (FIN) or was reset. */
  ended(streamId: number): void;
  /** The last call: the connection is closed, all that came was delivered. */
  closed(error: Error | undefined): void;
  /** After a `write` that returned false: write again. */
  drained(): void;
}

export class SpdySession {
  readonly #socket: Duplex;
  readonly #events: SpdyEvents;
  #nextId = 1;
  /** The frame being read. */
  #frame: DataFrameHeader | ControlFrameHeader | undefined;
  /** Bytes of a header or a control frame's body that are not complete yet. */
  #partial: Buffer = Buffer.alloc(0);
  /** Bytes of the present DATA frame still to come. */
  #dataLeft = 0;
  #error: Error | undefined;

  constructor(socket: Duplex, events: SpdyEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    socket.on('drain', () => events.drained());
    socket.on('error', (error: Error) => {
      this.#error ??= error;
    });
    socket.once('end', () => socket.end());
    socket.once('close', () => events.closed(this.#error));
  }

  /** Opens a stream and returns its id. */
  open(headers: Readonly<Record<string, string>>): number {
    const id = this.#nextId;
    this.#nextId += 2;
    this.#socket.write(encodeSynStream(id, headers, id === 1));
    return id;
  }

  /** Sends bytes on a stream; false asks the caller to wait for `drained`. */
  write(streamId: number, bytes: Buffer): boolean {
    if (!this.#socket.writable) return true;
    let more = true;
    this.#socket.cork();
    for (let at = 0; at < bytes.length; at += MAX_DATA_BYTES) {
      const part = bytes.subarray(at, at + MAX_DATA_BYTES);
      this.#socket.write(encodeDataHeader(streamId, part.length));
      more = this.#socket.write(part);
    }
    this.#socket.uncork();
    return more;
  }

  /** Half-closes a stream: nothing more will be sent on it. */
  end(streamId: number): void {
    if (this.#socket.writable) this.#socket.write(encodeDataHeader(streamId, 0, FLAG_FIN));
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #receive(bytes: Buffer): void {
    try {
      for (let at = 0; at < bytes.length; ) at += this.#consume(bytes.subarray(at));
    } catch (error) {
      this.#error ??= error as Error;
      this.#socket.destroy();
    }
  }

  /** Takes the next piece of input and returns how many bytes that was. */
  #consume(bytes: Buffer): number {
    if (this.#frame?.kind === 'data') return this.#consumeData(this.#frame, bytes);
    const wanted = this.#frame ? this.#frame.length : FRAME_HEADER_BYTES;
    const used = Math.min(wanted - this.#partial.length, bytes.length);
    this.#partial = Buffer.concat([this.#partial, bytes.subarray(0, used)]);
    if (this.#partial.length < wanted) return used;
    const complete = this.#partial;
    this.#partial = Buffer.alloc(0);
    if (this.#frame) this.#finishControl(this.#frame, complete);
    else this.#beginFrame(complete);
    return used;
  }

  #beginFrame(header: Buffer): void {
    const frame = decodeFrameHeader(header);
    if (frame.kind === 'control') {
      if (frame.length > MAX_CONTROL_BYTES) throw new RangeError(`an SPDY control frame of ${frame.length} bytes`);
      if (frame.length === 0) this.#finishControl(frame, Buffer.alloc(0));
      else this.#frame = frame;
      return;
    }
    this.#dataLeft = frame.length;
    if (frame.length > 0) this.#frame = frame;
    else if (frame.fin) this.#events.ended(frame.streamId);
  }

  #consumeData(frame: DataFrameHeader, bytes: Buffer): number {
    const used = Math.min(this.#dataLeft, bytes.length);
    this.#dataLeft -= used;
    if (this.#dataLeft === 0) this.#frame = undefined;
    this.#events.data(frame.streamId, bytes.subarray(0, used));
    if (this.#dataLeft === 0 && frame.fin) this.#events.ended(frame.streamId);
    return used;
  }

  #finishControl(frame: ControlFrameHeader, body: Buffer): void {
    this.#frame = undefined;
    const streamId = body.length >= 4 ? body.readUInt32BE(0) & 0x7fffffff : 0;
    if (frame.type === FrameType.RST_STREAM) this.#events.ended(streamId);
    else if (frame.type === FrameType.SYN_REPLY && frame.fin) this.#events.ended(streamId);
    // The server's own pings have even ids; odd ones would be answers to pings of ours, of which there are none.
    else if (frame.type === FrameType.PING && streamId % 2 === 0 && this.#socket.writable)
      this.#socket.write(encodePing(body));
  }
}
