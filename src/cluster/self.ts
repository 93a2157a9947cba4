/** How podwire starts itself again in another role: the same Node.js, the same program. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Set by the bundler: everything is in one folder then, and this module's URL lies in it. */
declare const PODWIRE_BUNDLE: boolean | undefined;

/** A small young generation: a node's process is idle most of the time, and there are many of them on one machine. */
const NODE_OPTIONS = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=1', '--v8-pool-size=1'];

let program: string | undefined;

/** The command line of podwire with the given arguments. */
export function selfCommand(args: readonly string[]): [string, ...string[]] {
  program ??= findProgram();
  return [process.execPath, ...NODE_OPTIONS, program, ...args];
}

/** The bundle; in a checkout only where no source is newer than it, else the sources (bin/podwire chooses likewise). */
function findProgram(): string {
  if (typeof PODWIRE_BUNDLE !== 'undefined') return fileURLToPath(new URL('./podwire.mjs', import.meta.url));
  const sources = fileURLToPath(new URL('..', import.meta.url));
  const bundle = fileURLToPath(new URL('../../dist/podwire.mjs', import.meta.url));
  return isFresh(bundle, sources) ? bundle : join(sources, 'cmd', 'main.ts');
}

function isFresh(bundle: string, sources: string): boolean {
  const built = statSync(bundle, { throwIfNoEntry: false })?.mtimeMs;
  if (built === undefined) return false;
  const entries = readdirSync(sources, { recursive: true, encoding: 'utf8' });
  return entries.every((entry) => statSync(join(sources, entry)).mtimeMs <= built);
}
