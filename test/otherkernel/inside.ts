/** Runs in the other kernel: the given test files, each result a line of JSON to the second serial port. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { run } from 'node:test';

export interface Result {
  /** "passed", "failed", "skipped" for a test; "end" once after all of them. */
  readonly kind: 'passed' | 'failed' | 'skipped' | 'end';
  readonly file: string;
  /** The names of the suites around it and its own. */
  readonly path: readonly string[];
  readonly milliseconds?: number;
  /** Why it was skipped, or what went wrong. */
  readonly detail?: string;
}

interface Event {
  readonly name: string;
  readonly nesting: number;
  readonly file?: string;
  readonly skip?: string | boolean;
  readonly details: { readonly duration_ms: number; readonly error?: Error; readonly type?: string };
}

/** An error and what caused it. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const text = error.stack ?? error.message;
  return error.cause === undefined ? text : `${text}\ncaused by: ${describe(error.cause)}`;
}

/** The beginning and the end: what failed, and in property tests how. */
const shorten = (text: string): string =>
  text.length <= 6000 ? text : `${text.slice(0, 1000)}\n…\n${text.slice(-5000)}`;

await main(process.argv.slice(2));

async function main(files: readonly string[]): Promise<void> {
  const port = openSync('/dev/ttyS1', 'w');
  const tell = (result: Result) => writeSync(port, `${JSON.stringify(result)}\n`);
  /** Suites report after what is in them, so the names come from the starts. */
  const names: string[] = [];
  const report = (kind: 'passed' | 'failed', event: Event) => {
    const { name, nesting, skip, details } = event;
    const isSuite = details.type === 'suite';
    const path = [...names.slice(0, nesting), name];
    const base = { file: event.file ?? '', path, milliseconds: Math.round(details.duration_ms) };
    if (skip) tell({ ...base, kind: 'skipped', detail: String(skip) });
    else if (kind === 'failed') {
      const cause = details.error?.cause ?? details.error;
      const detail = describe(cause);
      if (!isSuite || !/subtests? failed/.test(detail)) tell({ ...base, kind, detail: shorten(detail) });
    } else if (!isSuite) tell({ ...base, kind });
  };
  const stream = run({ files: [...files], concurrency: false, timeout: 240_000 });
  stream.on('test:start', ({ name, nesting }) => {
    names.length = nesting;
    names[nesting] = name;
  });
  stream.on('test:pass', (event) => report('passed', event as Event));
  stream.on('test:fail', (event) => report('failed', event as Event));
  stream.on('test:stdout', ({ message }) => process.stdout.write(message));
  stream.on('test:stderr', ({ message }) => process.stderr.write(message));
  for await (const _ of stream);
  tell({ kind: 'end', file: '', path: [] });
  closeSync(port);
}
