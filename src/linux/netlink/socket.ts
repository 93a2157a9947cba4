/**
 * A netlink socket: requests with their answers, dumps, and batches, all synchronous.
 *
 * The kernel works on a request inside send(), so the answer is there when recv() is called: nothing blocks. A receive
 * timeout stands behind that as a guard, so that a bug is an error and not a hang. Answers that belong to an earlier,
 * failed request are recognised by their sequence number and dropped.
 */
import { ERRNO, isPermission, KernelError } from '../errors.ts';
import { AF_NETLINK, check, lastErrno, libc, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET, setSocketOption } from '../libc.ts';
import { type NetworkNamespace, runIn } from '../netns.ts';
import {
  type Acknowledgement,
  decodeAcknowledgement,
  decodeMessages,
  type NetlinkMessage,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
} from './reader.ts';
import type { MessageWriter } from './writer.ts';

// Protocols and socket options, linux/netlink.h
export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_NETFILTER = 12;
export const NETLINK_GENERIC = 16;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
// asm-generic/socket.h, bits/socket.h
const SO_RCVTIMEO = 20;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const SOCKADDR_NL_SIZE = 12;
/** ioctl on any socket: a descriptor of its network namespace (linux/sockios.h). */
const SIOCGSKNS = 0x894c;

/** The kernel fills at most 32 KiB of a dump into one datagram; twice that leaves room for every single message. */
const RECEIVE_SIZE = 65536;
/** Room for the error answers of a whole batch, bytes. */
const REQUEST_BUFFER = 4 << 20;
/** Room for notifications between two turns of the event loop, bytes. */
const MONITOR_BUFFER = 8 << 20;
/** What the kernel's own bookkeeping may take of a send buffer beside the bytes. */
const SEND_OVERHEAD = 4096;
const GUARD_SECONDS = 10;
/** A dump is repeated when something changed under it; after so many times the caller should know. */
const DUMP_ATTEMPTS = 20;

/** All sockets share it: it is copied from before anything else can run. */
const receiveBuffer = Buffer.alloc(RECEIVE_SIZE);

/** One message of a batch that the kernel refused. */
export interface BatchFailure {
  /** Position in the batch, from 0. */
  readonly index: number;
  readonly errno: number;
  readonly message: string | undefined;
  /** Where in the message the bad attribute begins, if the kernel says so. */
  readonly badOffset?: number | undefined;
}

export class NetlinkSocket implements Disposable {
  #fd: number;
  #sequence = 0;
  /** What the send buffer was grown to; a new socket takes 200 KiB at least (net.core.wmem_default). */
  #sendBuffer = 128 << 10;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Opens a socket for requests inside a namespace (the current one when none is given). 14 us. */
  static open(protocol: number, ns?: NetworkNamespace): NetlinkSocket {
    return new NetlinkSocket(runIn(ns, () => openDescriptor(protocol, REQUEST_BUFFER)));
  }

  /** Opens a socket that receives the notifications of multicast groups in a namespace. */
  static openMonitor(protocol: number, groups: readonly number[], ns: NetworkNamespace): NetlinkSocket {
    const fd = ns.run(() => openDescriptor(protocol, MONITOR_BUFFER));
    const socket = new NetlinkSocket(fd);
    try {
      for (const group of groups) setSocketOption(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
    } catch (error) {
      socket.close();
      throw error;
    }
    return socket;
  }

  get fd(): number {
    if (this.#fd < 0) throw new Error('the netlink socket is closed');
    return this.#fd;
  }

  /** A descriptor of the namespace that the socket lives in; the caller closes it. */
  namespaceFd(): number {
    return check('get the namespace of a netlink socket', libc.ioctl(this.fd, SIOCGSKNS, null));
  }

  /** Sends one message and waits for its acknowledgement; answers before it go to `onMessage`. Throws KernelError. */
  request(writer: MessageWriter, operation: string, onMessage?: (message: NetlinkMessage) => void): void {
    const sequence = this.#send(writer, operation, 'ack');
    this.#receiveUntil(operation, (message) => {
      if (message.sequence !== sequence) return false;
      if (message.type !== NLMSG_ERROR) {
        onMessage?.(message);
        return false;
      }
      throwOnError(operation, decodeAcknowledgement(message));
      return true;
    });
  }

