/**
 * exec and attach for WebSocket clients: [channel][bytes] messages on one side, the runtime's SPDY streams (protocol v4)
 * on the other.
 *
 * ```
 *  message 0 stdin   ---> DATA stdin          message 255,0 ---> FIN on stdin (v5)
 *  message 4 resize  ---> DATA resize
 *  message 1, 2      <--- DATA stdout, stderr
 *  message 3 error   <--- DATA error, collected: one Status object at its end, then the WebSocket closes with 1000
 * ```
 */
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import {
  Channel,
  type ChannelMessage,
  type ChannelProtocol,
  decodeMessage,
  encodeMessage,
  errorChannelText,
} from './channel-protocol.ts';
import { MessageSocket } from './message-socket.ts';
import type { StreamOptions } from './pod-streams.ts';
import { SpdySession } from './spdy-session.ts';

/** What the runtime speaks best: v5 exists for WebSocket only. */
export const RUNTIME_STREAM_PROTOCOL = 'v4.channel.k8s.io';

/** A Status is short; a longer text on the error stream is cut. */
const MAX_STATUS_BYTES = 1024 * 1024;

/** Joins the client and the runtime; `closed` (if given) is called when both have ended. */
export class RemoteCommandBridge {
  readonly #client: MessageSocket;
  readonly #runtime: SpdySession;
  readonly #protocol: ChannelProtocol;
  /** The runtime's streams, by channel and by stream id. */
  readonly #streams = new Map<number, number>();
  readonly #channels = new Map<number, number>();
  /** Streams whose end is awaited: output and error. */
  readonly #open = new Set<number>();
  readonly #status: Buffer[] = [];
  #statusBytes = 0;
  #stdinEnded = false;
  #finished = false;

  constructor(webSocket: WebSocket, runtimeSocket: Duplex, protocol: ChannelProtocol, options: StreamOptions) {
    this.#protocol = protocol;
    this.#runtime = new SpdySession(runtimeSocket, {
      data: (id, bytes) => this.#fromRuntime(id, bytes),
      ended: (id) => this.#streamEnded(id),
      closed: (error) => this.#finish(error),
      drained: () => this.#client.resume(),
    });
    this.#client = new MessageSocket(webSocket, {
      message: (data) => this.#fromClient(decodeMessage(protocol, data)),
      closed: () => this.#runtime.destroy(),
      drained: () => this.#runtime.resume(),
    });
    this.#openStreams(options);
  }

  /** The runtime waits for exactly these streams; the order is that of client-go. */
  #openStreams({ stdin, stdout, stderr, tty }: StreamOptions): void {
    this.#openStream('error', Channel.error);
    if (stdin) this.#openStream('stdin', Channel.stdin);
    if (stdout) this.#openStream('stdout', Channel.stdout);
    if (stderr && !tty) this.#openStream('stderr', Channel.stderr);
    if (tty) this.#openStream('resize', Channel.resize);
    // Clients learn from a first, empty message that the streams are there.
    const first = stdout ? Channel.stdout : stderr && !tty ? Channel.stderr : Channel.error;
    this.#send(first, Buffer.alloc(0));
  }

  #openStream(streamType: string, channel: number): void {
    const id = this.#runtime.open({ streamType });
    this.#streams.set(channel, id);
    this.#channels.set(id, channel);
    if (channel !== Channel.stdin && channel !== Channel.resize) this.#open.add(id);
  }

  #fromClient(message: ChannelMessage | undefined): void {
    if (!message || this.#finished) return;
    const { channel, bytes } = message;
    if (channel === Channel.close && this.#protocol.closes) {
      if (bytes[0] === Channel.stdin) this.#endStdin();
      return;
    }
    if (channel !== Channel.stdin && channel !== Channel.resize) return;
    const stream = this.#streams.get(channel);
    if (stream === undefined || bytes.length === 0 || (channel === Channel.stdin && this.#stdinEnded)) return;
    if (!this.#runtime.write(stream, bytes)) this.#client.pause();
  }

  #endStdin(): void {
    const stdin = this.#streams.get(Channel.stdin);
    if (stdin === undefined || this.#stdinEnded) return;
    this.#stdinEnded = true;
    this.#runtime.end(stdin);
  }

  #fromRuntime(id: number, bytes: Buffer): void {
    const channel = this.#channels.get(id);
    if (channel === Channel.error) {
      // The command has ended: its input is of no use any more, and unread input makes a closing peer reset.
      this.#stdinEnded = true;
      this.#statusBytes += bytes.length;
      if (this.#statusBytes <= MAX_STATUS_BYTES) this.#status.push(bytes);
    } else if (channel === Channel.stdout || channel === Channel.stderr) {
      if (!this.#send(channel, bytes)) this.#runtime.pause();
    }
  }

  /** Ends the client's connection once output and error have ended, also when the runtime keeps its connection open. */
  #streamEnded(id: number): void {
    this.#open.delete(id);
    if (this.#open.size === 0) this.#finish(undefined);
  }

  #finish(error: Error | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    const text = errorChannelText(this.#protocol, Buffer.concat(this.#status).toString() || brokenStatus(error));
    if (text !== undefined) this.#send(Channel.error, Buffer.from(text));
    this.#client.close();
    this.#runtime.destroy();
  }

  #send(channel: number, bytes: Buffer): boolean {
    return this.#client.send(encodeMessage(this.#protocol, channel, bytes));
  }
}

/** Without a Status from the runtime nobody knows how the command ended: a client must not take that for success. */
function brokenStatus(error: Error | undefined): string {
  const message = `the container runtime closed the stream without a status${error ? `: ${error.message}` : ''}`;
  return JSON.stringify({ metadata: {}, status: 'Failure', message, reason: 'InternalError', code: 500 });
}
