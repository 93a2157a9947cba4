/** The version of podwire: that of its package. */
import { existsSync, readFileSync } from 'node:fs';

const candidates = [new URL('../../package.json', import.meta.url), new URL('../package.json', import.meta.url)];

export const version: string = (
  JSON.parse(readFileSync(candidates.find((path) => existsSync(path)) ?? candidates[0]!, 'utf8')) as { version: string }
).version;
