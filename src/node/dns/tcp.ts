/**
 * DNS over TCP (RFC 7766): a connection may carry many queries, answered as they are ready. Everything is bounded:
 *
 *     connections        of all clients and of one; more are closed at once
 *     a connection       queries being answered and bytes not yet taken by the client: nothing more is read until they are
 *     time               a connection without a complete query is closed, however slowly bytes keep coming
 */
import { createServer, type Server, type Socket } from 'node:net';

/** Answers one message; undefined for what deserves no answer. */
export type Respond = (message: Buffer) => Buffer | Promise<Buffer> | undefined;

export interface TcpLimits {
  readonly connections: number;
  readonly connectionsOfOneClient: number;
  /** Queries of one connection that are answered at the same time. */
  readonly pipelined: number;
  /** Between complete queries, milliseconds (RFC 7766 section 6.2.3: a few seconds). */
  readonly idleMs: number;
}

const LIMITS: TcpLimits = { connections: 500, connectionsOfOneClient: 50, pipelined: 64, idleMs: 10_000 };

export interface TcpListener {
  readonly port: number;
  /** Stops listening and ends all connections. */
  close(): void;
}

export async function listenTcp(options: {
  readonly address: string;
  readonly port: number;
  readonly respond: Respond;
  readonly limits?: Partial<TcpLimits>;
}): Promise<TcpListener> {
  const limits = { ...LIMITS, ...options.limits };
  const open = new Map<string, Set<Socket>>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const client = socket.remoteAddress;
    const others = open.get(client ?? '') ?? new Set<Socket>();
    if (client === undefined || others.size >= limits.connectionsOfOneClient) return void socket.destroy();
    open.set(client, others.add(socket));
    socket.once('close', () => {
      others.delete(socket);
      if (others.size === 0) open.delete(client);
    });
    new Connection(socket, options.respond, limits).start();
  });
  server.maxConnections = limits.connections;
  const port = await listening(server, options.address, options.port);
  return {
    port,
    close: () => {
      server.close();
      for (const sockets of open.values()) for (const socket of sockets) socket.destroy();
    },
  };
}

function listening(server: Server, address: string, port: number): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.once('error', reject);
  server.listen(port, address, () => {
    server.off('error', reject);
    const bound = server.address();
    resolve(typeof bound === 'object' && bound ? bound.port : port);
  });
  return promise;
}

class Connection {
  readonly #socket: Socket;
  readonly #respond: Respond;
  readonly #limits: TcpLimits;
  #received: Buffer = Buffer.alloc(0);
  #pending = 0;
  #ended = false;

  constructor(socket: Socket, respond: Respond, limits: TcpLimits) {
    this.#socket = socket;
    this.#respond = respond;
    this.#limits = limits;
  }

  start(): void {
    const socket = this.#socket;
    const idle = setTimeout(() => socket.destroy(), this.#limits.idleMs);
    socket.once('close', () => clearTimeout(idle));
    // The client went away.
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
      if (this.#advance()) idle.refresh();
    });
    socket.on('drain', () => {
      if (this.#advance()) idle.refresh();
    });
    socket.on('end', () => {
      this.#ended = true;
      this.#endWhenDone();
    });
  }

  /** Answers what has come completely, as far as the limits allow; whether there was anything. */
  #advance(): boolean {
    const socket = this.#socket;
    let any = false;
    socket.cork();
    while (!this.#isFull() && !socket.destroyed) {
      const message = this.#take();
      if (!message) break;
      any = true;
      this.#answer(message);
    }
    socket.uncork();
    if (this.#isFull()) socket.pause();
    else if (socket.isPaused()) socket.resume();
    this.#endWhenDone();
    return any;
  }

  #isFull(): boolean {
    return this.#pending >= this.#limits.pipelined || this.#socket.writableNeedDrain;
  }

  /** The next message without its length, if it is there as a whole. */
  #take(): Buffer | undefined {
    const received = this.#received;
    if (received.length < 2) return undefined;
    const end = 2 + received.readUInt16BE(0);
    if (received.length < end) return undefined;
    this.#received = received.subarray(end);
    return received.subarray(2, end);
  }

  #answer(message: Buffer): void {
    const response = this.#respond(message);
    if (response === undefined) this.#socket.destroy();
    else if (Buffer.isBuffer(response)) this.#send(response);
    else {
      this.#pending++;
      response.then(
        (late) => {
          this.#pending--;
          this.#send(late);
          this.#advance();
        },
        () => this.#socket.destroy(),
      );
    }
  }

  #send(response: Buffer): void {
    if (!this.#socket.writable) return;
    const length = Buffer.alloc(2);
    length.writeUInt16BE(response.length);
    // One segment where it fits (RFC 7766 section 8).
    this.#socket.write(Buffer.concat([length, response]));
  }

  #endWhenDone(): void {
    if (this.#ended && this.#pending === 0 && !this.#socket.writableNeedDrain) this.#socket.end();
  }
}
