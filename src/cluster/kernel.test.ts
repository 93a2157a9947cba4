import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UserError } from '../base/errors.ts';
import type { Features } from '../linux/features.ts';
import { requireKernel } from './kernel.ts';

/** A kernel that has everything but what is named. */
function kernelWithout(...names: string[]): Features {
  return new Proxy({} as Features, {
    get: (_, name: string) =>
      names.includes(name) ? { present: false, reason: `this kernel has no ${name} (EOPNOTSUPP)` } : { present: true },
  });
}

test('a kernel that lacks something is refused in one line, with a way out', () => {
  const refusal = (missing: string) => {
    try {
      requireKernel('vxlan', () => kernelWithout(missing));
    } catch (error) {
      assert.ok(error instanceof UserError);
      return error;
    }
    return assert.fail(`${missing} is not missed`);
  };
  assert.equal(refusal('nftables').message, 'this kernel has no nftables (EOPNOTSUPP)');
  assert.equal(refusal('nftables').exitCode, 3);
  assert.match(refusal('vxlan').hint ?? '', /--pod-network host-gw/);
  requireKernel('host-gw', () => kernelWithout('vxlan'));
  requireKernel('vxlan', () => kernelWithout('ip_vs', 'wireguard'));
});
