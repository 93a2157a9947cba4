import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UserError } from '../base/errors.ts';
import type { Features } from '../linux/features.ts';
import { requireKernel } from './kernel.ts';
import type { ProxyMode } from './proxy-mode.ts';
import { requireProxyPrograms } from './requirements.ts';

/** A kernel that has everything but what is named. */
function kernelWithout(...names: string[]): Features {
  return new Proxy({} as Features, {
    get: (_, name: string) =>
      names.includes(name) ? { present: false, reason: `this kernel has no ${name} (EOPNOTSUPP)` } : { present: true },
  });
}

test('a kernel that lacks something is refused in one line, with a way out', () => {
  const refusal = (missing: string, proxy: ProxyMode = 'nftables') => {
    try {
      requireKernel({ podNetwork: 'vxlan', proxy }, () => kernelWithout(missing));
    } catch (error) {
      assert.ok(error instanceof UserError);
      return error;
    }
    return assert.fail(`${missing} is not missed`);
  };
  assert.equal(refusal('nftables').message, 'this kernel has no nftables (EOPNOTSUPP)');
  assert.equal(refusal('nftables').exitCode, 3);
  assert.match(refusal('vxlan').hint ?? '', /--pod-network host-gw/);
  requireKernel({ podNetwork: 'host-gw', proxy: 'nftables' }, () => kernelWithout('vxlan'));
  requireKernel({ podNetwork: 'vxlan', proxy: 'nftables' }, () => kernelWithout('ip_vs', 'xtables', 'wireguard'));
  const lacks = { iptables: 'xtables', ipvs: 'ip_vs', ebpf: 'bpfSockets' } as const;
  for (const [proxy, missing] of Object.entries(lacks) as [ProxyMode, string][]) {
    assert.equal(refusal(missing, proxy).message, `this kernel has no ${missing} (EOPNOTSUPP)`);
    assert.equal(refusal(missing, proxy).hint, 'use: podwire up --proxy nftables');
  }
  assert.match(refusal('nftables', 'ipvs').hint ?? '', /another kernel/);
});

test('a program that a mode of the proxy works with is named with its package', () => {
  assert.throws(() => requireProxyPrograms('iptables', { PATH: '/nonexistent' }, []), {
    message: 'this machine lacks iptables-restore, which --proxy iptables works with',
    hint: 'run: apt-get install iptables   or use: podwire up --proxy nftables',
    exitCode: 3,
  });
  requireProxyPrograms('nftables', { PATH: '/nonexistent' }, []);
});
