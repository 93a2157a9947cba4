/** Requests and limits -> QoS class, cgroup values. Pure. Formulas of the kubelet (pkg/kubelet/cm/helpers_linux.go, qos). */
import { quantityMilli, quantityValue } from '../../../kube/quantity.ts';
import type { corev1, PodSpec } from '../../../kube/types.ts';
import type { LinuxContainerResources } from '../cri/types.ts';

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

/** cgroup v1 cpu.cfs_period_us and the least values the kernel takes. */
const CFS_PERIOD_US = 100_000;
const MIN_QUOTA_US = 1000;
const MIN_SHARES = 2;
const MAX_SHARES = 262_144;
/** oom_score_adj (proc(5)) of the QoS classes. */
const GUARANTEED_OOM_SCORE = -997;
const BEST_EFFORT_OOM_SCORE = 1000;

function amount(map: { readonly [name: string]: unknown } | undefined, resource: string): string | undefined {
  const value = map?.[resource];
  return value === undefined || value === null ? undefined : String(value);
}

/** The class as kubectl describes it: by cpu and memory of all containers, init containers too. */
export function qosClass(spec: PodSpec): QosClass {
  let guaranteed = true;
  let anything = false;
  for (const { resources } of [...spec.containers, ...(spec.initContainers ?? [])]) {
    for (const resource of ['cpu', 'memory']) {
      const limit = milli(resources?.limits, resource);
      const request = milli(resources?.requests, resource) || limit;
      if (limit || request) anything = true;
      if (!limit || request !== limit) guaranteed = false;
    }
  }
  if (!anything) return 'BestEffort';
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

function milli(map: { readonly [name: string]: unknown } | undefined, resource: string): number {
  const text = amount(map, resource);
  return text === undefined ? 0 : quantityMilli(text);
}

/** cpu.shares of a request in milli-CPUs. */
export function cpuShares(milliCpu: number): number {
  return Math.min(MAX_SHARES, Math.max(MIN_SHARES, Math.floor((milliCpu * 1024) / 1000)));
}

/** cpu.cfs_quota_us of a limit in milli-CPUs. */
export function cpuQuota(milliCpu: number): number {
  return Math.max(MIN_QUOTA_US, Math.floor((milliCpu * CFS_PERIOD_US) / 1000));
}

/** `nodeMemory` is the node's capacity in bytes. */
export function oomScoreAdjust(spec: PodSpec, container: corev1.Container, nodeMemory: number): number {
  switch (qosClass(spec)) {
    case 'Guaranteed':
      return GUARANTEED_OOM_SCORE;
    case 'BestEffort':
      return BEST_EFFORT_OOM_SCORE;
    case 'Burstable': {
      const { requests, limits } = container.resources ?? {};
      const request = quantityValue(amount(requests, 'memory') ?? amount(limits, 'memory') ?? '0');
      const score = 1000 - Math.floor((1000 * request) / Math.max(1, nodeMemory));
      // Never as safe as a Guaranteed pod, never as exposed as one of BestEffort.
      return Math.min(999, Math.max(1000 + GUARANTEED_OOM_SCORE, score));
    }
  }
}

export function containerResources(
  spec: PodSpec,
  container: corev1.Container,
  nodeMemory: number,
): LinuxContainerResources {
  const { requests, limits } = container.resources ?? {};
  const limit = amount(limits, 'cpu');
  const request = amount(requests, 'cpu') ?? limit ?? '0';
  const memory = amount(limits, 'memory');
  return {
    cpuPeriod: CFS_PERIOD_US,
    cpuShares: cpuShares(quantityMilli(request)),
    ...(limit !== undefined && quantityMilli(limit) > 0 ? { cpuQuota: cpuQuota(quantityMilli(limit)) } : {}),
    ...(memory !== undefined && quantityValue(memory) > 0 ? { memoryLimitInBytes: quantityValue(memory) } : {}),
    oomScoreAdj: oomScoreAdjust(spec, container, nodeMemory),
  };
}
