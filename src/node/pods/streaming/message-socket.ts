/** A WebSocket with back-pressure both ways, for bridges to byte streams. */
import { WebSocket } from 'ws';

/** Messages waiting in our memory for a slow client, beyond which the source is asked to stop, in bytes. */
const HIGH_WATER_BYTES = 1024 * 1024;
/** kubectl gives up when nothing answers its pings for 60 s, and a paused socket answers none. */
const PONG_INTERVAL_MS = 10_000;
/** RFC 6455 section 7.4.1; clients take any other code for a broken stream. */
const REGULAR_END = 1000;

export interface MessageEvents {
  message(data: Buffer): void;
  /** The connection is closed, by whichever side. */
  closed(): void;
  /** After a `send` that returned false: send again. */
  drained(): void;
}

export class MessageSocket {
  readonly #socket: WebSocket;
  readonly #events: MessageEvents;
  #waiting = false;
  #closing = false;
  #pongs: NodeJS.Timeout | undefined;

  constructor(socket: WebSocket, events: MessageEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.binaryType = 'nodebuffer';
    socket.on('message', (data: Buffer) => events.message(data));
    // 'close' follows every error; there is nobody to be told of a client that went away.
    socket.on('error', () => {});
    socket.once('close', () => {
      clearInterval(this.#pongs);
      events.closed();
    });
  }

  /** Sends a message (text for a string); false asks the caller to wait for `drained`. */
  send(message: Buffer | string): boolean {
    if (this.#socket.readyState !== WebSocket.OPEN) return true;
    this.#socket.send(message, () => this.#sent());
    this.#waiting ||= this.#socket.bufferedAmount > HIGH_WATER_BYTES;
    return !this.#waiting;
  }

  #sent(): void {
    if (this.#closing && this.#socket.bufferedAmount === 0) this.#socket.close(REGULAR_END);
    if (!this.#waiting || this.#socket.bufferedAmount > HIGH_WATER_BYTES / 2) return;
    this.#waiting = false;
    this.#events.drained();
  }

  /** Stops reading messages. Pongs that nobody asked for (RFC 6455 section 5.5.3) keep the client patient. */
  pause(): void {
    if (this.#socket.isPaused || this.#socket.readyState !== WebSocket.OPEN) return;
    this.#socket.pause();
    this.#pongs = setInterval(() => {
      if (this.#socket.readyState === WebSocket.OPEN) this.#socket.pong();
    }, PONG_INTERVAL_MS);
  }

  resume(): void {
    clearInterval(this.#pongs);
    this.#socket.resume();
  }

  /** Closes after all messages were handed to the kernel, however long a slow client takes for that. */
  close(): void {
    this.#closing = true;
    this.resume();
    if (this.#socket.bufferedAmount === 0) this.#socket.close(REGULAR_END);
  }
}
