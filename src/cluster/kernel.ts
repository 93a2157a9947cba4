/** What the kernel must have before a cluster can start. Trying takes 0.1 s, so the answer is kept for this boot. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { detectFeatures, type FeatureName, type Features } from '../linux/features.ts';
import type { PodNetworkMode } from './description.ts';
import { cacheRoot } from './paths.ts';

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

/** Throws UserError that names the first feature the kernel lacks. */
export function requireKernel(podNetwork: PodNetworkMode, detect: () => Features = detectFeatures): void {
  const needed = podNetwork === 'vxlan' ? [...ALWAYS, 'vxlan' as const] : ALWAYS;
  const marker = join(cacheRoot(), `kernel-${bootId()}-${podNetwork}`);
  if (detect === detectFeatures && existsSync(marker)) return;
  const features = detect();
  for (const name of needed) {
    const feature = features[name];
    if (!feature.present) {
      const hint =
        name === 'vxlan'
          ? 'without VXLAN use: podwire up --pod-network host-gw'
          : 'load the module or use another kernel';
      throw new UserError(feature.reason, { hint, exitCode: 3 });
    }
  }
  if (detect === detectFeatures) remember(marker);
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
