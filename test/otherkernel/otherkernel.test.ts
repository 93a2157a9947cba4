/**
 * Runs the files *.inside.ts of this folder in another kernel and reports each of their tests as one of its own. README.md says how
 * and how to add one.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { ensureImage } from './image.ts';
import type { Result } from './inside.ts';
import { runMachine } from './machine.ts';
import { Unavailable } from './packages.ts';

/** PODWIRE_OTHERKERNEL=name runs only the files whose names contain it; "no" skips the lane. */
const FILTER = process.env['PODWIRE_OTHERKERNEL'] ?? '';
const TIMEOUT_MS = 400_000;

const files = readdirSync(import.meta.dirname)
  .filter((name) => name.endsWith('.inside.ts') && name.includes(FILTER))
  .sort()
  .map((name) => `test/otherkernel/${name}`);

test('in another kernel', { timeout: 600_000 }, async (t) => {
  if (FILTER === 'no') return t.skip('PODWIRE_OTHERKERNEL=no');
  if (process.getuid?.() !== 0) return t.skip('needs root: an image with root’s files is built');
  try {
    const image = await ensureImage();
    const { results, console } = await runMachine(image, files, TIMEOUT_MS);
    if (process.env['PODWIRE_OTHERKERNEL_CONSOLE']) process.stderr.write(console);
    for (const result of results) if (result.kind !== 'end') await report(t, result);
    assert.ok(
      results.some(({ kind }) => kind === 'end'),
      `the other kernel did not come to its end:\n${console.slice(-4000)}`,
    );
    for (const file of files)
      assert.ok(
        results.some((result) => result.file.endsWith(file.replace(/ts$/, 'mjs'))),
        `${file} had no test`,
      );
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    t.skip(`the other kernel cannot be had: ${error.message}`);
  }
});

async function report(t: TestContext, { kind, path, detail, milliseconds }: Result): Promise<void> {
  const name = `${path.join(' > ')}${milliseconds === undefined ? '' : ` (${milliseconds} ms in there)`}`;
  await t
    .test(name, (inner) => {
      if (kind === 'skipped') inner.skip(detail);
      else if (kind === 'failed') throw new Error(detail);
    })
    .catch(() => {});
}
