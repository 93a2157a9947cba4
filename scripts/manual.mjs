/** Writes docs/commands.md from the commands: node scripts/manual.mjs */
import { writeFileSync } from 'node:fs';
import { buildProgram } from '../src/cmd/main.ts';
import { renderManual } from '../src/cmd/manual.ts';

writeFileSync(new URL('../docs/commands.md', import.meta.url), renderManual(buildProgram()));
