/** Namespaces for one test file: a folder of their own under /run, removed with everything in it at the end. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { NetworkNamespace } from '../../src/linux/netns.ts';

export const isRoot = process.getuid?.() === 0;

/** Why the tests of a file cannot run, or false. */
export const skip: string | false = isRoot ? false : 'needs root: network namespaces are made';

/** Registers the clean-up and returns a function that makes namespaces. Call it at the top of a test file. */
export function namespaces(): (name: string) => NetworkNamespace {
  if (skip) return () => NetworkNamespace.anonymous();
  const folder = mkdtempSync(`/run/podwire-test-${process.pid}-`);
  const open: NetworkNamespace[] = [];
  const cleanUp = (): void => {
    for (const ns of open) ns.close();
    for (const name of readdirSync(folder)) NetworkNamespace.delete(join(folder, name));
    rmSync(folder, { recursive: true });
  };
  // The runner ends a file that takes too long with SIGTERM; after() is not called then.
  const onSignal = (): never => {
    cleanUp();
    process.exit(1);
  };
  const signals = ['SIGTERM', 'SIGINT'] as const;
  for (const signal of signals) process.once(signal, onSignal);
  after(() => {
    for (const signal of signals) process.off(signal, onSignal);
    cleanUp();
  });
  return (name) => {
    const ns = NetworkNamespace.create(join(folder, name));
    open.push(ns);
    return ns;
  };
}
