/**
 * Tells other nodes' agents how new the Service rules of this node are: at once, and again when they have become as new as
 * was asked for. Nothing is sent unless somebody asks; who waits is forgotten after a while and asks again.
 */
import { type Clock, systemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { NetworkNamespace } from '../../linux/netns.ts';
import { bindUdp } from '../../linux/sockets.ts';
import { UdpBatchSocket } from '../../linux/udp-batch.ts';
import { DATAGRAM_BYTES, decodeDatagram, encodeDatagram } from './protocol.ts';

export interface SyncServerOptions {
  /** The node's own addresses. */
  readonly addresses: readonly string[];
  readonly port: number;
  readonly ns?: NetworkNamespace;
  readonly log: Logger;
  readonly clock?: Clock;
}

/** Questions remembered; the oldest is forgotten for a new one. */
const MAX_WAITING = 10_000;
/** How long a question is remembered, in milliseconds: longer than askers pause between two. */
const REMEMBER_MS = 5_000;

interface Waiting {
  readonly socket: UdpBatchSocket;
  readonly sender: Buffer;
  readonly version: number;
  readonly until: number;
}

export class SyncServer implements Startable {
  readonly #options: SyncServerOptions;
  readonly #clock: Clock;
  readonly #sockets: UdpBatchSocket[] = [];
  /** By nonce, the oldest first. */
  readonly #waiting = new Map<string, Waiting>();
  readonly #datagram = Buffer.alloc(DATAGRAM_BYTES);
  #version = 0;

  constructor(options: SyncServerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Listens. An address that cannot be bound is logged: others then do not wait for this node's answer on it. */
  async start(signal: AbortSignal): Promise<void> {
    for (const address of this.#options.addresses) this.#listen(address);
    signal.addEventListener('abort', () => this.#stop(), { once: true });
  }

  #listen(address: string): void {
    const { port, ns, log } = this.#options;
    try {
      const fd = bindUdp({ address, port, ...(ns ? { ns } : {}) });
      const socket: UdpBatchSocket = new UdpBatchSocket(fd, (packet, length, response, slot) =>
        this.#answer(socket, packet, length, response, slot),
      );
      this.#sockets.push(socket);
    } catch (error) {
      log.warn({ error, address, port }, `answering other nodes: ${messageOf(error)}`);
    }
  }

  #answer(socket: UdpBatchSocket, packet: Buffer, length: number, response: Buffer, slot: number): number {
    const question = decodeDatagram(packet, length);
    if (question?.kind !== 'question') return 0;
    const { nonce, version } = question;
    if (version > this.#version) {
      this.#waiting.delete(nonce);
      if (this.#waiting.size >= MAX_WAITING) this.#waiting.delete(this.#waiting.keys().next().value!);
      const until = this.#clock.now() + REMEMBER_MS;
      this.#waiting.set(nonce, { socket, sender: socket.sender(slot), version, until });
    }
    return encodeDatagram({ kind: 'answer', nonce, version: this.#version }, response);
  }

  /** The rules of this node have everything up to this version of the EndpointSlices. */
  advance(version: number): void {
    this.#version = Math.max(this.#version, version);
    if (this.#waiting.size === 0) return;
    const now = this.#clock.now();
    for (const [nonce, { socket, sender, version: asked, until }] of this.#waiting) {
      if (asked > this.#version && until > now) continue;
      this.#waiting.delete(nonce);
      if (asked > this.#version) continue;
      encodeDatagram({ kind: 'answer', nonce, version: this.#version }, this.#datagram);
      socket.send(this.#datagram, sender);
    }
  }

  /** Questions that are waiting. */
  get waiting(): number {
    return this.#waiting.size;
  }

  #stop(): void {
    for (const socket of this.#sockets) socket.close();
    this.#waiting.clear();
  }
}
