/** The address plan of a cluster: Kubernetes' own defaults, in the families that were asked for. */
import { cidrAddress, type Family, parseCidr } from '../base/ip.ts';
import type { PodNetworkMode } from './description.ts';

export interface ClusterNetwork {
  readonly podCidrs: readonly string[];
  readonly serviceCidrs: readonly string[];
  readonly dnsAddresses: readonly string[];
  readonly clusterDomain: string;
  readonly podNetwork: PodNetworkMode;
}

const POD_CIDRS: Readonly<Record<Family, string>> = { 4: '10.244.0.0/16', 6: 'fd00:10:244::/56' };
const SERVICE_CIDRS: Readonly<Record<Family, string>> = { 4: '10.96.0.0/16', 6: 'fd00:10:96::/112' };
/** kubeadm's choice: the tenth address of the Service range is the cluster's DNS. */
const DNS_OFFSET = 10;

/** The plan for the families, the primary one first. */
export function clusterNetwork(families: readonly Family[], podNetwork: PodNetworkMode): ClusterNetwork {
  const serviceCidrs = families.map((family) => SERVICE_CIDRS[family]);
  return {
    podCidrs: families.map((family) => POD_CIDRS[family]),
    serviceCidrs,
    dnsAddresses: serviceCidrs.map((cidr) => cidrAddress(parseCidr(cidr), DNS_OFFSET)),
    clusterDomain: 'cluster.local',
    podNetwork,
  };
}
