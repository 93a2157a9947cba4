/**
 * A UDP server's socket that takes and answers many datagrams per system call (recvmmsg, sendmmsg). Node's dgram makes one
 * call and several objects for each datagram; here a datagram costs no allocation: it is read from one slot of a fixed
 * arena and answered from another.
 *
 *     kernel -> recvmmsg -> slot i -> handler(packet, …, response) -> sendmmsg -> kernel
 *
 * What cannot be sent at once (the socket's buffer is full, the address is unreachable, a firewall says no) is dropped and
 * counted: datagrams may be lost, and whoever asked asks again.
 */
import { ERRNO } from './errors.ts';
import { type Watch, watchReadable } from './fd-watch.ts';
import { addressOf, lastErrno, libc, SOL_SOCKET, setSocketOption } from './libc.ts';

/** Datagrams of one system call. */
const SLOTS = 64;
/** Batches taken in one turn of the event loop: others must have their turn too. */
const BATCHES_PER_TURN = 4;
/** Bytes of a slot; a longer datagram is cut. */
export const SLOT_BYTES = 4096;

// asm-generic/socket.h
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const MSG_DONTWAIT = 0x40;

// struct mmsghdr on 64-bit machines (bits/socket.h): a msghdr of 56 bytes, the length, padding.
const MESSAGE_BYTES = 64;
const NAME = 0;
const NAME_LENGTH = 8;
const IOV = 16;
const IOV_COUNT = 24;
const LENGTH = 56;
/** struct iovec: address and length. */
const IOV_BYTES = 16;
/** sizeof(struct sockaddr_in6), the longest that comes, rounded up. */
const SOCKADDR_BYTES = 32;

/**
 * Takes a datagram: the first `length` bytes of `packet`, valid during the call. Writes its answer into `response` and
 * returns the answer's length, or 0 for none (now). `slot` names the sender to `sender()`. Must not throw.
 */
export type DatagramHandler = (packet: Buffer, length: number, response: Buffer, slot: number) => number;

