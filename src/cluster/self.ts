/** How podwire starts itself again in another role: the same Node.js, the same program. */
import { fileURLToPath } from 'node:url';

/** Set by the bundler: everything is one file then, and this module's URL is that file's. */
declare const PODWIRE_BUNDLE: boolean | undefined;

const PROGRAM = fileURLToPath(
  typeof PODWIRE_BUNDLE === 'undefined'
    ? new URL('../cmd/main.ts', import.meta.url)
    : new URL('./podwire.mjs', import.meta.url),
);

/** A small young generation: a node's process is idle most of the time, and there are many of them on one machine. */
const NODE_OPTIONS = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=2'];

/** The command line of podwire with the given arguments. */
export function selfCommand(args: readonly string[]): [string, ...string[]] {
  return [process.execPath, ...NODE_OPTIONS, PROGRAM, ...args];
}
