import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  blockTest,
  cidrAddress,
  cidrContains,
  cidrSize,
  cidrsOverlap,
  formatCidr,
  formatIp,
  hostPort,
  ipFromBytes,
  ipToBigInt,
  ipToBytes,
  isIp,
  parseCidr,
  parseCidrStrict,
  parseIp,
  subnet,
} from './ip.ts';

test('addresses become canonical text', () => {
  const cases: [string, string][] = [
    ['10.0.0.1', '10.0.0.1'],
    ['::', '::'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['FD00::0:A', 'fd00::a'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['::ffff:10.1.2.3', '::ffff:a01:203'],
    ['2001:db8::', '2001:db8::'],
  ];
  for (const [text, canonical] of cases) assert.equal(parseIp(text), canonical);
});

test('what is no address is refused', () => {
  for (const text of [
    '',
    '10.0.0',
    '010.0.0.1',
    '10.0.0.256',
    'fe80::1%eth0',
    '1::2::3',
    'a.b.c.d',
    '10.0.0.1/8',
    ' 10.0.0.1',
  ]) {
    assert.equal(isIp(text), false, text);
    assert.throws(() => parseIp(text), TypeError, text);
  }
});

test('bytes, numbers and text are one address', () => {
  fc.assert(
    fc.property(fc.constantFrom(4, 16), fc.infiniteStream(fc.integer({ min: 0, max: 255 })), (length, stream) => {
      const bytes = Uint8Array.from([...stream.take(length)]);
      const text = ipFromBytes(bytes);
      assert.deepEqual(ipToBytes(text), bytes);
      assert.equal(parseIp(text), text);
      assert.equal(formatIp(length === 4 ? 4 : 6, ipToBigInt(text)), text);
    }),
  );
});

test('CIDRs: bounds, membership, subnets', () => {
  const pods = parseCidr('10.244.0.0/16');
  assert.equal(formatCidr(parseCidr('10.244.3.9/16')), '10.244.0.0/16');
  assert.throws(() => parseCidrStrict('10.244.3.9/16'), /host bits/);
  assert.equal(cidrSize(pods), 65536n);
  assert.equal(cidrAddress(pods, 258), '10.244.1.2');
  assert.throws(() => cidrAddress(pods, 65536), RangeError);
  assert.equal(cidrContains(pods, '10.244.255.255'), true);
  assert.equal(cidrContains(pods, '10.245.0.0'), false);
  assert.equal(cidrContains(pods, 'fd00::1'), false);
  assert.equal(formatCidr(subnet(pods, 24, 255)), '10.244.255.0/24');
  assert.throws(() => subnet(pods, 24, 256), RangeError);
  assert.equal(formatCidr(subnet(parseCidr('fd00:10:244::/56'), 64, 3)), 'fd00:10:244:3::/64');
  assert.equal(cidrsOverlap(pods, parseCidr('10.0.0.0/8')), true);
  assert.equal(cidrsOverlap(pods, parseCidr('fd00::/8')), false);
  for (const bad of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/08', 'fd00::/129'])
    assert.throws(() => parseCidr(bad));
});

test('host and port as URLs want them', () => {
  assert.equal(hostPort('10.0.0.1', 80), '10.0.0.1:80');
  assert.equal(hostPort('fd00::1', 80), '[fd00::1]:80');
});

test('a block that is asked of many addresses says the same', () => {
  const octets = fc.array(fc.constantFrom(0, 1, 127, 128, 255), { minLength: 4, maxLength: 4 });
  fc.assert(
    fc.property(octets, octets, fc.integer({ min: 0, max: 32 }), (network, octet, prefix) => {
      const cidr = parseCidr(`${network.join('.')}/${prefix}`);
      const address = parseIp(octet.join('.'));
      assert.equal(blockTest(cidr)(address), cidrContains(cidr, address));
    }),
  );
  const six = blockTest(parseCidr('fd00::/64'));
  assert.deepEqual([six(parseIp('fd00::1')), six(parseIp('fd00:0:0:1::1'))], [true, false]);
});
