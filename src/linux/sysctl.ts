/**
 * Kernel parameters under /proc/sys, read and written inside a namespace: /proc/sys/net shows the namespace of the
 * thread that opens the file. Parameters outside net/ belong to the whole machine.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { codeOf } from '../base/errors.ts';
import { ERRNO, KernelError } from './errors.ts';
import { type NetworkNamespace, runIn } from './netns.ts';

/**
 * The file of a parameter. As sysctl(8) has it: dots separate, unless the key is written with slashes, which is the
 * way to name an interface that has a dot in its own name ("net/ipv4/conf/eth0.100/rp_filter").
 */
export function sysctlPath(key: string): string {
  const parts = key.includes('/') ? key.split('/') : key.split('.');
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0'))) {
    throw new TypeError(`not a sysctl key: ${JSON.stringify(key)}`);
  }
  return `/proc/sys/${parts.join('/')}`;
}

/** The value without its line break. Throws ENOENT when this kernel has no such parameter. */
export function readSysctl(ns: NetworkNamespace | undefined, key: string): string {
  const path = sysctlPath(key);
  return attempt(`read sysctl ${key}`, () => runIn(ns, () => readFileSync(path, 'utf8')).trimEnd());
}

/** Throws ENOENT when this kernel has no such parameter, EINVAL when it refuses the value. */
export function writeSysctl(ns: NetworkNamespace | undefined, key: string, value: string | number): void {
  const path = sysctlPath(key);
  // Without O_CREAT: on a kernel that lacks the parameter the error should say so.
  attempt(`write sysctl ${key}=${value}`, () => runIn(ns, () => writeFileSync(path, `${value}\n`, { flag: 'r+' })));
}

function attempt<T>(operation: string, fn: () => T): T {
  try {
    return fn();
  } catch (error) {
    const errno = ERRNO[codeOf(error) ?? ''];
    throw errno === undefined ? error : new KernelError(operation, errno);
  }
}
