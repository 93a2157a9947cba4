import assert from 'node:assert/strict';
import { test } from 'node:test';
import { spoilsTunnelChecksums } from './reconciler.ts';

const releases: [string, boolean][] = [
  ['4.19.0-27-amd64', true],
  ['5.4.0', true],
  ['5.6.19', true],
  ['5.7.0', false],
  ['6.1.0-37-cloud-amd64', false],
  ['10.0', false],
  ['unknown', false],
];
for (const [release, expected] of releases) {
  test(`checksums of tunnelled packets on Linux ${release}: ${expected ? 'spoiled' : 'right'}`, () => {
    assert.equal(spoilsTunnelChecksums(release), expected);
  });
}
