import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ipFromBytes, parseCidr } from '../../base/ip.ts';
import { decodeReverseName, isComplete, reverseName, reverseZoneOf } from './reverse.ts';

test('an address and its reverse name', () => {
  assert.equal(reverseName('10.96.0.10'), '10.0.96.10.in-addr.arpa');
  assert.equal(reverseName('fd00::1'), '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa');
});

test('there and back', () => {
  const bytes = fc.constantFrom(4, 16).chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
  fc.assert(
    fc.property(bytes, (raw) => {
      const decoded = decodeReverseName(reverseName(ipFromBytes(raw)));
      assert.equal(decoded?.address, ipFromBytes(raw));
      assert.ok(isComplete(decoded!));
    }),
  );
});

test('names with fewer labels stand for all addresses that begin so', () => {
  assert.deepEqual(decodeReverseName('244.10.in-addr.arpa'), { family: 4, address: '10.244.0.0', labels: 2 });
  assert.deepEqual(decodeReverseName('0.0.d.f.ip6.arpa'), { family: 6, address: 'fd00::', labels: 4 });
});

test('other names are none', () => {
  for (const name of [
    'in-addr.arpa',
    'cluster.local',
    '1.256.0.10.in-addr.arpa',
    '01.0.0.10.in-addr.arpa',
    '1.1.0.0.10.in-addr.arpa',
    'x.0.0.10.in-addr.arpa',
    'g.f.ip6.arpa',
    'fd.ip6.arpa',
    'fakein-addr.arpa',
  ]) {
    assert.equal(decodeReverseName(name), undefined, name);
  }
});

test('zones are cut at whole labels', () => {
  assert.deepEqual(reverseZoneOf(parseCidr('10.244.0.0/16'), '10.244.3.4'), { labels: 2, name: '244.10.in-addr.arpa' });
  assert.deepEqual(reverseZoneOf(parseCidr('10.96.0.0/12'), '10.100.3.4'), { labels: 2, name: '100.10.in-addr.arpa' });
  assert.deepEqual(reverseZoneOf(parseCidr('fd00:10:244::/56'), 'fd00:10:244::1'), {
    labels: 14,
    name: '0.0.4.4.2.0.0.1.0.0.0.0.d.f.ip6.arpa',
  });
});
