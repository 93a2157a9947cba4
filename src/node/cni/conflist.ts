/** The network configuration that the container runtime reads: which plugin to execute, and where its agent listens. */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface ConflistOptions {
  /** The agent's socket as the runtime sees it, e.g. /run/podwire-cni.sock. */
  readonly socketPath: string;
  /** The network's name; default "podwire". */
  readonly name?: string;
  /** Instead of the MTU that the agent finds. */
  readonly mtu?: number;
}

/** The plugin's file name in the runtime's bin_dir. */
export const PLUGIN_TYPE = 'podwire';
/** Sorts before what other networks write ("10-…"): a runtime takes the first file. */
export const CONFLIST_NAME = '05-podwire.conflist';

/**
 * `cniVersion` is what runtimes of before 1.1.0 read (containerd 1.6 knows 1.0.0 at most); newer ones pick the highest
 * of `cniVersions` that they know, and with it GC and STATUS.
 */
export function renderConflist({ socketPath, name = 'podwire', mtu }: ConflistOptions): string {
  const plugin = { type: PLUGIN_TYPE, socket: socketPath, ...(mtu === undefined ? {} : { mtu }) };
  const list = { cniVersion: '1.0.0', cniVersions: ['0.4.0', '1.0.0', '1.1.0'], name, plugins: [plugin] };
  return `${JSON.stringify(list, null, 2)}\n`;
}

/** Writes the file so that a runtime which watches the folder sees all of it or nothing. Returns its path. */
export function writeConflist(folder: string, options: ConflistOptions): string {
  const path = join(folder, CONFLIST_NAME);
  mkdirSync(dirname(path), { recursive: true });
  // A name that no runtime reads: they take .conf, .conflist and .json.
  const temporary = `${path}.new`;
  const fd = openSync(temporary, 'w', 0o644);
  try {
    writeFileSync(fd, renderConflist(options));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
  return path;
}
