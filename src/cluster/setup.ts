/**
 * What is built once per machine and used by every cluster: the CNI shim and the pause program (compiled with gcc), the
 * starter images, and a containerd root in which they are unpacked already, so that a new node starts with all images.
 *
 * It is kept under the cache folder, under the fingerprint of what it was made from; a half-made one is never seen, because
 * the folder is renamed into place at the end.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../base/clock.ts';
import { checkedCommand } from '../base/command.ts';
import { UserError } from '../base/errors.ts';
import { NetworkNamespace } from '../linux/netns.ts';
import { OciLayout } from './images/layout.ts';
import { buildStarterImages } from './images/starter-images.ts';
import { cacheRoot } from './paths.ts';
import { findProgram } from './requirements.ts';

/** The products of set-up. */
export interface Prepared {
  readonly shim: string;
  /** An OCI layout with the starter images. */
  readonly images: string;
  /** A containerd root with the starter images unpacked. */
  readonly containerdRoot: string;
}

declare const PODWIRE_BUNDLE: boolean | undefined;

/** C sources: beside their components in a checkout, in native/ of an installed package. */
const SOURCES =
  typeof PODWIRE_BUNDLE === 'undefined'
    ? {
        pause: new URL('./native/pause.c', import.meta.url),
        shim: new URL('../node/cni/shim/podwire-cni.c', import.meta.url),
      }
    : { pause: new URL('./native/pause.c', import.meta.url), shim: new URL('./native/podwire-cni.c', import.meta.url) };

/** What the images are made of: a newer Debian package makes new images. */
const IMAGE_INPUTS = ['/usr/sbin/nginx', '/usr/bin/curl', '/usr/bin/nslookup', '/bin/busybox', '/usr/bin/busybox'];
/** Raised when the way of building changes. */
const FORMAT = 4;

