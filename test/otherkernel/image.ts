/**
 * What the other kernel boots into: an ext4 image with its modules, Node, the npm packages, libraries and tools of this machine; and
 * an initramfs that finds it. Both are kept under a name that is the hash of all that they are made of, so only the first run
 * builds them. The sources are not in there: they come in a tar file of their own with each run.
 */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { checkedCommand, runCommand } from '../../src/base/command.ts';
import { cacheRoot } from '../../src/cluster/paths.ts';
import { candidateVersions, dependencyOf, Unavailable, unpackPackages } from './packages.ts';

export const REPOSITORY = join(import.meta.dirname, '..', '..');

export interface Image {
  readonly kernel: string;
  readonly initramfs: string;
  readonly disk: string;
}

/** Programs of this machine that tests may run in there, and libraries that are opened by name. */
const PROGRAMS = ['nft', 'ip', 'tc', 'ss', 'dash', 'nsenter', 'unshare', 'xtables-legacy-multi', 'xtables-nft-multi'];
const LIBRARIES = ['libnftables.so.1', 'libbpf.so.1'];
/** Names under which the two iptables programs are known. */
const XTABLES_NAMES = ['', '-restore', '-save'].flatMap((verb) => [`iptables%${verb}`, `ip6tables%${verb}`]);
/** Packages that are only unpacked into the image, with the libraries of theirs that this machine may lack. */
const PACKAGES = ['kmod', 'libkmod2', 'ipvsadm', 'libnl-3-200', 'libnl-genl-3-200', 'libpopt0', 'wireguard-tools'];
/** npm packages that are large and that no test in there needs. */
const NPM_LEFT_OUT = /^(node-linux-.*|@biomejs|@typescript|typescript|@esbuild|esbuild|kubernetes-types|\..*)$/;
/** What the initramfs needs to see the image; everything else is loaded from there. */
const BOOT_MODULES = ['virtio_pci', 'virtio_blk', 'overlay'];
const KERNEL_PACKAGE = 'linux-image-cloud-amd64';
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin'];
const LIBRARY_FOLDER = '/usr/lib/x86_64-linux-gnu';

