/**
 * Asks other nodes' agents whether their Service rules are as new as a version of the EndpointSlices. What a node has said
 * once is remembered, and a question that is under way is shared, so many pods that end at once cost few datagrams.
 */
import { randomBytes } from 'node:crypto';
import { type Clock, systemClock, type Timer } from '../../base/clock.ts';
import { type Family, familyOf } from '../../base/ip.ts';
import type { NetworkNamespace } from '../../linux/netns.ts';
import { bindUdp, encodeSocketAddress } from '../../linux/sockets.ts';
import { UdpBatchSocket } from '../../linux/udp-batch.ts';
import { DATAGRAM_BYTES, decodeDatagram, encodeDatagram } from './protocol.ts';

export interface SyncClientOptions {
  readonly port: number;
  readonly ns?: NetworkNamespace;
  readonly clock?: Clock;
}

/** synced: its rules are as new; silent: it has never answered anything; late: it does, but is not there yet. */
export type SyncOutcome = 'synced' | 'silent' | 'late';

/**
 * A node that has never said anything is silent after so many milliseconds: the first time it may only be slow, later on
 * nobody is likely to be there. One that has answered before is waited for: an agent that starts anew, or is held up.
 */
const SILENT_MS = { first: 2_000, again: 400 } as const;
/** Pauses between two questions, in milliseconds; the last one repeats. Datagrams can be lost. */
const PAUSES_MS = [30, 70, 150, 300, 1000] as const;

interface Question {
  readonly nonce: string;
  readonly address: string;
  readonly version: number;
  readonly timeoutMs: number;
  readonly done: (outcome: SyncOutcome) => void;
  readonly promise: Promise<SyncOutcome>;
  attempts: number;
  /** The pauses so far, in milliseconds; one in which this machine stood still counts like any other. */
  waitedMs: number;
  timer?: Timer;
}

export class SyncClient implements Disposable {
  readonly #options: SyncClientOptions;
  readonly #clock: Clock;
  readonly #sockets = new Map<Family, UdpBatchSocket>();
  readonly #byNonce = new Map<string, Question>();
  readonly #byTarget = new Map<string, Question>();
  /** The newest version that a node said it has, by address. */
  readonly #known = new Map<string, number>();
  /** Addresses that have never answered. */
  readonly #silent = new Set<string>();
  readonly #datagram = Buffer.alloc(DATAGRAM_BYTES);

  constructor(options: SyncClientOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Resolves when the node's rules are as new as the version, or it is silent, or the time (milliseconds) is up. */
  waitFor(address: string, version: number, timeoutMs: number): Promise<SyncOutcome> {
    if ((this.#known.get(address) ?? -1) >= version) return Promise.resolve('synced');
    const target = `${address} ${version}`;
    const shared = this.#byTarget.get(target);
    if (shared) return shared.promise;
    const { promise, resolve } = Promise.withResolvers<SyncOutcome>();
    const question: Question = {
      nonce: randomBytes(16).toString('hex'),
      address,
      version,
      timeoutMs,
      done: resolve,
      promise,
      attempts: 0,
      waitedMs: 0,
    };
    this.#byNonce.set(question.nonce, question);
    this.#byTarget.set(target, question);
    this.#ask(question);
    return promise;
  }

  #ask(question: Question): void {
    const { address, timeoutMs, waitedMs } = question;
    const answers = this.#known.has(address);
    const limit = answers ? timeoutMs : Math.min(timeoutMs, SILENT_MS[this.#silent.has(address) ? 'again' : 'first']);
    if (waitedMs >= limit) {
      if (!answers) this.#silent.add(address);
      return this.#end(question, answers ? 'late' : 'silent');
    }
    const pause = Math.min(PAUSES_MS[Math.min(question.attempts++, PAUSES_MS.length - 1)]!, limit - waitedMs);
    question.waitedMs += pause;
    question.timer = this.#clock.after(pause, () => this.#ask(question));
    encodeDatagram({ kind: 'question', nonce: question.nonce, version: question.version }, this.#datagram);
    this.#socketFor(question.address).send(this.#datagram, encodeSocketAddress(question.address, this.#options.port));
  }

  #socketFor(address: string): UdpBatchSocket {
    const family = familyOf(address);
    let socket = this.#sockets.get(family);
    if (!socket) {
      const { ns } = this.#options;
      const fd = bindUdp({ address: family === 4 ? '0.0.0.0' : '::', port: 0, ...(ns ? { ns } : {}) });
      socket = new UdpBatchSocket(fd, (packet, length) => this.#onAnswer(packet, length));
      this.#sockets.set(family, socket);
    }
    return socket;
  }

  #onAnswer(packet: Buffer, length: number): 0 {
    const answer = decodeDatagram(packet, length);
    const question = answer?.kind === 'answer' ? this.#byNonce.get(answer.nonce) : undefined;
    if (!answer || !question) return 0;
    this.#silent.delete(question.address);
    if (answer.version > (this.#known.get(question.address) ?? -1)) this.#known.set(question.address, answer.version);
    if (answer.version >= question.version) this.#end(question, 'synced');
    return 0;
  }

  #end(question: Question, outcome: SyncOutcome): void {
    question.timer?.cancel();
    this.#byNonce.delete(question.nonce);
    this.#byTarget.delete(`${question.address} ${question.version}`);
    question.done(outcome);
  }

  /** Forgets what nodes said that are none of these any more: an address may come back with older rules. */
  keepOnly(addresses: ReadonlySet<string>): void {
    for (const address of this.#known.keys()) if (!addresses.has(address)) this.#known.delete(address);
    for (const address of this.#silent) if (!addresses.has(address)) this.#silent.delete(address);
  }

  close(): void {
    for (const question of this.#byNonce.values()) this.#end(question, 'silent');
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
