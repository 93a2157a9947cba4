/**
 * The C library's functions that the kernel layer needs, bound once. A call costs 0.2-0.3 us.
 *
 * Bindings are raw: they return what C returns. `check` turns -1 into a KernelError; it must be the very next thing
 * after the call, because errno belongs to the thread. Buffers are passed by address, so a Buffer is both input and
 * output. Variadic functions (open, fcntl, ioctl) are bound with their one optional argument: on the two ABIs that
 * Node has prebuilt koffi for here (x86-64, arm64 Linux) integers travel the same way.
 */
import koffi from 'koffi';
import { KernelError } from './errors.ts';

const c = koffi.load(null);

export const libc = {
  open: c.func('int open(const char *path, int flags, int mode)') as (p: string, flags: number, mode: number) => number,
  close: c.func('int close(int fd)') as (fd: number) => number,
  fcntl: c.func('int fcntl(int fd, int command, int argument)') as (fd: number, cmd: number, arg: number) => number,
  ioctl: c.func('int ioctl(int fd, unsigned long request, void *argument)') as (
    fd: number,
    request: number,
    argument: Uint8Array | null,
  ) => number,
  setns: c.func('int setns(int fd, int type)') as (fd: number, type: number) => number,
  unshare: c.func('int unshare(int flags)') as (flags: number) => number,
  mount: c.func('int mount(const char *, const char *, const char *, unsigned long, const char *)') as (
    source: string,
    target: string,
    type: string | null,
    flags: number,
    data: string | null,
  ) => number,
  umount2: c.func('int umount2(const char *target, int flags)') as (target: string, flags: number) => number,
  socket: c.func('int socket(int domain, int type, int protocol)') as (d: number, t: number, p: number) => number,
  bind: c.func('int bind(int fd, const void *address, uint32_t length)') as (
    fd: number,
    address: Uint8Array,
    length: number,
  ) => number,
  connect: c.func('int connect(int fd, const void *address, uint32_t length)') as (
    fd: number,
    address: Uint8Array,
    length: number,
  ) => number,
  listen: c.func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number,
  getsockname: c.func('int getsockname(int fd, void *address, void *length)') as (
    fd: number,
    address: Uint8Array,
    length: Uint8Array,
  ) => number,
  setsockopt: c.func('int setsockopt(int fd, int level, int name, const void *value, uint32_t length)') as (
    fd: number,
    level: number,
    name: number,
    value: Uint8Array,
    length: number,
  ) => number,
  getsockopt: c.func('int getsockopt(int fd, int level, int name, void *value, void *length)') as (
    fd: number,
    level: number,
    name: number,
    value: Uint8Array,
    length: Uint8Array,
  ) => number,
  send: c.func('long send(int fd, const void *bytes, size_t length, int flags)') as ((
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
  ) => number) & {
    async: (
      fd: number,
      bytes: Uint8Array,
      length: number,
      flags: number,
      done: (error: unknown, result: number) => void,
    ) => void;
  },
  recv: c.func('long recv(int fd, void *bytes, size_t length, int flags)') as (
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
  ) => number,
  sendto: c.func(
    'long sendto(int fd, const void *bytes, size_t length, int flags, const void *to, uint32_t toLength)',
  ) as (fd: number, bytes: Uint8Array, length: number, flags: number, to: Uint8Array, toLength: number) => number,
  recvmmsg: c.func('int recvmmsg(int fd, void *messages, uint32_t count, int flags, void *timeout)') as (
    fd: number,
    messages: Uint8Array,
    count: number,
    flags: number,
    timeout: null,
  ) => number,
  sendmmsg: c.func('int sendmmsg(int fd, void *messages, uint32_t count, int flags)') as (
    fd: number,
    messages: Uint8Array,
    count: number,
    flags: number,
  ) => number,
  poll: c.func('int poll(void *fds, unsigned long count, int timeout)') as (
    fds: Uint8Array,
    count: number,
    timeoutMs: number,
  ) => number,
  mmap: c.func('void *mmap(void *at, size_t length, int protection, int flags, int fd, long offset)') as (
    at: null,
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ) => bigint | object,
  munmap: c.func('int munmap(void *at, size_t length)') as (at: bigint | object, length: number) => number,
  getpeername: c.func('int getpeername(int fd, void *address, void *length)') as (
    fd: number,
    address: Uint8Array,
    length: Uint8Array,
  ) => number,
  /** System calls that glibc 2.36 has no function for, or only newer versions have. */
  syscall: c.func('long syscall(long number, long first, long second, long third)') as (
    number: number,
    first: number,
    second: number,
    third: number,
  ) => number,
  strerror: c.func('const char *strerror(int errno)') as (errno: number) => string,
} as const;

// asm-generic/fcntl.h
export const O_RDONLY = 0;
export const O_CLOEXEC = 0o2000000;
export const F_DUPFD_CLOEXEC = 1030;

// bits/socket.h and asm-generic/socket.h
export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;

/** The errno of the last call. */
export function lastErrno(): number {
  return koffi.errno();
}

/** Returns the result of a call, or throws a KernelError when it is negative. */
export function check(operation: string, result: number): number {
  if (result < 0) throw new KernelError(operation, koffi.errno());
  return result;
}

/** Opens a file read-only, closed on exec. */
export function openPath(path: string): number {
  return check(`open ${path}`, libc.open(path, O_RDONLY | O_CLOEXEC, 0));
}

/** A second descriptor for the same open file, closed on exec. */
export function duplicateFd(fd: number): number {
  return check(`duplicate descriptor ${fd}`, libc.fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

/** Sets an integer socket option. */
export function setSocketOption(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  check(`set socket option ${level}/${name}`, libc.setsockopt(fd, level, name, bytes, 4));
}

/** Reads an integer socket option. */
export function getSocketOption(fd: number, level: number, name: number): number {
  const value = Buffer.alloc(4);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(4);
  check(`get socket option ${level}/${name}`, libc.getsockopt(fd, level, name, value, length));
  return value.readInt32LE();
}

/** The address of a buffer's bytes, for structs that point to another; valid while the buffer is referenced. */
export function addressOf(bytes: Uint8Array): bigint {
  return koffi.address(bytes);
}
