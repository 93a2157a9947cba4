/**
 * Hands a query on to the upstream name servers, one after the other, each with a time-out. Only used where a cluster has a
 * way out (`--uplink`) or runs on nodes that exist. The response's id, question and sender are checked; id and source port
 * are random for every query (RFC 5452). Responses are passed on as they are and not kept.
 */
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { familyOf } from '../../base/ip.ts';
import type { DnsMetrics, Handler, Outside, Transport } from './chain.ts';
import { decodeResponse } from './decode.ts';
import { encodeQuery } from './encode.ts';
import { Flag, HEADER_BYTES, Rcode } from './wire.ts';

export interface Upstream {
  readonly address: string;
  readonly port: number;
}

export interface ForwardOptions {
  readonly upstreams: readonly Upstream[];
  readonly counts: DnsMetrics;
  /** For one upstream, in milliseconds. */
  readonly timeoutMs?: number;
  /** Queries on their way at once; more fail (SERVFAIL). */
  readonly maxPending?: number;
}

export class Forwarder {
  readonly #options: Required<ForwardOptions>;
  #pending = 0;

  constructor(options: ForwardOptions) {
    this.#options = { timeoutMs: 2000, maxPending: 1000, ...options };
  }

  /** The last link of the chain. */
  readonly handler: Handler = async (query, transport, packet) => {
    const response = await this.#ask(packet, HEADER_BYTES + query.question.length, transport);
    response.writeUInt16BE(query.id, 0);
    return response;
  };

  /** Asks for where an alias leads to; over TCP when the answer is too long for a datagram. */
  readonly outside: Outside = async (name, type) => {
    const packet = encodeQuery({ id: 0, name, type });
    // Header, question, OPT.
    const questionEnd = packet.length - 11;
    let response = decodeResponse(await this.#ask(packet, questionEnd, 'udp'));
    if (response?.truncated) response = decodeResponse(await this.#ask(packet, questionEnd, 'tcp'));
    if (!response) throw new Error(`the upstream server's answer for ${name} is broken`);
    return { ...response, authoritative: false, authority: [], additional: [] };
  };

  async #ask(packet: Buffer, questionEnd: number, transport: Transport): Promise<Buffer> {
    const { upstreams, counts, timeoutMs, maxPending } = this.#options;
    if (this.#pending >= maxPending) throw new Error(`more than ${maxPending} queries wait for upstream servers`);
    this.#pending++;
    counts.forwarded++;
    try {
      let last: unknown = new Error('there is no upstream server');
      for (const upstream of upstreams) {
        const request = Buffer.from(packet);
        request.writeUInt16BE(randomInt(0x10000), 0);
        const exchange = { upstream, request, questionEnd, timeoutMs };
        try {
          return await (transport === 'tcp' ? overTcp(exchange) : overUdp(exchange));
        } catch (error) {
          last = error;
        }
      }
      throw last;
    } finally {
      this.#pending--;
    }
  }
}

interface Exchange {
  readonly upstream: Upstream;
  readonly request: Buffer;
  /** Where the request's question ends, which begins behind the header. */
  readonly questionEnd: number;
  readonly timeoutMs: number;
}

/** Whether the bytes answer the request: same id, a response, same question; or a refusal without a question. */
function answers(response: Buffer, { request, questionEnd }: Exchange): boolean {
  if (response.length < HEADER_BYTES || response.readUInt16BE(0) !== request.readUInt16BE(0)) return false;
  const flags = response.readUInt16BE(2);
  if (!(flags & Flag.response)) return false;
  if (response.readUInt16BE(4) === 0) {
    return [Rcode.formatError, Rcode.serverFailure, Rcode.notImplemented, Rcode.refused].some(
      (rcode) => rcode === (flags & 0xf),
    );
  }
  const question = (packet: Buffer) => packet.toString('latin1', HEADER_BYTES, questionEnd).toLowerCase();
  return response.length >= questionEnd && question(response) === question(request);
}

function overUdp(exchange: Exchange): Promise<Buffer> {
  const { upstream, request, timeoutMs } = exchange;
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const socket = createSocket(familyOf(upstream.address) === 4 ? 'udp4' : 'udp6');
  const timer = setTimeout(() => reject(timedOut(exchange)), timeoutMs);
  socket.on('error', reject);
  // Others' datagrams do not come: the socket is connected. Guesses at the id are passed over.
  socket.on('message', (response) => {
    if (answers(response, exchange)) resolve(response);
  });
  socket.connect(upstream.port, upstream.address, (error?: Error) => {
    if (error) reject(error);
    else socket.send(request, (failure) => failure && reject(failure));
  });
  return promise.finally(() => {
    clearTimeout(timer);
    socket.close();
  });
}

function overTcp(exchange: Exchange): Promise<Buffer> {
  const { upstream, request, timeoutMs } = exchange;
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const socket = connect({ host: upstream.address, port: upstream.port });
  const timer = setTimeout(() => reject(timedOut(exchange)), timeoutMs);
  let received: Buffer = Buffer.alloc(0);
  socket.on('error', reject);
  socket.on('close', () => reject(new Error(`${upstream.address} closed the connection`)));
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
    const response = Buffer.from(received.subarray(2, 2 + received.readUInt16BE(0)));
    if (answers(response, exchange)) resolve(response);
    else reject(new Error(`${upstream.address} sent something else than the answer`));
  });
  const length = Buffer.alloc(2);
  length.writeUInt16BE(request.length);
  socket.write(Buffer.concat([length, request]));
  return promise.finally(() => {
    clearTimeout(timer);
    socket.destroy();
  });
}

function timedOut({ upstream, timeoutMs }: Exchange): Error {
  return new Error(`${upstream.address} did not answer within ${timeoutMs} ms`);
}