export class UdpBatchSocket {
  readonly #fd: number;
  readonly #handler: DatagramHandler;
  readonly #watch: Watch;
  /** Everything that the kernel reads or writes stands in one piece of memory that does not move. */
  readonly #arena = Buffer.allocUnsafeSlow(
    SLOTS * (2 * (MESSAGE_BYTES + IOV_BYTES + SLOT_BYTES) + SOCKADDR_BYTES),
  ).fill(0);
  readonly #words = new Uint32Array(this.#arena.buffer);
  readonly #received: Side;
  readonly #sent: Side;
  readonly #names: number;
  #open = true;
  #dropped = 0;

  /** Owns the descriptor from now on: a bound, non-blocking UDP socket (`bindUdp`). */
  constructor(fd: number, handler: DatagramHandler) {
    this.#fd = fd;
    this.#handler = handler;
    this.#received = this.#side(0);
    this.#sent = this.#side(this.#received.end);
    this.#names = this.#sent.end;
    for (let i = 0; i < SLOTS; i++) {
      this.#pointTo(this.#received.messages + i * MESSAGE_BYTES + NAME, this.#nameAt(i));
      this.#pointTo(this.#sent.messages + i * MESSAGE_BYTES + NAME, this.#nameAt(i));
      this.#words[(this.#received.messages + i * MESSAGE_BYTES + NAME_LENGTH) >> 2] = SOCKADDR_BYTES;
    }
    this.#watch = watchReadable(fd, () => this.#receive());
  }

  /** Answers that the kernel did not take. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Asks for room for bursts; without CAP_NET_ADMIN the kernel gives at most net.core.rmem_max. */
  setReceiveBuffer(bytes: number): void {
    try {
      setSocketOption(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes);
    } catch {
      setSocketOption(this.#fd, SOL_SOCKET, SO_RCVBUF, bytes);
    }
  }

  /** The socket address of a datagram's sender, to be kept for `send`. Only during the handler's call. */
  sender(slot: number): Buffer {
    const length = this.#words[(this.#received.messages + slot * MESSAGE_BYTES + NAME_LENGTH) >> 2]!;
    return Buffer.from(this.#arena.subarray(this.#nameAt(slot), this.#nameAt(slot) + length));
  }

  /** Sends one datagram; does nothing once closed. */
  send(packet: Buffer, to: Buffer): void {
    if (!this.#open) return;
    if (libc.sendto(this.#fd, packet, packet.length, MSG_DONTWAIT, to, to.length) < 0) this.#dropped++;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch.close();
    libc.close(this.#fd);
  }

  #receive(): void {
    for (let batch = 0; batch < BATCHES_PER_TURN && this.#open; batch++) {
      const count = libc.recvmmsg(this.#fd, this.#received.headers, SLOTS, MSG_DONTWAIT, null);
      // Nothing there, or an error that belongs to an earlier datagram: the next event tells of more.
      if (count <= 0) return;
      this.#answer(count);
      if (count < SLOTS) return;
    }
  }

  #answer(count: number): void {
    const words = this.#words;
    let answers = 0;
    for (let i = 0; i < count; i++) {
      const from = (this.#received.messages + i * MESSAGE_BYTES) >> 2;
      const length = this.#handler(this.#received.slots[i]!, words[from + LENGTH / 4]!, this.#sent.slots[answers]!, i);
      if (length > 0) {
        const to = (this.#sent.messages + answers * MESSAGE_BYTES) >> 2;
        words[to] = words[from]!;
        words[to + 1] = words[from + 1]!;
        words[to + NAME_LENGTH / 4] = words[from + NAME_LENGTH / 4]!;
        words[(this.#sent.iovs + answers * IOV_BYTES + 8) >> 2] = length;
        answers++;
      }
    }
    this.#sendAll(answers);
    for (let i = 0; i < count; i++) {
      words[(this.#received.messages + i * MESSAGE_BYTES + NAME_LENGTH) >> 2] = SOCKADDR_BYTES;
    }
  }

  #sendAll(count: number): void {
    for (let at = 0; at < count && this.#open; ) {
      const headers = at === 0 ? this.#sent.headers : this.#sent.headers.subarray(at * MESSAGE_BYTES);
      const taken = libc.sendmmsg(this.#fd, headers, count - at, MSG_DONTWAIT);
      if (taken > 0) {
        at += taken;
      } else if (lastErrno() === ERRNO['EAGAIN']) {
        this.#dropped += count - at;
        return;
      } else {
        // The first of the rest cannot be sent; the others may be.
        this.#dropped++;
        at++;
      }
    }
  }

  /** Lays out the message headers, their iovecs and their slots, from an offset of the arena. */
  #side(start: number): Side {
    const iovs = start + SLOTS * MESSAGE_BYTES;
    const bytes = iovs + SLOTS * IOV_BYTES;
    const slots: Buffer[] = [];
    for (let i = 0; i < SLOTS; i++) {
      const message = start + i * MESSAGE_BYTES;
      this.#pointTo(message + IOV, iovs + i * IOV_BYTES);
      this.#words[(message + IOV_COUNT) >> 2] = 1;
      this.#pointTo(iovs + i * IOV_BYTES, bytes + i * SLOT_BYTES);
      this.#words[(iovs + i * IOV_BYTES + 8) >> 2] = SLOT_BYTES;
      slots.push(this.#arena.subarray(bytes + i * SLOT_BYTES, bytes + (i + 1) * SLOT_BYTES));
    }
    const headers = this.#arena.subarray(start, start + SLOTS * MESSAGE_BYTES);
    return { messages: start, iovs, slots, headers, end: bytes + SLOTS * SLOT_BYTES };
  }

  #nameAt(slot: number): number {
    return this.#names + slot * SOCKADDR_BYTES;
  }

  /** Writes the address of one offset of the arena at another. */
  #pointTo(at: number, target: number): void {
    this.#arena.writeBigUInt64LE(addressOf(this.#arena) + BigInt(target), at);
  }
}

/** The receiving or the sending half of the arena; numbers are offsets. */
interface Side {
  readonly messages: number;
  readonly headers: Buffer;
  readonly iovs: number;
  readonly slots: readonly Buffer[];
  readonly end: number;
}
