/**
 * Pods send from their own addresses only: rules that policies and conntrack rely on, because both believe a packet's source.
 * IPv4's rp_filter sysctl has no twin for IPv6, so both families are held here, in one rule for all pods of a node.
 *
 * A packet from a pod's interface passes when the route back to its source leaves by that interface (`fib saddr . iif oif`,
 * fib(7) of nftables). Sources of link scope (neighbour discovery) pass: nothing forwards them.
 */
import { POD_LINK_GROUP } from './pod-link.ts';

/** What is needed of an nftables context. */
export interface RuleWriter {
  run(text: string): void;
}

export const ANTI_SPOOFING_TABLE = 'podwire-cni';

/** One transaction that makes or replaces the table. */
export function renderAntiSpoofing(): string {
  return `add table inet ${ANTI_SPOOFING_TABLE}
delete table inet ${ANTI_SPOOFING_TABLE}
add table inet ${ANTI_SPOOFING_TABLE}
add chain inet ${ANTI_SPOOFING_TABLE} prerouting { type filter hook prerouting priority raw; policy accept; }
add rule inet ${ANTI_SPOOFING_TABLE} prerouting iifgroup != ${POD_LINK_GROUP} accept
add rule inet ${ANTI_SPOOFING_TABLE} prerouting ip6 saddr { ::, fe80::/10 } accept
add rule inet ${ANTI_SPOOFING_TABLE} prerouting fib saddr . iif oif missing counter drop
`;
}

/** Makes the rule hold; harmless when it holds already. */
export function ensureAntiSpoofing(nft: RuleWriter): void {
  nft.run(renderAntiSpoofing());
}