  /** Sends a dump request and returns what `decode` makes of each answer; undefined is left out. */
  dump<T>(write: () => MessageWriter, operation: string, decode: (message: NetlinkMessage) => T | undefined): T[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const results: T[] = [];
      if (this.#dumpOnce(write(), operation, decode, results) === 'whole') return results;
    }
    throw new KernelError(operation, ERRNO['EAGAIN']!, `changed ${DUMP_ATTEMPTS} times while it was read`);
  }

  /**
   * Sends all messages of the writer in one go and returns those that the kernel refused; it goes on after a refused
   * one. Only the last message is acknowledged, because the kernel always answers errors.
   */
  batch(writer: MessageWriter, operation: string): BatchFailure[] {
    if (writer.count === 0) return [];
    const failures: BatchFailure[] = [];
    const first = this.#send(writer, operation, 'ack');
    const last = (first + writer.count - 1) >>> 0;
    this.#receiveUntil(operation, (message) => {
      const index = (message.sequence - first) >>> 0;
      if (message.type !== NLMSG_ERROR || index >= writer.count) return false;
      const { errno, message: text } = decodeAcknowledgement(message);
      if (errno !== 0) failures.push({ index, errno, message: text });
      return message.sequence === last;
    });
    return failures;
  }

  /**
   * Sends an nfnetlink batch (BEGIN, changes of which the last asks for an acknowledgement, END), which the kernel applies
   * as a whole or not at all, and returns the messages that it refused; index 0 is the batch itself, refused at its
   * commit. With "in pool" a pool thread works through it and the event loop goes on; nothing else may use the socket
   * meanwhile. Throws KernelError when the kernel does not take the bytes.
   */
  async transactInPool(writer: MessageWriter, operation: string): Promise<BatchFailure[]> {
    const { bytes, first } = this.#prepare(writer);
    const sent = await new Promise<number>((resolve, reject) => {
      libc.send.async(this.fd, bytes, bytes.length, 0, (error: unknown, result: number) =>
        error ? reject(error) : resolve(result),
      );
    });
    // The errno of a pool thread cannot be had: what was not taken is tried again here.
    if (sent < 0) check(operation, libc.send(this.fd, bytes, bytes.length, 0));
    return this.#receiveOutcome(writer, first, operation);
  }

  /** As `transactInPool`, in this thread. */
  transact(writer: MessageWriter, operation: string): BatchFailure[] {
    const { bytes, first } = this.#prepare(writer);
    check(operation, libc.send(this.fd, bytes, bytes.length, 0));
    return this.#receiveOutcome(writer, first, operation);
  }

  #prepare(writer: MessageWriter): { readonly bytes: Buffer; readonly first: number } {
    const first = this.#takeSequence(writer);
    const bytes = writer.finish(first);
    if (bytes.length > this.#sendBuffer) {
      growBuffer(this.fd, SO_SNDBUFFORCE, SO_SNDBUF, bytes.length + SEND_OVERHEAD);
      this.#sendBuffer = bytes.length;
    }
    return { bytes, first };
  }

  #receiveOutcome(writer: MessageWriter, first: number, operation: string): BatchFailure[] {
    const failures: BatchFailure[] = [];
    const acknowledged = writer.count - 2;
    this.#receiveUntil(operation, (message) => {
      const index = (message.sequence - first) >>> 0;
      if (message.type !== NLMSG_ERROR || index >= writer.count) return false;
      const { errno, message: text, badOffset } = decodeAcknowledgement(message);
      if (errno !== 0) failures.push({ index, errno, message: text, badOffset });
      return index === acknowledged || (index === 0 && errno !== 0);
    });
    return failures;
  }

  /**
   * Takes what has arrived, without waiting: for sockets that receive notifications. Returns 'overrun' when the kernel
   * had to drop some (ENOBUFS): the caller must read the whole state again.
   */
  takeArrived(onMessage: (message: NetlinkMessage) => void): 'taken' | 'overrun' {
    let outcome: 'taken' | 'overrun' = 'taken';
    while (this.#fd >= 0) {
      const length = libc.recv(this.#fd, receiveBuffer, RECEIVE_SIZE, MSG_DONTWAIT | MSG_TRUNC);
      if (length < 0) {
        const errno = lastErrno();
        if (errno === ERRNO['EAGAIN']) break;
        if (errno === ERRNO['EINTR']) continue;
        if (errno !== ERRNO['ENOBUFS']) throw new KernelError('receive notifications', errno);
        outcome = 'overrun';
        continue;
      }
      if (length === 0 || length > RECEIVE_SIZE) continue;
      for (const message of decodeMessages(Buffer.from(receiveBuffer.subarray(0, length)))) onMessage(message);
    }
    return outcome;
  }

  close(): void {
    if (this.#fd < 0) return;
    libc.close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #dumpOnce<T>(
    writer: MessageWriter,
    operation: string,
    decode: (message: NetlinkMessage) => T | undefined,
    results: T[],
  ): 'whole' | 'interrupted' {
    const sequence = this.#send(writer, operation, 'as is');
    let outcome: 'whole' | 'interrupted' = 'whole';
    this.#receiveUntil(operation, (message) => {
      if (message.sequence !== sequence) return false;
      if ((message.flags & NLM_F_DUMP_INTR) !== 0) outcome = 'interrupted';
      if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
        throwOnError(operation, decodeAcknowledgement(message));
        return true;
      }
      const result = decode(message);
      if (result !== undefined) results.push(result);
      return false;
    });
    return outcome;
  }

  /** Returns the sequence number of the first message. */
  #send(writer: MessageWriter, operation: string, acknowledge: 'ack' | 'as is'): number {
    const first = this.#takeSequence(writer);
    const bytes = writer.finish(first, acknowledge);
    check(operation, libc.send(this.fd, bytes, bytes.length, 0));
    return first;
  }

  #takeSequence(writer: MessageWriter): number {
    const first = (this.#sequence + 1) >>> 0;
    this.#sequence = (this.#sequence + writer.count) >>> 0;
    return first;
  }

  #receiveUntil(operation: string, isLast: (message: NetlinkMessage) => boolean): void {
    for (;;) {
      const length = libc.recv(this.fd, receiveBuffer, RECEIVE_SIZE, MSG_TRUNC);
      if (length < 0) {
        const errno = lastErrno();
        if (errno === ERRNO['EINTR']) continue;
        throw new KernelError(operation, errno, errno === ERRNO['EAGAIN'] ? 'the kernel did not answer' : undefined);
      }
      if (length > RECEIVE_SIZE) throw new KernelError(operation, ERRNO['EMSGSIZE']!, `an answer of ${length} bytes`);
      // A copy, because a callback may use the shared buffer for a request of its own.
      for (const message of decodeMessages(Buffer.from(receiveBuffer.subarray(0, length)))) {
        if (message.type !== NLMSG_NOOP && isLast(message)) return;
      }
    }
  }
}

function throwOnError(operation: string, { errno, message }: Acknowledgement): void {
  if (errno !== 0) throw new KernelError(operation, errno, message);
}

function openDescriptor(protocol: number, receiveBytes: number): number {
  const fd = check('open a netlink socket', libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  try {
    const timeout = Buffer.alloc(16);
    timeout.writeBigInt64LE(BigInt(GUARD_SECONDS));
    check('set a receive timeout', libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length));
    // Without a port of its own a socket counts as the sender of most notifications and does not get them.
    const address = Buffer.alloc(SOCKADDR_NL_SIZE);
    address.writeUInt16LE(AF_NETLINK);
    check('bind a netlink socket', libc.bind(fd, address, address.length));
    growBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, receiveBytes);
    setSocketOption(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
    setSocketOption(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
    if (protocol === NETLINK_ROUTE) setSocketOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** Beyond net.core.rmem_max or wmem_max where the process may; else as far as it goes. */
function growBuffer(fd: number, forced: number, option: number, bytes: number): void {
  try {
    setSocketOption(fd, SOL_SOCKET, forced, bytes);
  } catch (error) {
    if (!isPermission(error)) throw error;
    setSocketOption(fd, SOL_SOCKET, option, bytes);
  }
}
