/**
 * What the kernel refused: one error class for system calls, netlink and nftables, and the predicates callers ask.
 */
import { constants } from 'node:os';

/** Names that share a number with another one: the first word is what the kernel's manual pages use. */
const PREFERRED: Readonly<Record<string, string>> = {
  EWOULDBLOCK: 'EAGAIN',
  ENOTSUP: 'EOPNOTSUPP',
  EDEADLOCK: 'EDEADLK',
};

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, PREFERRED[name] ?? name]),
);

/** errno values by name (the running kernel's own numbers). */
export const ERRNO: Readonly<Record<string, number>> = constants.errno;

/** The name of an errno value: 17 is "EEXIST". Unknown values are written as "E" and the number. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `E${errno}`;
}

/**
 * A request that the kernel refused. `code` is the errno's name, as Node's own system errors have it, so that code
 * which handles both needs one test only.
 */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  /** What was asked for, in words: "add route 10.1.0.0/24 dev eth0". */
  readonly operation: string;
  /** The positive errno value. */
  readonly errno: number;
  readonly code: string;
  /** The kernel's own words (netlink extended acknowledgement, nft's output), where it gave some. */
  readonly kernelMessage: string | undefined;

  constructor(operation: string, errno: number, kernelMessage?: string) {
    const code = errnoName(errno);
    super(`${operation}: ${code}${kernelMessage ? `: ${kernelMessage}` : ''}`);
    this.operation = operation;
    this.errno = errno;
    this.code = code;
    this.kernelMessage = kernelMessage;
  }
}

/** Whether the error is a KernelError with one of these codes. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof KernelError && codes.includes(error.code);
}

/** The object exists already. */
export const isExists = (error: unknown): boolean => hasCode(error, 'EEXIST');

/** The object, or the device it hangs on, is absent: what each kernel subsystem uses for "no such thing". */
export const isNotFound = (error: unknown): boolean =>
  hasCode(error, 'ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL', 'ENXIO');

/** Somebody else uses the object; trying again later may help. */
export const isBusy = (error: unknown): boolean => hasCode(error, 'EBUSY', 'EAGAIN', 'EADDRINUSE');

/** This kernel lacks the feature. */
export const isNotSupported = (error: unknown): boolean =>
  hasCode(error, 'EOPNOTSUPP', 'EPROTONOSUPPORT', 'EAFNOSUPPORT', 'ESOCKTNOSUPPORT', 'ENOSYS');

/** The process may not do this. */
export const isPermission = (error: unknown): boolean => hasCode(error, 'EPERM', 'EACCES');
