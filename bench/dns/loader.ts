/**
 * Asks a DNS server over UDP for the names of names.ts, from a process of its own, for a bounded time. Two ways:
 *
 *     window   as much as the server answers: a fixed number of questions is always on its way
 *     rate     so many questions a second, in equal portions every millisecond
 *
 * Argument: LoadOptions as JSON. Prints LoadResult as JSON. Every answer is checked for its address.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ipToBytes } from '../../src/base/ip.ts';
import { bindUdp, encodeSocketAddress } from '../../src/linux/sockets.ts';
import { UdpBatchSocket } from '../../src/linux/udp-batch.ts';
import { encodeQuery } from '../../src/node/dns/encode.ts';
import { addressOf, nameOf, SERVICES } from './names.ts';

export interface LoadOptions {
  readonly port: number;
  readonly seconds: number;
  /** Questions a second; as many as are answered when absent. */
  readonly rate?: number;
}

export interface LoadResult {
  readonly answers: number;
  readonly lost: number;
  readonly wrong: number;
  /** Milliseconds, of the `rate` way; what was lost counts as long as was waited for it. */
  readonly latencies: readonly number[];
}

const SOCKETS = 8;
const WINDOW_OF_SOCKET = 32;
const LOST_AFTER_MS = 500;

const { port, seconds, rate } = JSON.parse(process.argv[2]!) as LoadOptions;
const to = encodeSocketAddress('127.0.0.1', port);
const packets = Array.from({ length: SERVICES }, (_, i) => encodeQuery({ id: 0, name: nameOf(i), type: 1 }));
const addresses = Array.from({ length: SERVICES }, (_, i) => Buffer.from(ipToBytes(addressOf(i))));

const result = { answers: 0, lost: 0, wrong: 0, latencies: [] as number[] };
let asked = 0;
let running = true;

class Asker {
  readonly #socket: UdpBatchSocket;
  /** By id: when it was asked, 0 when nothing is on its way, and for whom. */
  readonly #times = new Float64Array(65_536);
  readonly #names = new Uint16Array(65_536);
  #id = 0;

  constructor() {
    this.#socket = new UdpBatchSocket(bindUdp({ address: '127.0.0.1', port: 0 }), (packet, length) => {
      this.#answered(packet, length);
      return 0;
    });
    this.#socket.setReceiveBuffer(4 << 20);
  }

  ask(): void {
    this.#id = (this.#id + 1) & 0xffff;
    const index = asked++ % SERVICES;
    const packet = packets[index]!;
    packet.writeUInt16BE(this.#id, 0);
    this.#names[this.#id] = index;
    this.#times[this.#id] = performance.now();
    this.#socket.send(packet, to);
  }

  /** Gives up what is long on its way, and in the `window` way asks anew. */
  sweep(): void {
    const limit = performance.now() - LOST_AFTER_MS;
    for (let id = 0; id < 65_536; id++) {
      if (this.#times[id] === 0 || this.#times[id]! > limit) continue;
      this.#times[id] = 0;
      result.lost++;
      if (rate !== undefined) result.latencies.push(LOST_AFTER_MS);
      else if (running) this.ask();
    }
  }

  #answered(packet: Buffer, length: number): void {
    const id = packet.readUInt16BE(0);
    const time = this.#times[id]!;
    if (time === 0) return;
    this.#times[id] = 0;
    result.answers++;
    if (rate !== undefined) result.latencies.push(performance.now() - time);
    // The address ends the answer, but for an OPT record of 11 bytes.
    const address = addresses[this.#names[id]!]!;
    const at = length - 11 - 4;
    if (address.compare(packet, at, at + 4) !== 0) result.wrong++;
    if (rate === undefined && running) this.ask();
  }

  close(): void {
    this.#socket.close();
  }
}

const askers = Array.from({ length: SOCKETS }, () => new Asker());
const sweeping = setInterval(() => {
  for (const one of askers) one.sweep();
}, LOST_AFTER_MS / 2);
if (rate === undefined) {
  for (const one of askers) for (let i = 0; i < WINDOW_OF_SOCKET; i++) one.ask();
  await sleep(seconds * 1000);
} else {
  const start = performance.now();
  for (let sent = 0; sent < rate * seconds; ) {
    const due = Math.min(rate * seconds, ((performance.now() - start) / 1000) * rate);
    for (; sent < due; sent++) askers[sent % SOCKETS]!.ask();
    await sleep(1);
  }
}
running = false;
await sleep(LOST_AFTER_MS + 100);
for (const one of askers) one.sweep();
clearInterval(sweeping);
for (const one of askers) one.close();
process.stdout.write(JSON.stringify(result));
