import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { detectFeatures } from '../../src/linux/features.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { skip } from './linux-fixture.ts';

test('every feature is present, or absent with one clear line', { skip }, () => {
  const features = detectFeatures();
  for (const [name, feature] of Object.entries(features)) {
    if (feature.present) continue;
    assert.match(feature.reason, /^this kernel has no \S[^\n]*\(\S[^\n]*\)$/, name);
  }
  assert.equal(features.veth.present, true);
});

test('what is said about links agrees with iproute2', { skip }, () => {
  const features = detectFeatures();
  using ns = NetworkNamespace.anonymous();
  for (const kind of ['bridge', 'dummy', 'wireguard', 'ipip', 'ifb'] as const) {
    const works = ns.run(() => {
      try {
        execFileSync('ip', ['link', 'add', 'x0', 'type', kind], { stdio: 'ignore' });
        execFileSync('ip', ['link', 'del', 'x0'], { stdio: 'ignore' });
        return true;
      } catch {
        return false;
      }
    });
    assert.equal(features[kind].present, works, kind);
  }
});

test('nothing is left in the machine’s own namespace', { skip }, () => {
  using links = Rtnetlink.open();
  const before = links.links().map((link) => link.name);
  detectFeatures();
  assert.deepEqual(
    links
      .links()
      .map((link) => link.name)
      .filter((name) => /^(probe|room)/.test(name)),
    [],
  );
  assert.ok(before.length > 0);
});
