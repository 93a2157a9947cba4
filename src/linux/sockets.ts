/**
 * Sockets made inside a namespace and used outside of it: a socket stays where it was made. The descriptors are for
 * `server.listen({ fd })`, `dgram.createSocket(…).bind({ fd })` and `new net.Socket({ fd })`, which own and close
 * them. (Node's own `listen(port)` binds a turn later, when the namespace has been left.)
 */
import { type Family, familyOf, ipFromBytes, ipToBytes } from '../base/ip.ts';
import { ERRNO, KernelError } from './errors.ts';
import { watchWritable } from './fd-watch.ts';
import {
  AF_INET,
  AF_INET6,
  check,
  getSocketOption,
  lastErrno,
  libc,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  setSocketOption,
} from './libc.ts';
import { type NetworkNamespace, runIn } from './netns.ts';

// asm-generic/socket.h, linux/in.h, linux/in6.h
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_REUSEPORT = 15;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_FREEBIND = 15;
const IPV6_V6ONLY = 26;
const IPV6_FREEBIND = 78;
const POLLOUT = 4;

/** How many connections may wait to be accepted, as Node has it. */
const DEFAULT_BACKLOG = 511;
const DEFAULT_CONNECT_TIMEOUT_MS = 3000;

export interface BindOptions {
  /** Where; default the current namespace. */
  readonly ns?: NetworkNamespace;
  /** Its family is the socket's. */
  readonly address: string;
  /** 0: the kernel chooses one; ask `socketAddress`. */
  readonly port: number;
  /** Several sockets may share the port, the kernel spreads over them. */
  readonly reusePort?: boolean;
  /** The address need not exist yet. */
  readonly freebind?: boolean;
  /** Default true: '::' leaves IPv4 and its ports alone. False: it takes both families. */
  readonly v6only?: boolean;
}

export interface ConnectOptions {
  readonly ns?: NetworkNamespace;
  readonly address: string;
  readonly port: number;
  /** Source address. */
  readonly source?: string;
  readonly timeoutMs?: number;
}

/** A TCP socket that listens. */
export function listenTcp(options: BindOptions & { readonly backlog?: number }): number {
  return bound('listen on', SOCK_STREAM, options, (fd, operation) => {
    check(operation, libc.listen(fd, options.backlog ?? DEFAULT_BACKLOG));
  });
}

/** A UDP socket with an address. */
export function bindUdp(options: BindOptions): number {
  return bound('bind UDP', SOCK_DGRAM, options, () => {});
}

