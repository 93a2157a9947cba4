/** The documentation does not point into the void, and names only commands that exist. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { buildProgram } from '../src/cmd/main.ts';
import { renderManual } from '../src/cmd/manual.ts';

const ROOT = join(import.meta.dirname, '..');

const pages = ['README.md', 'CHANGELOG.md', ...markdownIn('docs'), ...markdownIn('src')].map((page) =>
  join(ROOT, page),
);

function markdownIn(folder: string): string[] {
  const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith('.md')).map((name) => join(folder, name));
}

test('every relative link leads to a file', () => {
  const broken = pages.flatMap((page) =>
    [...readFileSync(page, 'utf8').matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
      .map((match) => match[1]!)
      .filter((target) => !/^[a-z]+:/.test(target) && !existsSync(join(dirname(page), target)))
      .map((target) => `${relative(ROOT, page)} -> ${target}`),
  );
  assert.deepEqual(broken, []);
});

test('every podwire command in the documentation exists', () => {
  const program = buildProgram();
  const known = new Set(program.commands.flatMap((command) => [command.name(), ...command.aliases()]));
  const unknown = pages.flatMap((page) =>
    [...readFileSync(page, 'utf8').matchAll(/^\s*(?:\$ )?(?:bin\/|npx )?podwire ([a-z][a-z-]*)/gm)]
      .map((match) => match[1]!)
      .filter((command) => !known.has(command))
      .map((command) => `${relative(ROOT, page)}: podwire ${command}`),
  );
  assert.deepEqual(unknown, []);
});

test('docs/commands.md is what the commands say of themselves', () => {
  const page = readFileSync(join(ROOT, 'docs', 'commands.md'), 'utf8');
  assert.equal(page, renderManual(buildProgram()), 'run: node scripts/manual.mjs');
});
