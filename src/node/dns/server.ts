/**
 * The sockets: UDP and TCP on one port of each given address. A message goes to the cache first, as bytes, and to the chain
 * when nothing is kept for it; what is no query is ignored or refused.
 */
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import { bindUdp, socketAddress } from '../../linux/sockets.ts';
import { UdpBatchSocket } from '../../linux/udp-batch.ts';
import type { AnswerCache } from './cache.ts';
import type { DnsMetrics, Handler, Transport } from './chain.ts';
import { decodeQuery } from './decode.ts';
import { MAX_MESSAGE_BYTES } from './encode.ts';
import { listenTcp, type TcpLimits } from './tcp.ts';

export interface DnsListenerOptions {
  readonly addresses: readonly string[];
  /** 53; 0 in tests. */
  readonly port: number;
  readonly cache: AnswerCache;
  readonly handler: Handler;
  readonly counts: DnsMetrics;
  readonly log: Logger;
  readonly tcpLimits?: Partial<TcpLimits>;
}

/** Room for a burst of some 10,000 queries while the process is at something else. */
const RECEIVE_BUFFER_BYTES = 4 << 20;

export class DnsListener implements Startable {
  readonly #options: DnsListenerOptions;
  /** For answers from the cache over TCP. */
  readonly #tcpAnswer = Buffer.allocUnsafeSlow(MAX_MESSAGE_BYTES);
  #port = 0;

  constructor(options: DnsListenerOptions) {
    this.#options = options;
  }

  /** The port in use: of interest where 0 was asked for. */
  get port(): number {
    return this.#port;
  }

  /** Opens all sockets or, when one cannot be opened, none. */
  async start(signal: AbortSignal): Promise<void> {
    const open: { close(): void }[] = [];
    const closeAll = () => {
      for (const socket of open) socket.close();
    };
    this.#port = this.#options.port;
    try {
      for (const address of this.#options.addresses) {
        open.push(this.#bindUdp(address));
        const respond = (message: Buffer) => this.#message(message);
        open.push(await listenTcp({ address, port: this.#port, respond, limits: this.#options.tcpLimits }));
        signal.throwIfAborted();
      }
    } catch (error) {
      closeAll();
      throw error;
    }
    signal.addEventListener('abort', closeAll, { once: true });
  }

  #bindUdp(address: string): UdpBatchSocket {
    const fd = bindUdp({ address, port: this.#port });
    this.#port = socketAddress(fd).port;
    const socket: UdpBatchSocket = new UdpBatchSocket(fd, (packet, length, response, slot) =>
      this.#datagram(socket, packet, length, response, slot),
    );
    socket.setReceiveBuffer(RECEIVE_BUFFER_BYTES);
    return socket;
  }

  #datagram(socket: UdpBatchSocket, packet: Buffer, length: number, out: Buffer, slot: number): number {
    const { cache, counts, log } = this.#options;
    const found = cache.find(packet, length, 'udp', out);
    if (found > 0) {
      counts.udp++;
      return found;
    }
    // The slot is used again before a late answer is there.
    const response = this.#respond(Buffer.from(packet.subarray(0, length)), 'udp');
    if (response === undefined) return 0;
    const sender = socket.sender(slot);
    if (!Buffer.isBuffer(response)) {
      response.then(
        (late) => socket.send(late, sender),
        (error) => log.warn({ error }, `dns: ${messageOf(error)}`),
      );
      return 0;
    }
    if (response.length <= out.length) return response.copy(out);
    socket.send(response, sender);
    return 0;
  }

  #message(message: Buffer): Buffer | Promise<Buffer> | undefined {
    const { cache, counts } = this.#options;
    const found = cache.find(message, message.length, 'tcp', this.#tcpAnswer);
    if (found === 0) return this.#respond(message, 'tcp');
    counts.tcp++;
    return Buffer.from(this.#tcpAnswer.subarray(0, found));
  }

  #respond(packet: Buffer, transport: Transport): Buffer | Promise<Buffer> | undefined {
    const { counts, handler } = this.#options;
    const decoded = decodeQuery(packet);
    if (decoded.kind === 'query') {
      counts[transport]++;
      return handler(decoded.query, transport, packet);
    }
    counts.malformed++;
    return decoded.kind === 'refuse' ? decoded.response : undefined;
  }
}
