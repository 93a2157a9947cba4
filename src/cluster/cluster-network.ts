/** The address plan of a cluster: Kubernetes' own defaults, in the families that were asked for. */
import { cidrAddress, type Family, parseCidr } from '../base/ip.ts';
import type { PodNetworkMode } from './description.ts';
import type { ProxyMode } from './proxy-mode.ts';

export interface ClusterNetwork {
  readonly podCidrs: readonly string[];
  readonly serviceCidrs: readonly string[];
  readonly dnsAddresses: readonly string[];
  readonly clusterDomain: string;
  readonly podNetwork: PodNetworkMode;
  readonly proxy: ProxyMode;
  /** CIDRs or ranges on the underlay for Services of type LoadBalancer. */
  readonly loadBalancerPool: readonly string[];
}

const POD_CIDRS: Readonly<Record<Family, string>> = { 4: '10.244.0.0/16', 6: 'fd00:10:244::/56' };
const SERVICE_CIDRS: Readonly<Record<Family, string>> = { 4: '10.96.0.0/16', 6: 'fd00:10:96::/112' };
/** On the underlay, between the nodes and the outside; no node ever has one of them. */
const LOAD_BALANCER_POOLS: Readonly<Record<Family, string>> = { 4: '172.18.200.0/24', 6: 'fd00:18::c8:0/112' };
/** kubeadm's choice: the tenth address of the Service range is the cluster's DNS. */
const DNS_OFFSET = 10;

/** What is chosen about a cluster's network. */
export interface NetworkChoice {
  readonly podNetwork: PodNetworkMode;
  readonly proxy: ProxyMode;
  readonly loadBalancerPool?: readonly string[] | undefined;
}

/** The plan for the families, the primary one first. */
export function clusterNetwork(
  families: readonly Family[],
  { podNetwork, proxy, loadBalancerPool }: NetworkChoice,
): ClusterNetwork {
  const serviceCidrs = families.map((family) => SERVICE_CIDRS[family]);
  return {
    podCidrs: families.map((family) => POD_CIDRS[family]),
    serviceCidrs,
    dnsAddresses: serviceCidrs.map((cidr) => cidrAddress(parseCidr(cidr), DNS_OFFSET)),
    clusterDomain: 'cluster.local',
    podNetwork,
    proxy,
    loadBalancerPool: loadBalancerPool ?? families.map((family) => LOAD_BALANCER_POOLS[family]),
  };
}
