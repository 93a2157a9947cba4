/**
 * The sockets: UDP and TCP on port 53 of each given address. A datagram that is no query is ignored or refused; a TCP
 * connection may carry many queries (RFC 7766), bounded in number, size and idle time.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import { familyOf } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { Handler, Transport } from './chain.ts';
import { decodeQuery } from './wire.ts';

export interface DnsListenerOptions {
  readonly addresses: readonly string[];
  /** 53; 0 in tests. */
  readonly port: number;
  readonly handler: Handler;
  readonly log: Logger;
}

const MAX_CONNECTIONS = 500;
const IDLE_MS = 10_000;
/** Queries of one connection that are answered at once (RFC 7766 section 6.2.1.1: pipelining). */
const MAX_PIPELINED = 64;
const RECEIVE_BUFFER_BYTES = 4 << 20;

export class DnsListener implements Startable {
  readonly #options: DnsListenerOptions;
  #port = 0;

  constructor(options: DnsListenerOptions) {
    this.#options = options;
  }

  /** The port in use: of interest where 0 was asked for. */
  get port(): number {
    return this.#port;
  }

  async start(signal: AbortSignal): Promise<void> {
    this.#port = this.#options.port;
    for (const address of this.#options.addresses) {
      const server = await this.#listenTcp(address);
      const socket = await this.#bindUdp(address);
      signal.addEventListener('abort', () => {
        server.close();
        socket.close();
      });
    }
  }

  #bindUdp(address: string): Promise<UdpSocket> {
    const socket = createSocket({ type: familyOf(address) === 4 ? 'udp4' : 'udp6', reuseAddr: false });
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(this.#port, address, () => {
        socket.off('error', reject);
        socket.on('error', (error) => this.#options.log.warn({ error }, 'dns: the UDP socket failed'));
        socket.on('message', (packet, from) => this.#datagram(socket, packet, from.address, from.port));
        socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
        resolve(socket);
      });
    });
  }

  #datagram(socket: UdpSocket, packet: Buffer, address: string, port: number): void {
    const response = this.#respond(packet, 'udp');
    if (response === undefined) return;
    if (Buffer.isBuffer(response)) socket.send(response, port, address, ignore);
    else response.then((late) => socket.send(late, port, address, ignore), ignore);
  }

  #respond(packet: Buffer, transport: Transport): Buffer | Promise<Buffer> | undefined {
    const decoded = decodeQuery(packet);
    switch (decoded.kind) {
      case 'ignore':
        return undefined;
      case 'refuse':
        return decoded.response;
      case 'query':
        return this.#options.handler(decoded.query, transport, packet);
    }
  }

  #listenTcp(address: string): Promise<Server> {
    const server = createServer((socket) => this.#connection(socket));
    server.maxConnections = MAX_CONNECTIONS;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, address, () => {
        server.off('error', reject);
        const bound = server.address();
        if (this.#port === 0 && typeof bound === 'object' && bound) this.#port = bound.port;
        resolve(server);
      });
    });
  }

  #connection(socket: Socket): void {
    let received: Buffer = Buffer.alloc(0);
    let pending = 0;
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on('error', ignore);
    const send = (response: Buffer) => {
      pending--;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(response.length);
      if (!socket.destroyed) socket.write(Buffer.concat([length, response]));
      if (socket.isPaused()) socket.resume();
    };
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0);
        const response = this.#respond(Buffer.from(received.subarray(2, end)), 'tcp');
        received = received.subarray(end);
        if (response === undefined) return void socket.destroy();
        if (++pending >= MAX_PIPELINED) socket.pause();
        if (Buffer.isBuffer(response)) send(response);
        else response.then(send, () => socket.destroy());
      }
    });
  }
}

function ignore(): void {}