/** The folder of the products for this machine's packages and these sources. */
function preparedFolder(): string {
  const hash = createHash('sha256').update(`${FORMAT}`);
  for (const source of Object.values(SOURCES)) hash.update(readFileSync(source));
  for (const path of IMAGE_INPUTS.filter(existsSync)) {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${path} ${size} ${mtimeMs}`);
  }
  return join(cacheRoot(), `prepared-${hash.digest('hex').slice(0, 16)}`);
}

function productsIn(folder: string): Prepared {
  return {
    shim: join(folder, 'podwire-cni'),
    images: join(folder, 'images'),
    containerdRoot: join(folder, 'containerd'),
  };
}

/** The products, or undefined when set-up has not run for them. */
export function findPrepared(): Prepared | undefined {
  const folder = preparedFolder();
  return existsSync(folder) ? productsIn(folder) : undefined;
}

/** Builds what is missing; harmless when all is there. `say` is told of each step. */
export async function prepare(say: (step: string) => void = () => {}): Promise<Prepared> {
  const folder = preparedFolder();
  if (existsSync(folder)) return productsIn(folder);
  requireBuildPrograms();
  mkdirSync(cacheRoot(), { recursive: true });
  const temporary = mkdtempSync(join(cacheRoot(), 'building-'));
  try {
    await build(temporary, say);
    renameSync(temporary, folder);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (!existsSync(folder)) throw error;
  }
  removeOutdated(folder);
  return productsIn(folder);
}

function requireBuildPrograms(): void {
  const needed = [
    ['gcc', 'gcc libc6-dev'],
    ['nginx', 'nginx-light'],
    ['busybox', 'busybox-static'],
    ['curl', 'curl'],
    ['nslookup', 'bind9-dnsutils'],
    ['containerd', 'containerd'],
    ['tar', 'tar'],
  ] as const;
  const missing = needed.filter(([program]) => !findProgram(program));
  if (missing.length === 0) return;
  throw new UserError(`set-up needs ${missing.map(([program]) => program).join(', ')}`, {
    hint: `run: apt-get install ${missing.map(([, name]) => name).join(' ')}  (or: npm start, which installs everything)`,
    exitCode: 3,
  });
}

function removeOutdated(current: string): void {
  for (const name of readdirSync(cacheRoot())) {
    const path = join(cacheRoot(), name);
    if (name.startsWith('prepared-') && path !== current) rmSync(path, { recursive: true, force: true });
  }
}

async function build(folder: string, say: (step: string) => void): Promise<void> {
  const products = productsIn(folder);
  say('compiling the CNI shim');
  await compile(SOURCES.shim, products.shim);
  const pause = join(folder, 'pause');
  await compile(SOURCES.pause, pause);
  say('building the starter images (nginx, busybox, curl, dnsutils) from Debian packages');
  await buildStarterImages(new OciLayout(products.images), pause);
  say('unpacking them for containerd');
  await unpackForContainerd(folder, products);
}

/** Compiles one static program. */
export async function compile(source: URL, target: string): Promise<void> {
  await checkedCommand(['gcc', '-O2', '-static', '-s', '-Wall', '-o', target, fileURLToPath(source)]);
}

/** Lets a containerd in namespaces of its own import the images, and keeps its root. */
async function unpackForContainerd(folder: string, { images, containerdRoot }: Prepared): Promise<void> {
  const run = join(folder, 'run');
  mkdirSync(run, { recursive: true });
  const socket = join(run, 'containerd.sock');
  const archive = join(folder, 'images.tar');
  await checkedCommand(['tar', '-C', images, '-cf', archive, '.']);
  using namespace = NetworkNamespace.anonymous();
  const command = [
    '--root',
    containerdRoot,
    '--state',
    join(run, 'state'),
    '--address',
    socket,
    '--log-level',
    'error',
  ];
  const script = 'mount --make-rprivate / && exec containerd "$@"';
  const containerd = namespace.run(() =>
    spawn('unshare', ['--mount', 'sh', '-c', script, 'containerd', ...command], {
      stdio: ['ignore', 'ignore', 'pipe'],
    }),
  );
  let complaint = '';
  containerd.stderr.on('data', (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-2000);
  });
  const ended = new Promise<void>((resolve) => containerd.on('close', () => resolve()));
  try {
    await waitForSocket(
      socket,
      () => containerd.exitCode !== null,
      () => complaint,
    );
    await checkedCommand([
      'ctr',
      '--address',
      socket,
      '--namespace',
      'k8s.io',
      'images',
      'import',
      '--no-unpack=false',
      archive,
    ]);
  } finally {
    containerd.kill('SIGTERM');
    await ended;
  }
  for (const name of ['images.tar', 'run', 'pause']) rmSync(join(folder, name), { recursive: true, force: true });
}

async function waitForSocket(socket: string, ended: () => boolean, complaint: () => string): Promise<void> {
  for (let waited = 0; waited < 10_000; waited += 10) {
    if (existsSync(socket)) return;
    if (ended()) break;
    await systemClock.sleep(10);
  }
  throw new Error(`containerd did not start: ${complaint()}`);
}

/**
 * Gives a node its own copy of the prepared root. Image content is never written to again, so it is shared by hard links
 * where both folders are on one filesystem; the databases are copied.
 */
export async function copyContainerdRoot(prepared: Prepared, target: string): Promise<void> {
  mkdirSync(target, { recursive: true });
  try {
    await checkedCommand(['cp', '-al', `${prepared.containerdRoot}/.`, target]);
  } catch {
    rmSync(target, { recursive: true, force: true });
    mkdirSync(target, { recursive: true });
    await checkedCommand(['cp', '-a', `${prepared.containerdRoot}/.`, target]);
  }
  for (const plugin of readdirSync(target)) {
    for (const name of readdirSync(join(target, plugin)).filter((one) => one.endsWith('.db'))) {
      const path = join(target, plugin, name);
      cpSync(path, `${path}.copy`);
      renameSync(`${path}.copy`, path);
    }
  }
}
