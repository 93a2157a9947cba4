/**
 * Hands a query on to the upstream name servers, one after the other, each with a time-out. Only used where a cluster has a
 * way out (`--uplink`) or runs on nodes that exist; the response is checked for the id and the question (RFC 5452).
 */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { familyOf } from '../../base/ip.ts';
import type { DnsMetrics, Handler, Transport } from './chain.ts';
import type { Query } from './wire.ts';

export interface Upstream {
  readonly address: string;
  readonly port: number;
}

export interface ForwardOptions {
  readonly upstreams: readonly Upstream[];
  readonly counts: DnsMetrics;
  /** For one upstream, in milliseconds. */
  readonly timeoutMs?: number;
  /** Queries on their way at once; more are refused by failing (SERVFAIL). */
  readonly maxPending?: number;
}

export function forward({ upstreams, counts, timeoutMs = 2000, maxPending = 1000 }: ForwardOptions): Handler {
  let pending = 0;
  return async (query, transport, packet) => {
    if (pending >= maxPending) throw new Error(`more than ${maxPending} queries wait for upstream servers`);
    pending++;
    counts.forwarded++;
    try {
      return await ask(upstreams, query, transport, packet, timeoutMs);
    } finally {
      pending--;
    }
  };
}

async function ask(
  upstreams: readonly Upstream[],
  query: Query,
  transport: Transport,
  packet: Buffer,
  timeoutMs: number,
): Promise<Buffer> {
  let last: unknown = new Error('there is no upstream server');
  for (const upstream of upstreams) {
    try {
      return await (transport === 'tcp' ? overTcp : overUdp)(upstream, query, packet, timeoutMs);
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

/** Whether the bytes answer the query: same id, a response, same question. */
function answers(response: Buffer, query: Query): boolean {
  return (
    response.length >= 12 + query.question.length &&
    response.readUInt16BE(0) === query.id &&
    (response[2]! & 0x80) !== 0 &&
    response
      .subarray(12, 12 + query.question.length)
      .toString('latin1')
      .toLowerCase() === query.question.toString('latin1').toLowerCase()
  );
}

function overUdp(upstream: Upstream, query: Query, packet: Buffer, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(familyOf(upstream.address) === 4 ? 'udp4' : 'udp6');
    const timer = setTimeout(
      () => end(new Error(`${upstream.address} did not answer within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const end = (result: Buffer | Error) => {
      clearTimeout(timer);
      socket.close();
      if (Buffer.isBuffer(result)) resolve(result);
      else reject(result);
    };
    socket.on('error', end);
    socket.on('message', (response) => {
      if (answers(response, query)) end(response);
    });
    socket.connect(upstream.port, upstream.address, () => socket.send(packet));
  });
}

function overTcp(upstream: Upstream, query: Query, packet: Buffer, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: upstream.address, port: upstream.port, timeout: timeoutMs });
    let received = Buffer.alloc(0);
    socket.on('timeout', () => socket.destroy(new Error(`${upstream.address} did not answer within ${timeoutMs} ms`)));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`${upstream.address} closed the connection`)));
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      const length = received.length < 2 ? undefined : received.readUInt16BE(0);
      if (length === undefined || received.length < 2 + length) return;
      const response = received.subarray(2, 2 + length);
      if (answers(response, query)) resolve(response);
      socket.destroy();
    });
    const length = Buffer.alloc(2);
    length.writeUInt16BE(packet.length);
    socket.write(Buffer.concat([length, packet]));
  });
}
