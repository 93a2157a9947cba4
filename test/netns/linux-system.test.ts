import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { hasCode, isNotFound } from '../../src/linux/errors.ts';
import { bindMount, mounts, mountsUnder, mountTmpfs, unmount } from '../../src/linux/mount.ts';
import { setTxChecksumOffload, txChecksumOffload } from '../../src/linux/offload.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { readSysctl, writeSysctl } from '../../src/linux/sysctl.ts';
import { namespaces, skip } from './linux-fixture.ts';

const make = namespaces();

test('a sysctl is set in its namespace only', { skip }, () => {
  const [a, b] = [make('a'), make('b')];
  const outside = readSysctl(undefined, 'net.ipv4.ip_forward');
  writeSysctl(a, 'net.ipv4.ip_forward', 1);
  writeSysctl(b, 'net/ipv4/ip_forward', '0');
  assert.deepEqual([readSysctl(a, 'net.ipv4.ip_forward'), readSysctl(b, 'net.ipv4.ip_forward')], ['1', '0']);
  assert.equal(readSysctl(undefined, 'net.ipv4.ip_forward'), outside);
  writeSysctl(a, 'net.ipv4.ip_local_port_range', '20000 30000');
  assert.match(readSysctl(a, 'net.ipv4.ip_local_port_range'), /^20000\s30000$/);
});

test('a sysctl of an interface with a dot in its name', { skip }, () => {
  const ns = make('dotted');
  using links = Rtnetlink.open(ns);
  links.createVeth({ name: 'eth0.100', peer: { name: 'other' } });
  writeSysctl(ns, 'net/ipv4/conf/eth0.100/rp_filter', 2);
  assert.equal(readSysctl(ns, 'net/ipv4/conf/eth0.100/rp_filter'), '2');
});

test('sysctl errors say what is wrong', { skip }, () => {
  const ns = make('wrong');
  assert.throws(() => readSysctl(ns, 'net.ipv4.no_such_thing'), isNotFound);
  assert.throws(() => writeSysctl(ns, 'net.ipv4.no_such_thing', 1), isNotFound);
  assert.throws(
    () => writeSysctl(ns, 'net.ipv4.ip_forward', 'yes'),
    (error) => hasCode(error, 'EINVAL'),
  );
  assert.throws(() => readSysctl(ns, '../../etc/passwd'), TypeError);
});

test('transmit checksum offload of veth and vxlan', { skip }, () => {
  const ns = make('offload');
  using links = Rtnetlink.open(ns);
  links.createVeth({ name: 'v0', peer: { name: 'v1' } });
  assert.equal(txChecksumOffload(ns, 'v0'), 'on');
  setTxChecksumOffload(ns, 'v0', 'off');
  assert.equal(txChecksumOffload(ns, 'v0'), 'off');
  assert.equal(txChecksumOffload(ns, 'v1'), 'on');
  setTxChecksumOffload(ns, 'v0', 'on');
  assert.equal(txChecksumOffload(ns, 'v0'), 'on');
  assert.throws(() => setTxChecksumOffload(ns, 'none', 'off'), isNotFound);
});

/** A folder under /run with a tmpfs of ours on it, so that no mount of the machine is touched. */
let folder = '';
before(() => {
  if (!skip) folder = mkdtempSync(`/run/podwire-test-mount-${process.pid}-`);
});
after(() => {
  if (skip) return;
  for (const path of mountsUnder(folder)) unmount(path);
  rmSync(folder, { recursive: true });
});

test('tmpfs, bind and read-only mounts come and go', { skip }, () => {
  const base = join(folder, 'tmpfs with space');
  mkdirSync(base);
  mountTmpfs(base, { sizeBytes: 1 << 20, mode: 0o700 });
  assert.equal(mounts().find((mount) => mount.path === base)?.fileSystem, 'tmpfs');
  for (const name of ['from', 'to', 'readonly']) mkdirSync(join(base, name));
  writeFileSync(join(base, 'from', 'file'), 'content');
  bindMount(join(base, 'from'), join(base, 'to'));
  bindMount(join(base, 'from'), join(base, 'readonly'), { readOnly: true });
  assert.equal(readFileSync(join(base, 'to', 'file'), 'utf8'), 'content');
  assert.throws(() => writeFileSync(join(base, 'readonly', 'file'), 'x'), /EROFS/);
  writeFileSync(join(base, 'to', 'file'), 'changed');
  assert.equal(readFileSync(join(base, 'readonly', 'file'), 'utf8'), 'changed');
  assert.deepEqual(mountsUnder(base), [join(base, 'readonly'), join(base, 'to'), base]);
  for (const path of mountsUnder(base)) assert.equal(unmount(path), true);
  assert.equal(unmount(base), false);
  assert.equal(unmount(join(folder, 'none')), false);
  assert.ok(!existsSync(join(base, 'from')));
  assert.throws(() => bindMount(join(folder, 'none'), base), isNotFound);
});
