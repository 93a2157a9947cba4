/** Compiles the plugin that runtimes execute, and installs it into their bin_dir. For set-up; needs gcc. */
import { copyFileSync, linkSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkedCommand } from '../../base/command.ts';
import { PLUGIN_TYPE } from './conflist.ts';

/** The shim's source. */
export const SHIM_SOURCE = fileURLToPath(new URL('./shim/podwire-cni.c', import.meta.url));

/** Compiles the shim to `target`: static, so that it runs in any mount namespace. Throws CommandError. */
export async function buildShim(target: string, source: string = SHIM_SOURCE): Promise<void> {
  mkdirSync(dirname(target), { recursive: true });
  const temporary = `${target}.${process.pid}.new`;
  try {
    await checkedCommand(['gcc', '-O2', '-static', '-s', '-o', temporary, source], { timeoutMs: 60_000 });
    renameSync(temporary, target);
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Puts a compiled shim into a runtime's bin_dir under both names that it answers to. */
export function installShim(shim: string, binDir: string): void {
  mkdirSync(binDir, { recursive: true });
  const temporary = join(binDir, `.${PLUGIN_TYPE}.${process.pid}`);
  copyFileSync(shim, temporary);
  for (const name of [PLUGIN_TYPE, 'loopback']) {
    const link = `${temporary}.${name}`;
    rmSync(link, { force: true });
    linkSync(temporary, link);
    renameSync(link, join(binDir, name));
    // rename() does nothing, and leaves the source, when both names are one file already.
    rmSync(link, { force: true });
  }
  rmSync(temporary);
}