/** The image of what is there now, built when it is not yet. Throws Unavailable. */
export async function ensureImage(): Promise<Image> {
  if (process.arch !== 'x64') throw new Unavailable(`the lane has images for x64 only, not for ${process.arch}`);
  const kernelPackage = await dependencyOf(KERNEL_PACKAGE, /^linux-image-.*-cloud-amd64$/);
  const versions = await candidateVersions([kernelPackage, ...PACKAGES]);
  const root = join(cacheRoot(), 'otherkernel');
  const folder = join(root, contentHash(versions));
  if (!existsSync(folder)) {
    mkdirSync(root, { recursive: true });
    // What an earlier run built of other contents.
    for (const name of readdirSync(root)) rmSync(join(root, name), { recursive: true, force: true });
    const fresh = `${folder}.new`;
    try {
      await build(kernelPackage, fresh);
      renameSync(fresh, folder);
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
  }
  return { kernel: join(folder, 'vmlinuz'), initramfs: join(folder, 'initramfs'), disk: join(folder, 'disk.ext4') };
}

/** Of versions, this file, the lock file, Node, and the programs and libraries that are copied. */
function contentHash(versions: readonly string[]): string {
  const hash = createHash('sha256').update(versions.join('\n')).update(process.version);
  hash.update(readFileSync(import.meta.filename)).update(readFileSync(join(import.meta.dirname, 'init.sh')));
  hash.update(readFileSync(join(REPOSITORY, 'package-lock.json')));
  for (const path of [...PROGRAMS.map(programPath), ...LIBRARIES.map(libraryPath)])
    if (path) hash.update(`${path} ${statSync(path).size} ${statSync(path).mtimeMs}`);
  return hash.digest('hex').slice(0, 16);
}

function programPath(name: string): string | undefined {
  return SYSTEM_FOLDERS.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

function libraryPath(name: string): string | undefined {
  return [LIBRARY_FOLDER, '/lib/x86_64-linux-gnu', '/usr/lib']
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
}

async function build(kernelPackage: string, folder: string): Promise<void> {
  const root = join(folder, 'root');
  skeleton(root);
  await unpackPackages([kernelPackage, ...PACKAGES], root);
  rmSync(join(root, 'usr/share'), { recursive: true, force: true });
  const release = readdirSync(join(root, 'usr/lib/modules'))[0] ?? fail(`${kernelPackage} has no modules`);
  renameSync(join(root, 'boot', `vmlinuz-${release}`), join(folder, 'vmlinuz'));
  rmSync(join(root, 'boot'), { recursive: true });
  await copyPrograms(root);
  copyNpmPackages(root);
  await depmod(root, release);
  await addBusybox(root);
  cpSync(join(import.meta.dirname, 'init.sh'), join(root, 'init'));
  await checkedCommand(['chmod', '755', join(root, 'init')]);
  await buildInitramfs(root, release, folder);
  await buildDisk(root, join(folder, 'disk.ext4'));
  rmSync(root, { recursive: true });
}

/** A Debian tree with merged /usr. */
function skeleton(root: string): void {
  for (const name of [
    'usr/bin',
    'usr/sbin',
    'usr/lib64',
    LIBRARY_FOLDER.slice(1),
    'proc',
    'sys',
    'dev',
    'run',
    'tmp',
    'etc',
    'var/tmp',
    'root',
    'repo',
  ])
    mkdirSync(join(root, name), { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(root, name));
  symlinkSync('/run', join(root, 'var/run'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
  writeFileSync(join(root, 'etc/hosts'), '127.0.0.1 localhost\n::1 localhost\n');
  for (const name of ['protocols', 'services'])
    if (existsSync(`/etc/${name}`)) cpSync(`/etc/${name}`, join(root, 'etc', name));
}

async function copyPrograms(root: string): Promise<void> {
  const programs = PROGRAMS.map(programPath).filter((path) => path !== undefined);
  for (const path of programs) copyFile(path, join(root, 'usr/sbin', basename(path)));
  copyFile(process.execPath, join(root, 'usr/bin/node'));
  const libraries = LIBRARIES.map(libraryPath).filter((path) => path !== undefined);
  for (const path of libraries) copyFile(path, join(root, LIBRARY_FOLDER, basename(path)));
  const extensions = join(LIBRARY_FOLDER, 'xtables');
  if (existsSync(extensions)) cpSync(extensions, join(root, extensions), { recursive: true, dereference: true });
  for (const kind of ['legacy', 'nft']) {
    const names = XTABLES_NAMES.flatMap((name) => [name.replace('%', `-${kind}`)]);
    for (const name of names) link(root, `usr/sbin/${name}`, `xtables-${kind}-multi`);
  }
  link(root, 'usr/bin/sh', '../sbin/dash');
  const unpacked = ['usr/sbin', 'usr/bin', LIBRARY_FOLDER.slice(1)].flatMap((folder) =>
    readdirSync(join(root, folder), { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(root, folder, entry.name)),
  );
  await copyLibrariesOf(unpacked, root);
}

/** The shared libraries of programs, by ldd, from this machine; those that are there already stay. */
async function copyLibrariesOf(paths: readonly string[], root: string): Promise<void> {
  const { stdout } = await runCommand(['ldd', ...paths]);
  const wanted = new Set([...stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1]!));
  for (const path of wanted) {
    const folder = path.startsWith('/lib64/') ? 'usr/lib64' : LIBRARY_FOLDER.slice(1);
    copyFile(path, join(root, folder, basename(path)));
  }
}

function copyNpmPackages(root: string): void {
  const from = join(REPOSITORY, 'node_modules');
  for (const name of readdirSync(from)) {
    if (NPM_LEFT_OUT.test(name)) continue;
    cpSync(join(from, name), join(root, 'node_modules', name), { recursive: true, dereference: true });
  }
}

async function depmod(root: string, release: string): Promise<void> {
  const env = { ...process.env, LD_LIBRARY_PATH: join(root, LIBRARY_FOLDER) };
  link(root, 'usr/sbin/depmod', '../bin/kmod');
  link(root, 'usr/sbin/modprobe', '../bin/kmod');
  await checkedCommand([join(root, 'usr/sbin/depmod'), '-b', join(root, 'usr'), release], { env });
}

/** Its applets stand behind everything else: a program that is there already is not replaced. */
async function addBusybox(root: string): Promise<void> {
  const busybox = programPath('busybox') ?? fail('no busybox (Debian package busybox-static)');
  copyFile(busybox, join(root, 'usr/bin/busybox'));
  const applets = (await checkedCommand([busybox, '--list'])).trim().split('\n');
  for (const name of applets)
    if (!existsSync(join(root, 'usr/bin', name)) && !existsSync(join(root, 'usr/sbin', name)))
      link(root, `usr/bin/${name}`, 'busybox');
}

async function buildInitramfs(root: string, release: string, folder: string): Promise<void> {
  const small = join(folder, 'small');
  for (const name of ['bin', 'modules', 'proc', 'sys', 'dev', 'base', 'rw', 'root'])
    mkdirSync(join(small, name), { recursive: true });
  copyFile(join(root, 'usr/bin/busybox'), join(small, 'bin/busybox'));
  link(small, 'bin/sh', 'busybox');
  const modules = join(root, 'usr/lib/modules', release);
  const files = bootModules(readFileSync(join(modules, 'modules.dep'), 'utf8'));
  for (const file of files) copyFile(join(modules, file), join(small, 'modules', basename(file)));
  const script = [
    '#!/bin/sh',
    'export PATH=/bin',
    // It finds itself by /proc.
    'busybox mount -t proc proc /proc; busybox --install -s /bin',
    'mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev',
    ...files.map((file) => `insmod /modules/${basename(file)}`),
    'i=0; while [ ! -b /dev/vdb ] && [ $i -lt 100 ]; do sleep 0.05; i=$((i+1)); done',
    'mount -t ext4 -o ro /dev/vda /base; mount -t tmpfs -o size=90% rw /rw; mkdir /rw/upper /rw/work',
    'mount -t overlay -o lowerdir=/base,upperdir=/rw/upper,workdir=/rw/work overlay /root',
    'tar -x -C /root/repo -f /dev/vdb; ln -s /node_modules /root/repo/node_modules',
    'mount --move /dev /root/dev; umount /proc /sys',
    'exec switch_root /root /init',
  ];
  writeFileSync(join(small, 'init'), `${script.join('\n')}\n`, { mode: 0o755 });
  await checkedCommand(['sh', '-c', `cd '${small}' && find . | busybox cpio -o -H newc > ../initramfs`]);
  rmSync(small, { recursive: true });
}

/** The files of the boot modules and all that they depend on, in the order in which they can be inserted. */
function bootModules(dependencies: string): readonly string[] {
  const lines = dependencies.split('\n').filter(Boolean);
  const order: string[] = [];
  for (const name of BOOT_MODULES) {
    const line = lines.find((each) => basename(each.split(':')[0]!).replaceAll('-', '_').startsWith(`${name}.ko`));
    if (!line) continue;
    const [file, needs] = line.split(':') as [string, string];
    for (const each of [...needs.trim().split(' ').filter(Boolean).reverse(), file])
      if (!order.includes(each)) order.push(each);
  }
  return order;
}

async function buildDisk(root: string, disk: string): Promise<void> {
  const kilobytes = Number((await checkedCommand(['du', '-sk', root])).split(/\s/)[0]);
  const size = `${Math.ceil(kilobytes * 1.15) + 16_384}k`;
  await checkedCommand(['mke2fs', '-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', root, disk, size]);
}

function copyFile(from: string, to: string): void {
  if (existsSync(to)) return;
  mkdirSync(dirname(to), { recursive: true });
  cpSync(realpathSync(from), to);
}

function link(root: string, path: string, target: string): void {
  if (!existsSync(join(root, path))) {
    rmSync(join(root, path), { force: true });
    symlinkSync(target, join(root, path));
  }
}

function fail(why: string): never {
  throw new Unavailable(why);
}
