/** Sockets of other processes: a second descriptor for the same socket, by pidfd_getfd(2) (Linux 5.6). */
import { readdirSync, readlinkSync } from 'node:fs';
import { hasCode } from './errors.ts';
import { check, libc, SOL_SOCKET } from './libc.ts';
import { decodeSocketAddress } from './sockets.ts';

// asm-generic/unistd.h; the same numbers on x86-64 and arm64
const SYS_PIDFD_OPEN = 434;
const SYS_PIDFD_GETFD = 438;
// asm-generic/socket.h
const SO_COOKIE = 57;

/** The kernel's name for a socket, never given twice. */
export function socketCookie(fd: number): bigint {
  const value = Buffer.alloc(8);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(8);
  check('read a socket cookie', libc.getsockopt(fd, SOL_SOCKET, SO_COOKIE, value, length));
  return value.readBigUInt64LE();
}

/** The address that a socket is connected to, as the kernel has it and read; undefined when it is not connected. */
export function peerAddress(
  fd: number,
): { readonly bytes: Buffer; readonly address: string; readonly port: number } | undefined {
  const bytes = Buffer.alloc(28);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  try {
    check('ask for the peer of a socket', libc.getpeername(fd, bytes, length));
  } catch (error) {
    if (hasCode(error, 'ENOTCONN')) return undefined;
    throw error;
  }
  return { bytes: bytes.subarray(0, length.readUInt32LE()), ...decodeSocketAddress(bytes) };
}

/** Connects a socket to an address as `peerAddress` gives it. */
export function connectAgain(fd: number, address: Buffer): void {
  check('connect a socket again', libc.connect(fd, address, address.length));
}

/**
 * Calls back for each of the process's sockets that is wanted, with a descriptor that is closed afterwards. A process that
 * is gone, or that may not be looked into, has none.
 */
export function visitSockets(
  pid: number,
  wanted: (cookie: bigint) => boolean,
  visit: (fd: number, cookie: bigint) => void,
): void {
  const process = libc.syscall(SYS_PIDFD_OPEN, pid, 0, 0);
  if (process < 0) return;
  try {
    for (const number of socketsOf(pid)) {
      const fd = libc.syscall(SYS_PIDFD_GETFD, process, number, 0);
      if (fd < 0) continue;
      try {
        const cookie = socketCookie(fd);
        if (wanted(cookie)) visit(fd, cookie);
      } finally {
        libc.close(fd);
      }
    }
  } finally {
    libc.close(process);
  }
}

function socketsOf(pid: number): readonly number[] {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder)
      .filter((name) => linkOf(`${folder}/${name}`)?.startsWith('socket:'))
      .map(Number);
  } catch {
    return [];
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // It was closed meanwhile.
    return undefined;
  }
}