/** Connects; resolves with the descriptor of the connected socket. Throws ECONNREFUSED, ETIMEDOUT … */
export async function connectTcp(options: ConnectOptions): Promise<number> {
  const operation = describeConnect(options);
  const fd = beginConnect(options, operation);
  try {
    await writable(fd, operation, options.timeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS);
    throwOnSocketError(fd, operation);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** As `connectTcp`, but waits here. The descriptor is as non-blocking as the other's. */
export function connectTcpSync(options: ConnectOptions): number {
  const operation = describeConnect(options);
  const fd = beginConnect(options, operation);
  try {
    const request = Buffer.alloc(8);
    request.writeInt32LE(fd, 0);
    request.writeInt16LE(POLLOUT, 4);
    const ready = check(operation, libc.poll(request, 1, options.timeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS));
    if (ready === 0) throw new KernelError(operation, ERRNO['ETIMEDOUT']!);
    throwOnSocketError(fd, operation);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** The address and port a socket is bound to. */
export function socketAddress(fd: number): { address: string; port: number } {
  const address = Buffer.alloc(28);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  check(`get the address of socket ${fd}`, libc.getsockname(fd, address, length));
  return decodeSocketAddress(address);
}

/** Closes a descriptor that was given to nobody. */
export function closeFd(fd: number): void {
  check(`close descriptor ${fd}`, libc.close(fd));
}

/** struct sockaddr_in or sockaddr_in6 (linux/in.h, linux/in6.h). */
export function encodeSocketAddress(address: string, port: number): Buffer {
  if (!(Number.isInteger(port) && port >= 0 && port <= 65535)) throw new RangeError(`not a port: ${port}`);
  const isV4 = familyOf(address) === 4;
  const bytes = Buffer.alloc(isV4 ? 16 : 28);
  bytes.writeUInt16LE(isV4 ? AF_INET : AF_INET6);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ipToBytes(address), isV4 ? 4 : 8);
  return bytes;
}

/** Throws TypeError for other families. */
export function decodeSocketAddress(bytes: Buffer): { address: string; port: number } {
  const family = bytes.length >= 8 ? bytes.readUInt16LE() : 0;
  if (family === AF_INET) return { address: ipFromBytes(bytes.subarray(4, 8)), port: bytes.readUInt16BE(2) };
  if (family === AF_INET6 && bytes.length >= 24) {
    return { address: ipFromBytes(bytes.subarray(8, 24)), port: bytes.readUInt16BE(2) };
  }
  throw new TypeError(`not an IP socket address (family ${family})`);
}

function bound(
  verb: string,
  type: number,
  options: BindOptions,
  finish: (fd: number, operation: string) => void,
): number {
  const { address, port } = options;
  const operation = `${verb} ${address} port ${port}`;
  const family = familyOf(address);
  const socketAddress = encodeSocketAddress(address, port);
  const fd = openSocket(options.ns, family, type, operation);
  try {
    if (type === SOCK_STREAM) setSocketOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.reusePort) setSocketOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (options.freebind) setFreebind(fd, family);
    if (family === 6) setSocketOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, (options.v6only ?? true) ? 1 : 0);
    check(operation, libc.bind(fd, socketAddress, socketAddress.length));
    finish(fd, operation);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

function openSocket(ns: NetworkNamespace | undefined, family: Family, type: number, operation: string): number {
  const domain = family === 4 ? AF_INET : AF_INET6;
  return runIn(ns, () => check(operation, libc.socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)));
}

function setFreebind(fd: number, family: Family): void {
  if (family === 4) setSocketOption(fd, IPPROTO_IP, IP_FREEBIND, 1);
  else setSocketOption(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);
}

function describeConnect({ address, port }: ConnectOptions): string {
  return `connect to ${address} port ${port}`;
}

/** What connect(2) says of a non-blocking socket that is connecting, or is already. */
const UNDER_WAY: ReadonlySet<number> = new Set(['EINPROGRESS', 'EALREADY', 'EISCONN'].map((name) => ERRNO[name]!));

function beginConnect({ ns, address, port, source }: ConnectOptions, operation: string): number {
  const target = encodeSocketAddress(address, port);
  const fd = openSocket(ns, familyOf(address), SOCK_STREAM, operation);
  try {
    if (source !== undefined) {
      const from = encodeSocketAddress(source, 0);
      check(`bind to ${source}`, libc.bind(fd, from, from.length));
    }
    // The kernel has no EAGAIN for this, but it was read once on a slow machine, where a runtime's lock may have set it before it
    // was read: a second call tells what became of the first.
    let errno = ERRNO['EAGAIN']!;
    for (let i = 0; i < 3 && errno === ERRNO['EAGAIN']; i++)
      errno = libc.connect(fd, target, target.length) < 0 ? lastErrno() : 0;
    if (errno !== 0 && !UNDER_WAY.has(errno)) throw new KernelError(operation, errno);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

function throwOnSocketError(fd: number, operation: string): void {
  const errno = getSocketOption(fd, SOL_SOCKET, SO_ERROR);
  if (errno !== 0) throw new KernelError(operation, errno);
}

function writable(fd: number, operation: string, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const watch = watchWritable(fd, () => {
      watch.close();
      clearTimeout(timer);
      resolve();
    });
    const timer = setTimeout(() => {
      watch.close();
      reject(new KernelError(operation, ERRNO['ETIMEDOUT']!));
    }, timeoutMs);
  });
}
