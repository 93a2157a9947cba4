/** What the kernel must have before a cluster can start. Trying takes 0.1 s, so the answer is kept for this boot. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { detectFeatures, type FeatureName, type Features } from '../linux/features.ts';
import type { PodNetworkMode } from './description.ts';
import { cacheRoot } from './paths.ts';
import type { ProxyMode } from './proxy-mode.ts';

const ALWAYS: readonly FeatureName[] = [
  'veth',
  'bridge',
  'nftables',
  'nftNat',
  'nftMasquerade',
  'nftNumgen',
  'nftFib',
  'nftReject',
  'conntrack',
  'overlayfs',
];

/** What each way over the nodes and each mode of the proxy needs beyond that. */
const BY_POD_NETWORK: Readonly<Record<PodNetworkMode, readonly FeatureName[]>> = { vxlan: ['vxlan'], 'host-gw': [] };
const BY_PROXY: Readonly<Record<ProxyMode, readonly FeatureName[]>> = {
  nftables: [],
  iptables: ['xtables'],
  ipvs: ['ip_vs', 'dummy'],
  ebpf: ['bpf', 'bpfSockets', 'cgroup2'],
};

/** The choices of a cluster that ask something of the kernel. */
export interface KernelChoice {
  readonly podNetwork: PodNetworkMode;
  readonly proxy: ProxyMode;
}

/** Throws UserError that names the first feature the kernel lacks, with the choice that does without it. */
export function requireKernel({ podNetwork, proxy }: KernelChoice, detect: () => Features = detectFeatures): void {
  const needed = [...ALWAYS, ...BY_POD_NETWORK[podNetwork], ...BY_PROXY[proxy]];
  const marker = join(cacheRoot(), `kernel-${bootId()}-${podNetwork}-${proxy}`);
  if (detect === detectFeatures && existsSync(marker)) return;
  const features = detect();
  for (const name of needed) {
    const feature = features[name];
    if (!feature.present) {
      throw new UserError(feature.reason, { hint: wayOut(name, proxy), exitCode: 3 });
    }
  }
  if (detect === detectFeatures) remember(marker);
}

function wayOut(name: FeatureName, proxy: ProxyMode): string {
  if (name === 'vxlan') return 'without VXLAN use: podwire up --pod-network host-gw';
  if (BY_PROXY[proxy].includes(name)) return 'use: podwire up --proxy nftables';
  return 'load the module or use another kernel';
}

/** Changes with every boot, and with it the kernel and its modules may. */
function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function remember(marker: string): void {
  mkdirSync(cacheRoot(), { recursive: true });
  for (const name of readdirSync(cacheRoot())) {
    if (name.startsWith('kernel-') && !name.startsWith(`kernel-${bootId()}`)) rmSync(join(cacheRoot(), name));
  }
  writeFileSync(marker, '');
}
