/** Pod -> the CRI's PodSandboxConfig. Pure. */
import type { Pod } from '../../../kube/types.ts';
import type { DnsConfig, PodSandboxConfig } from '../cri/types.ts';
import { podLabels } from './labels.ts';
import { kernelHostname } from './network-files.ts';
import { sandboxSecurity } from './security.ts';

export interface SandboxInput {
  readonly pod: Pod;
  readonly attempt: number;
  readonly logDirectory: string;
  readonly dns: DnsConfig;
  readonly clusterDomain: string;
  readonly cgroupParent: string | undefined;
}

export function buildSandboxConfig(input: SandboxInput): PodSandboxConfig {
  const { pod, attempt } = input;
  const { name, namespace, uid } = pod.metadata;
  const sysctls = pod.spec.securityContext?.sysctls ?? [];
  return {
    metadata: { name, namespace, uid, attempt },
    // A pod in the node's UTS namespace keeps the node's name.
    hostname: pod.spec.hostNetwork ? '' : kernelHostname(pod, input.clusterDomain),
    logDirectory: input.logDirectory,
    dnsConfig: input.dns,
    labels: { ...pod.metadata.labels, ...podLabels(pod) },
    annotations: { ...pod.metadata.annotations },
    linux: {
      ...(input.cgroupParent ? { cgroupParent: input.cgroupParent } : {}),
      securityContext: sandboxSecurity(pod),
      sysctls: Object.fromEntries(sysctls.map(({ name: key, value }) => [key, value])),
    },
  };
}
