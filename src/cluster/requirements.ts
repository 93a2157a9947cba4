/** What a machine must have before a cluster can start, each lack said in one line with the way out. */
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { UserError } from '../base/errors.ts';
import type { OciRuntime } from './containerd.ts';
import type { ProxyMode } from './proxy-mode.ts';

/** A program and the Debian package that brings it. */
const PROGRAMS: readonly (readonly [program: string, debianPackage: string])[] = [
  ['containerd', 'containerd'],
  ['ctr', 'containerd'],
  ['unshare', 'util-linux'],
  ['nsenter', 'util-linux'],
];

/** containerd copies it for each sandbox, though podwire gives every pod its own. */
const HOSTS = '/etc/hosts';

/** Also looked at where PATH lacks the folders of system programs. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin'];

/** What a mode of the proxy runs, and the Debian package that brings it. */
const PROXY_PROGRAMS: { readonly [mode in ProxyMode]?: readonly [program: string, debianPackage: string] } = {
  iptables: ['iptables-restore', 'iptables'],
};

/** The path of a program, or undefined. */
export function findProgram(
  name: string,
  env: NodeJS.ProcessEnv = process.env,
  systemFolders: readonly string[] = SYSTEM_FOLDERS,
): string | undefined {
  const folders = [...(env['PATH'] ?? '').split(delimiter), ...systemFolders].filter(Boolean);
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Throws UserError unless the caller is root. */
export function requireRoot(what: string): void {
  if (process.getuid?.() !== 0) {
    throw new UserError(`${what} needs root: it makes network namespaces and containers`, {
      hint: 'run it again with sudo',
      exitCode: 3,
    });
  }
}

/** Throws UserError naming every missing program; returns the OCI runtime to use: crun where it is, else runc. */
export function requirePrograms(
  env: NodeJS.ProcessEnv = process.env,
  systemFolders: readonly string[] = SYSTEM_FOLDERS,
): OciRuntime {
  if (!existsSync(HOSTS)) {
    throw new UserError(`this machine has no ${HOSTS}, which containerd needs for every pod`, {
      hint: `run: echo '127.0.0.1 localhost' > ${HOSTS}`,
      exitCode: 3,
    });
  }
  const has = (program: string) => findProgram(program, env, systemFolders) !== undefined;
  const missing = PROGRAMS.filter(([program]) => !has(program));
  const runtime = (['crun', 'runc'] as const).find(has);
  const packages = [...new Set([...missing.map(([, name]) => name), ...(runtime ? [] : ['crun'])])];
  if (packages.length > 0 || !runtime) {
    const names = [...missing.map(([program]) => program), ...(runtime ? [] : ['crun or runc'])];
    throw new UserError(`this machine lacks ${names.join(', ')}`, {
      hint: `run: apt-get install ${packages.join(' ')}  (or: npm start, which installs everything)`,
      exitCode: 3,
    });
  }
  return runtime;
}

/** Throws UserError where the program that a mode of the proxy works with is missing. */
export function requireProxyPrograms(
  mode: ProxyMode,
  env: NodeJS.ProcessEnv = process.env,
  systemFolders: readonly string[] = SYSTEM_FOLDERS,
): void {
  const [program, debianPackage] = PROXY_PROGRAMS[mode] ?? [];
  if (program === undefined || findProgram(program, env, systemFolders) !== undefined) return;
  throw new UserError(`this machine lacks ${program}, which --proxy ${mode} works with`, {
    hint: `run: apt-get install ${debianPackage}   or use: podwire up --proxy nftables`,
    exitCode: 3,
  });
}
