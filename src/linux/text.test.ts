/** The pure parts of the small modules: keys, mount tables, socket addresses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIp } from '../base/ip.ts';
import { parseMountInfo } from './mount.ts';
import { decodeSocketAddress, encodeSocketAddress } from './sockets.ts';
import { sysctlPath } from './sysctl.ts';

test('sysctl keys', () => {
  assert.equal(sysctlPath('net.ipv4.ip_forward'), '/proc/sys/net/ipv4/ip_forward');
  assert.equal(sysctlPath('net/ipv4/conf/eth0.100/rp_filter'), '/proc/sys/net/ipv4/conf/eth0.100/rp_filter');
  for (const wrong of ['', 'net..ipv4', '../etc/passwd', 'net/../../etc', '/etc', 'a\0b']) {
    assert.throws(() => sysctlPath(wrong), TypeError);
  }
});

test('the mount table', () => {
  const text = [
    '36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue',
    '37 35 0:4 net:[4026532001] /run/podwire/a rw shared:2 - nsfs nsfs rw',
    'nonsense',
    '',
  ].join('\n');
  assert.deepEqual(parseMountInfo(text), [
    { root: '/mnt1', path: '/mnt 2', fileSystem: 'ext3', options: ['rw', 'noatime'] },
    { root: 'net:[4026532001]', path: '/run/podwire/a', fileSystem: 'nsfs', options: ['rw'] },
  ]);
  fc.assert(fc.property(fc.string(), (line) => void parseMountInfo(line)));
});

test('socket addresses', () => {
  assert.equal(encodeSocketAddress('192.0.2.1', 80).toString('hex'), '02000050c00002010000000000000000');
  const address = fc.oneof(
    fc.bigInt(0n, (1n << 32n) - 1n).map((value) => formatIp(4, value)),
    fc.bigInt(0n, (1n << 128n) - 1n).map((value) => formatIp(6, value)),
  );
  fc.assert(
    fc.property(address, fc.nat(65535), (ip, port) => {
      assert.deepEqual(decodeSocketAddress(encodeSocketAddress(ip, port)), { address: ip, port });
    }),
  );
  assert.throws(() => decodeSocketAddress(Buffer.alloc(28)), TypeError);
  assert.throws(() => decodeSocketAddress(Buffer.alloc(0)), TypeError);
});
