/** A virtual machine that boots the other kernel, runs test files and is gone: no network device, no disk that it can write to. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { checkedCommand } from '../../src/base/command.ts';
import { cacheRoot } from '../../src/cluster/paths.ts';
import { findProgram } from '../../src/cluster/requirements.ts';
import { type Image, REPOSITORY } from './image.ts';
import type { Result } from './inside.ts';
import { ensureUnpacked, missingClosure, Unavailable } from './packages.ts';

const QEMU = 'qemu-system-x86_64';
const MEMORY_MB = 1024;
/** What tests start as processes of their own. */
const PROCESSES = ['test/netns/services-connector.ts'];
const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

export interface Run {
  readonly results: readonly Result[];
  /** What the kernel and the tests printed. */
  readonly console: string;
}

/** Boots, runs the files (paths in the repository) and powers off; killed after the time. */
export async function runMachine(image: Image, files: readonly string[], timeoutMs: number): Promise<Run> {
  const { program, args, env } = await emulator();
  const folder = mkdtempSync(join(tmpdir(), 'podwire-otherkernel-'));
  const cleanUp = () => rmSync(folder, { recursive: true, force: true });
  // The runner ends a file that takes too long by SIGTERM.
  const onSignal = () => {
    cleanUp();
    process.exit(1);
  };
  for (const signal of SIGNALS) process.once(signal, onSignal);
  try {
    const sources = join(folder, 'sources.tar');
    const output = join(folder, 'results');
    await bundle([...files, ...PROCESSES, 'test/otherkernel/inside.ts'], folder);
    writeFileSync(join(folder, 'test/otherkernel/files'), files.map(bundleName).join(' '));
    await checkedCommand(['tar', '-c', '-f', sources, '-C', REPOSITORY, 'package.json', 'src', '-C', folder, 'test']);
    const drive = (path: string) => ['-drive', `file=${path},if=virtio,format=raw,readonly=on`];
    const console = await runToEnd(
      program,
      [
        ...['-machine', 'pc', ...args, '-smp', '2', '-m', String(MEMORY_MB)],
        ...['-nodefaults', '-no-user-config', '-display', 'none', '-nic', 'none', '-no-reboot'],
        ...['-serial', 'stdio', '-serial', `file:${output}`],
        ...['-kernel', image.kernel, '-initrd', image.initramfs],
        ...['-append', 'console=ttyS0 panic=-1 quiet rdinit=/init'],
        ...drive(image.disk),
        ...drive(sources),
      ],
      env,
      timeoutMs,
    );
    return { results: existsSync(output) ? parseResults(readFileSync(output, 'utf8')) : [], console };
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal);
    cleanUp();
  }
}

/** Where a file is in there. */
function bundleName(file: string): string {
  return file.replace(/\.ts$/, '.mjs');
}

/** One file for each: to strip the types of a hundred files takes an emulated processor a minute. */
async function bundle(files: readonly string[], folder: string): Promise<void> {
  await build({
    absWorkingDir: REPOSITORY,
    entryPoints: [...files],
    outdir: folder,
    outbase: '.',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    packages: 'external',
    logLevel: 'silent',
  });
}

/** Lines end in CRLF; what is no JSON is not ours. */
function parseResults(text: string): readonly Result[] {
  return text
    .split(/\r*\n/)
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line) as Result);
}

/**
 * QEMU of this machine, or one that is unpacked beside the image. It always emulates the processor: a machine that is itself
 * virtual may have a /dev/kvm that fails half way.
 */
async function emulator() {
  const accelerator = ['-accel', 'tcg,thread=multi', '-cpu', 'max'];
  const installed = findProgram(QEMU);
  if (installed) return { program: installed, args: accelerator, env: process.env };
  const root = join(cacheRoot(), 'otherkernel-qemu');
  if (!existsSync(root)) {
    const packages = await missingClosure(['qemu-system-x86']);
    if (packages.length === 0) throw new Unavailable('apt knows no package qemu-system-x86');
    await ensureUnpacked(packages, root);
  }
  const libraries = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'].map((path) => join(root, path)).join(':');
  return {
    program: join(root, 'usr/bin', QEMU),
    args: [...accelerator, '-L', join(root, 'usr/share/qemu'), '-L', join(root, 'usr/share/seabios')],
    env: { ...process.env, LD_LIBRARY_PATH: libraries },
  };
}

function runToEnd(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  timeoutMs: number,
): Promise<string> {
  return new Promise((resolve, reject) => {
    // The machine ends with this process, whatever ends it.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        text = `${text}${chunk.toString()}`.slice(-200_000);
      });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      resolve(
        signal ? `${text}\n[killed by ${signal}]` : code === 0 ? text : `${text}\n[${program} ended with ${code}]`,
      );
    });
  });
}
