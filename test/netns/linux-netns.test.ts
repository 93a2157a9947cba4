import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { isExists, isNotFound, KernelError } from '../../src/linux/errors.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { namespaces, skip } from './linux-fixture.ts';

const make = namespaces();
const own = (): string => readlinkSync('/proc/thread-self/ns/net');

test('create mounts a new namespace with lo up and leaves the caller where it was', { skip }, () => {
  const before = own();
  const ns = make('created');
  assert.equal(own(), before);
  assert.notEqual(`net:[${ns.inode}]`, before);
  assert.equal(statSync(ns.path).ino, ns.inode);
  const links = ns.run(() => readFileSync('/proc/net/dev', 'utf8'));
  assert.match(links, /\blo:/);
  assert.match(execFileSync('nsenter', [`--net=${ns.path}`, 'ip', 'link', 'show', 'lo'], { encoding: 'utf8' }), /UP/);
});

test('no folder above the namespace becomes a mount', { skip }, () => {
  const mountPoints = () =>
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4]);
  // Somebody's `ip netns add` may have made it one before.
  const before = mountPoints().includes('/run/netns');
  const ns = make('plain');
  const mounts = mountPoints();
  assert.ok(mounts.includes(ns.path));
  assert.ok(!mounts.includes(join(ns.path, '..')));
  assert.equal(mounts.includes('/run/netns'), before);
});

test('create refuses a path that is taken, and touches nothing there', { skip }, () => {
  const folder = mkdtempSync('/run/podwire-test-taken-');
  try {
    const path = join(folder, 'file');
    writeFileSync(path, 'mine');
    assert.throws(() => NetworkNamespace.create(path), isExists);
    assert.throws(() => NetworkNamespace.delete(path), KernelError);
    assert.equal(readFileSync(path, 'utf8'), 'mine');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('delete is idempotent and removes the mount point', { skip }, () => {
  const ns = make('short-lived');
  NetworkNamespace.delete(ns.path);
  assert.ok(!existsSync(ns.path));
  NetworkNamespace.delete(ns.path);
  NetworkNamespace.delete('/run/podwire-test-none/none');
});

test('run goes in and comes back, also when the callback throws, and nests', { skip }, () => {
  const before = own();
  const a = make('a');
  const b = make('b');
  assert.equal(a.run(own), `net:[${a.inode}]`);
  assert.deepEqual(
    a.run(() => [b.run(own), own()]),
    [`net:[${b.inode}]`, `net:[${a.inode}]`],
  );
  assert.throws(
    () =>
      a.run(() => {
        throw new Error('inside');
      }),
    /inside/,
  );
  assert.equal(own(), before);
});

test('run refuses what would go on outside', { skip }, () => {
  const ns = make('sync-only');
  let ran = false;
  assert.throws(
    () =>
      ns.run(async () => {
        ran = true;
      }),
    /no async function/,
  );
  assert.equal(ran, false);
  assert.throws(() => ns.run(() => Promise.resolve(1)), /returned a promise/);
});

test('pool threads and later children stay in the namespace of the process', { skip }, async () => {
  const ns = make('pool');
  ns.run(() => 0);
  const home = own();
  await Promise.all(Array.from({ length: 16 }, () => stat('/')));
  const tasks = spawnSync('sh', ['-c', `readlink /proc/${process.pid}/task/*/ns/net`], { encoding: 'utf8' });
  assert.deepEqual(new Set(tasks.stdout.trim().split('\n')), new Set([home]));
  assert.equal(execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' }).trim(), home);
});

test('a child spawned inside run stays inside', { skip }, () => {
  const ns = make('child');
  const inside = ns.run(() => execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' }));
  assert.equal(inside.trim(), `net:[${ns.inode}]`);
});

test('ofPid, current and fromFd see the same namespace', { skip }, () => {
  using mine = NetworkNamespace.current();
  using byPid = NetworkNamespace.ofPid(process.pid);
  using copy = mine.duplicate();
  assert.equal(mine.inode, byPid.inode);
  assert.equal(copy.inode, mine.inode);
  assert.throws(() => NetworkNamespace.ofPid(0x7ffffff0), isNotFound);
  assert.throws(() => NetworkNamespace.open('/run/podwire-test-none'), isNotFound);
});

test('an anonymous namespace ends with its handle, and a closed handle says so', { skip }, () => {
  const ns = NetworkNamespace.anonymous();
  assert.notEqual(ns.run(own), own());
  ns.close();
  ns.close();
  assert.throws(() => ns.run(() => 0), /closed/);
});

test('a way back that fails ends the process', { skip }, () => {
  const script = `
    import { closeSync, readdirSync, readlinkSync } from 'node:fs';
    import { NetworkNamespace } from '${new URL('../../src/linux/netns.ts', import.meta.url).href}';
    const ns = NetworkNamespace.anonymous();
    ns.run(() => {
      for (const fd of readdirSync('/proc/self/fd')) {
        let target = '';
        try { target = readlinkSync('/proc/self/fd/' + fd); } catch {}
        if (target.startsWith('net:[')) closeSync(Number(fd));
      }
    });
    console.log('went on');
  `;
  const { signal, stdout, stderr } = spawnSync(
    'sh',
    ['-c', 'ulimit -c 0; exec "$0" --input-type=module -e "$1"', process.execPath, script],
    { encoding: 'utf8' },
  );
  assert.equal(signal, 'SIGABRT');
  assert.equal(stdout, '');
  assert.match(stderr, /cannot leave a network namespace/);
});
