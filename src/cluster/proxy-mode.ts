/** The ways in which a node's Services can be put into its kernel. docs/services.md says what each needs and costs. */
export type ProxyMode = 'nftables' | 'iptables' | 'ipvs' | 'ebpf';

/** Those that can be chosen. */
export const PROXY_MODES = ['nftables', 'iptables', 'ipvs', 'ebpf'] as const satisfies readonly ProxyMode[];

export const DEFAULT_PROXY_MODE: ProxyMode = 'nftables';
