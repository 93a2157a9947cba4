/** How podwire starts itself again in another role: the same Node.js, the same program. */
import { fileURLToPath } from 'node:url';

/** Set by the bundler: everything is one file then, and this module's URL is that file's. */
declare const PODWIRE_BUNDLE: boolean | undefined;

const PROGRAM = fileURLToPath(
  typeof PODWIRE_BUNDLE === 'undefined'
    ? new URL('../cmd/main.ts', import.meta.url)
    : new URL('./podwire.mjs', import.meta.url),
);

/** The command line of podwire with the given arguments. */
export function selfCommand(args: readonly string[]): [string, ...string[]] {
  return [process.execPath, '--disable-warning=ExperimentalWarning', PROGRAM, ...args];
}
