/** The other kernel has what this lane is for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { detectFeatures, type FeatureName } from '../../src/linux/features.ts';

const WANTED: readonly FeatureName[] = [
  'ip_vs',
  'dummy',
  'wireguard',
  'ipip',
  'gre',
  'sctp',
  'netem',
  'vxlan',
  'veth',
  'nftables',
  'nftNat',
  'conntrack',
  'xtables',
];

test('it has what the first kernel may lack', () => {
  const features = detectFeatures();
  const missing = WANTED.flatMap((name) => {
    const feature = features[name];
    return feature.present ? [] : [feature.reason];
  });
  assert.deepEqual(missing, []);
});
