/**
 * Network namespaces: open, make, enter, delete.
 *
 * Only the calling thread changes its namespace. libuv's pool threads, workers and child processes inherit the
 * namespace of their first moment, therefore
 *   - the pool is started before the first change,
 *   - `run` takes a synchronous callback only and is back before anything else can run,
 *   - a way back that fails ends the process: going on would mean working in the wrong network.
 *
 * Netlink sockets, nft contexts and other sockets stay bound to the namespace they were opened in: open them inside
 * `run` once and keep them.
 */
import { randomFill } from 'node:crypto';
import { closeSync, fstatSync, lstatSync, mkdirSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { codeOf } from '../base/errors.ts';
import { ERRNO, KernelError } from './errors.ts';
import { AF_INET, check, duplicateFd, lastErrno, libc, openPath, SOCK_CLOEXEC, SOCK_DGRAM } from './libc.ts';

// linux/sched.h
const CLONE_NEWNET = 0x40000000;
// linux/mount.h, sys/mount.h
const MS_BIND = 4096;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
// linux/sockios.h, linux/if.h
const SIOCSIFFLAGS = 0x8914;
const IFF_UP = 1;
/** sizeof(struct ifreq) on 64-bit machines. */
const IFREQ_SIZE = 40;

/** The calling thread's namespace; /proc/self would be the main thread's. */
const OWN_NAMESPACE = '/proc/thread-self/ns/net';

/** The descriptor of the namespace this thread is in now; opened at the first change. */
let current: number | undefined;

function currentFd(): number {
  if (current === undefined) {
    startThreadPool();
    current = openPath(OWN_NAMESPACE);
  }
  return current;
}

/** libuv starts all of its pool's threads with the first piece of work, and waits until they run. */
function startThreadPool(): void {
  randomFill(Buffer.alloc(1), () => {});
}

function enter(fd: number): void {
  check('enter network namespace', libc.setns(fd, CLONE_NEWNET));
  current = fd;
}

/** Goes back to a namespace this thread was in before; never returns when that fails. */
function leaveTo(fd: number): void {
  current = fd;
  if (libc.setns(fd, CLONE_NEWNET) === 0) return;
  writeSync(2, `podwire: cannot leave a network namespace (errno ${lastErrno()}): aborting\n`);
  process.abort();
}

/** Makes a new namespace and runs `fn` in it with lo up, then returns to where the thread was. */
function inFreshNamespace<T>(fn: () => T): T {
  const home = currentFd();
  check('make network namespace', libc.unshare(CLONE_NEWNET));
  try {
    bringUpLoopback();
    return fn();
  } finally {
    leaveTo(home);
  }
}

function bringUpLoopback(): void {
  const fd = check('open a socket for lo', libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  try {
    const request = Buffer.alloc(IFREQ_SIZE);
    request.write('lo');
    request.writeInt16LE(IFF_UP, 16);
    check('bring up lo', libc.ioctl(fd, SIOCSIFFLAGS, request));
  } finally {
    libc.close(fd);
  }
}

/** A handle on a network namespace. The namespace lives at least as long as the handle. */
export class NetworkNamespace implements Disposable {
  #fd: number;
  #inode: number | undefined;
  /** Where it was opened from, for messages. */
  readonly path: string;

  private constructor(fd: number, path: string) {
    this.#fd = fd;
    this.path = path;
  }

  /** Opens the namespace that is mounted at a path (or any /proc/PID/ns/net). */
  static open(path: string): NetworkNamespace {
    return new NetworkNamespace(openPath(path), path);
  }

  /** The namespace of a process. Throws with ENOENT when the process is gone. */
  static ofPid(pid: number): NetworkNamespace {
    return NetworkNamespace.open(`/proc/${pid}/ns/net`);
  }

  /** Takes over an open descriptor of a namespace. */
  static fromFd(fd: number): NetworkNamespace {
    return new NetworkNamespace(fd, `descriptor ${fd}`);
  }

  /** The namespace the calling thread is in. */
  static current(): NetworkNamespace {
    return new NetworkNamespace(openPath(OWN_NAMESPACE), 'current');
  }

  /**
   * Makes a new namespace and keeps it alive by a bind mount at `path`, whose folder is made when absent; lo is up.
   * Throws EEXIST when something stands at `path`. Nothing is left behind on failure.
   */
  static create(path: string): NetworkNamespace {
    mkdirSync(dirname(path), { recursive: true });
    makeMountPoint(path);
    try {
      return inFreshNamespace(() => {
        check(`mount network namespace at ${path}`, libc.mount(OWN_NAMESPACE, path, null, MS_BIND, null));
        return new NetworkNamespace(openPath(OWN_NAMESPACE), path);
      });
    } catch (error) {
      NetworkNamespace.delete(path);
      throw error;
    }
  }

  /** A new namespace without a name: the kernel destroys it when the handle and everything in it are gone. lo is up. */
  static anonymous(): NetworkNamespace {
    return inFreshNamespace(() => new NetworkNamespace(openPath(OWN_NAMESPACE), 'anonymous'));
  }

  /**
   * Unmounts and removes what `create` made. Absent is fine. The namespace itself ends when its last process, socket
   * and handle are gone. Refuses to remove a file that has content: that is none of ours.
   */
  static delete(path: string): void {
    const result = libc.umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    const errno = result < 0 ? lastErrno() : 0;
    if (errno === ERRNO['ENOENT']) return;
    if (errno !== 0 && errno !== ERRNO['EINVAL']) throw new KernelError(`unmount ${path}`, errno);
    removeMountPoint(path);
  }

  /** The open descriptor, for IFLA_NET_NS_FD and nsenter. */
  get fd(): number {
    if (this.#fd < 0) throw new Error(`the handle on network namespace ${this.path} is closed`);
    return this.#fd;
  }

  /** Identifies the namespace: equal for every handle on it, and to `stat -L -c %i /proc/PID/ns/net`. */
  get inode(): number {
    this.#inode ??= fstatSync(this.fd).ino;
    return this.#inode;
  }

  /**
   * Runs a synchronous function inside the namespace (3.5 us there and back). Sockets it opens and processes it spawns
   * stay inside. Calls may nest. Asynchronous functions are refused: what they do after their first await would
   * happen outside.
   */
  run<T>(fn: () => T): T {
    if (fn.constructor.name === 'AsyncFunction') throw new TypeError('NetworkNamespace.run takes no async function');
    const home = currentFd();
    enter(this.fd);
    let result: T;
    try {
      result = fn();
    } finally {
      leaveTo(home);
    }
    if (isThenable(result)) throw new TypeError('NetworkNamespace.run: the callback returned a promise');
    return result;
  }

  /** A second handle with its own lifetime. */
  duplicate(): NetworkNamespace {
    return new NetworkNamespace(duplicateFd(this.fd), this.path);
  }

  close(): void {
    if (this.#fd < 0) return;
    libc.close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Runs `fn` in the namespace, or here when none is given. */
export function runIn<T>(ns: NetworkNamespace | undefined, fn: () => T): T {
  return ns === undefined ? fn() : ns.run(fn);
}

function isThenable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

function makeMountPoint(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o444));
  } catch (error) {
    if (codeOf(error) === 'EEXIST') {
      throw new KernelError(`make network namespace at ${path}`, ERRNO['EEXIST']!, 'the path is taken');
    }
    throw error;
  }
}

function removeMountPoint(path: string): void {
  try {
    const stat = lstatSync(path);
    if (!stat.isFile() || stat.size > 0) {
      throw new KernelError(`delete network namespace ${path}`, ERRNO['EINVAL']!, 'not a mount point of ours');
    }
    unlinkSync(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}
