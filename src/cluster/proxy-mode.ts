/** The ways in which a node's Services can be put into its kernel. docs/services.md says what each needs and costs. */
export type ProxyMode = 'nftables' | 'iptables' | 'ipvs' | 'ebpf';

/** Those that can be chosen. */
export const PROXY_MODES = ['nftables', 'iptables', 'ipvs', 'ebpf'] as const satisfies readonly ProxyMode[];

export const DEFAULT_PROXY_MODE: ProxyMode = 'nftables';

/**
 * Whether a mode serves NodePorts at 127.0.0.1, which asks two things of its rules: that they translate such packets, and that they
 * guard what net.ipv4.conf.all.route_localnet opens (CVE-2020-8558). IPVS refuses to send from a loopback address to another host.
 */
export function servesLocalhost(mode: ProxyMode): boolean {
  return mode !== 'ipvs';
}
