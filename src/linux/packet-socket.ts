/**
 * Raw Ethernet frames of one protocol on one link: packet(7). For the few things that are said below IP, such as "this
 * address is here now" (ARP, NDP).
 *
 * The socket stays in the namespace it was opened in. It sees frames that arrive, not those this machine sends. A classic
 * BPF program may choose which of them reach it; it is attached before the protocol is bound, so nothing slips by.
 */
import { ERRNO, KernelError } from './errors.ts';
import { type Watch, watchReadable } from './fd-watch.ts';
import { addressOf, check, lastErrno, libc, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW, SOL_SOCKET } from './libc.ts';
import { parseMac } from './netlink/reader.ts';
import { type NetworkNamespace, runIn } from './netns.ts';

// bits/socket.h, linux/if_packet.h, asm-generic/socket.h
const AF_PACKET = 17;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_DROP_MEMBERSHIP = 2;
const PACKET_MR_MULTICAST = 0;
const SO_ATTACH_FILTER = 26;
const MSG_DONTWAIT = 0x40;
/** The longest frame that is read; longer ones are cut. */
const FRAME_BYTES = 2048;
/** Frames taken in one turn of the event loop. */
const FRAMES_PER_TURN = 64;

/** One instruction of classic BPF (linux/filter.h, struct sock_filter). */
export type BpfInstruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number];

export interface PacketSocketOptions {
  /** Where; default the current namespace. */
  readonly ns?: NetworkNamespace;
  readonly ifindex: number;
  /** The Ethernet protocol (linux/if_ether.h): 0x0806 is ARP. */
  readonly protocol: number;
  readonly filter?: readonly BpfInstruction[];
}

export class PacketSocket implements Disposable {
  readonly #ifindex: number;
  readonly #buffer = Buffer.allocUnsafeSlow(FRAME_BYTES);
  #fd: number;
  #watch: Watch | undefined;

  private constructor(fd: number, ifindex: number) {
    this.#fd = fd;
    this.#ifindex = ifindex;
  }

  /** Throws ENODEV when the namespace has no such link, EPERM without CAP_NET_RAW. */
  static open({ ns, ifindex, protocol, filter }: PacketSocketOptions): PacketSocket {
    const operation = `open a packet socket for protocol 0x${protocol.toString(16)} on link ${ifindex}`;
    const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
    const fd = runIn(ns, () => check(operation, libc.socket(AF_PACKET, type, 0)));
    try {
      if (filter) attachFilter(fd, filter);
      const address = encodeLinkAddress(ifindex, protocol);
      check(operation, libc.bind(fd, address, address.length));
      return new PacketSocket(fd, ifindex);
    } catch (error) {
      libc.close(fd);
      throw error;
    }
  }

  /** Sends a whole frame, Ethernet header included. Throws ENETDOWN when the link is down. */
  send(frame: Uint8Array): void {
    check(`send a frame on link ${this.#ifindex}`, libc.send(this.#open(), frame, frame.length, MSG_DONTWAIT));
  }

  /**
   * Calls back for each frame that arrives, until closed; the frame is valid during the call only. `onError` is told what
   * the kernel says of the link (ENETDOWN when it goes down).
   */
  receive(onFrame: (frame: Buffer) => void, onError: (error: KernelError) => void = () => {}): void {
    if (this.#watch) throw new Error('this packet socket has its receiver already');
    this.#watch = watchReadable(this.#open(), () => this.#take(onFrame, onError));
  }

  #take(onFrame: (frame: Buffer) => void, onError: (error: KernelError) => void): void {
    for (let i = 0; i < FRAMES_PER_TURN && this.#fd >= 0; i++) {
      const length = libc.recv(this.#fd, this.#buffer, FRAME_BYTES, MSG_DONTWAIT);
      if (length >= 0) {
        onFrame(this.#buffer.subarray(0, length));
        continue;
      }
      const errno = lastErrno();
      if (errno === ERRNO['EAGAIN'] || errno === ERRNO['EINTR']) return;
      onError(new KernelError(`receive frames on link ${this.#ifindex}`, errno));
      return;
    }
  }

  /** From now on the link lets frames to this multicast address in. Counted: as many leaves as joins. */
  joinMulticast(mac: string): void {
    this.#membership('join', PACKET_ADD_MEMBERSHIP, mac);
  }

  leaveMulticast(mac: string): void {
    this.#membership('leave', PACKET_DROP_MEMBERSHIP, mac);
  }

  /** struct packet_mreq */
  #membership(verb: string, option: number, mac: string): void {
    const request = Buffer.alloc(16);
    request.writeInt32LE(this.#ifindex, 0);
    request.writeUInt16LE(PACKET_MR_MULTICAST, 4);
    request.writeUInt16LE(6, 6);
    request.set(parseMac(mac), 8);
    const result = libc.setsockopt(this.#open(), SOL_PACKET, option, request, request.length);
    check(`${verb} multicast ${mac} on link ${this.#ifindex}`, result);
  }

  #open(): number {
    if (this.#fd < 0) throw new Error('the packet socket is closed');
    return this.#fd;
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#watch?.close();
    libc.close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** struct sockaddr_ll without a hardware address. */
function encodeLinkAddress(ifindex: number, protocol: number): Buffer {
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(protocol, 2);
  address.writeInt32LE(ifindex, 4);
  return address;
}

/** struct sock_fprog: a count and, at the next multiple of 8, where the instructions stand. */
function attachFilter(fd: number, filter: readonly BpfInstruction[]): void {
  const program = Buffer.allocUnsafeSlow(8 * filter.length);
  filter.forEach(([code, jumpTrue, jumpFalse, k], i) => {
    program.writeUInt16LE(code, 8 * i);
    program.writeUInt8(jumpTrue, 8 * i + 2);
    program.writeUInt8(jumpFalse, 8 * i + 3);
    program.writeUInt32LE(k, 8 * i + 4);
  });
  const header = Buffer.alloc(16);
  header.writeUInt16LE(filter.length, 0);
  header.writeBigUInt64LE(addressOf(program), 8);
  check('attach a BPF filter', libc.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, header, header.length));
}
