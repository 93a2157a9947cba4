import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from './ip.ts';
import { formatRange, parseRange, rangeOfCidr } from './ip-range.ts';

test('ranges: CIDRs, first-last, one address', () => {
  const cases: [string, string][] = [
    ['172.18.200.0/24', '172.18.200.1-172.18.200.254'],
    ['172.18.200.4/31', '172.18.200.4-172.18.200.5'],
    ['172.18.200.0-172.18.200.3', '172.18.200.0-172.18.200.3'],
    ['172.18.200.9 - 172.18.200.9', '172.18.200.9'],
    ['172.18.200.9', '172.18.200.9'],
    ['fd00::/126', 'fd00::1-fd00::3'],
  ];
  for (const [text, expected] of cases) assert.equal(formatRange(parseRange(text)), expected, text);
});

test('what is no range says why', () => {
  const cases: [string, RegExp][] = [
    ['172.18.200.1/24', /host bits/],
    ['172.18.200.9-172.18.200.1', /ends before/],
    ['172.18.200.9-fd00::1', /two families/],
    ['a-b', /not a CIDR, a range/],
    ['1.2.3.4-1.2.3.5-1.2.3.6', /not a CIDR, a range/],
    ['', /not a CIDR/],
  ];
  for (const [text, message] of cases) assert.throws(() => parseRange(text), message, text);
});

test('the whole of a CIDR', () => {
  assert.equal(formatRange(rangeOfCidr(parseCidr('172.18.200.0/30'))), '172.18.200.0-172.18.200.3');
});
