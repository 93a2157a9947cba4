/**
 * The nftables rules beside IPVS: a constant number of them, over maps and sets. IPVS only picks an endpoint and translates; who may
 * come, what is refused and what is masqueraded is decided here, before it (KUBE-… chains and ipsets in kube-proxy's mode ipvs).
 *
 * A packet of a new connection gets a code by where it comes from and where it goes to. A code above the fixed ones is a mark by
 * which IPVS finds another virtual service: the endpoints of this node, for clients outside under policy Local.
 */
import { type Cidr, type Family, formatCidr } from '../../../base/ip.ts';
import { IPVS_MARK, MASQUERADE_MARK } from '../../../base/packet-marks.ts';
import type { ClusterAddresses } from '../rules.ts';
import { disjointRanges } from '../source-ranges.ts';

export const Code = { pass: 1, masquerade: 2, refuse: 3, drop: 4 } as const;
/** Marks of virtual services for clients outside begin here. */
export const FIRST_FWMARK = 0x100;
/** They end before the bits that podwire's components share. */
export const FWMARK_COUNT = 0x0fffff00;

export const MAPS = ['from-pods', 'from-node', 'from-outside'] as const;
/**
 * `local-policy` has the frontends whose clients outside keep to this node; `leaving` those that are gone while connections go on:
 * new ones are refused.
 */
export const SETS = [
  'local-policy',
  'firewalled',
  'firewall-allowed',
  'leaving',
  'hairpin',
  'virtual-addresses',
] as const;

/** ARP requests for virtual addresses of IPv4 are for whoever announces them, not for every node that has them. */
export const ARP_TABLE = 'arp podwire-ipvs';

export function tableOf(family: Family): string {
  return family === 4 ? 'ip podwire-ipvs' : 'ip6 podwire-ipvs';
}

const hex = (value: number): string => `0x${(value >>> 0).toString(16)}`;

export function renderArpTable(): string {
  return `table ${ARP_TABLE} {
  set virtual-addresses { type ipv4_addr; }
  chain input {
    type filter hook input priority filter; policy accept;
    arp operation request arp daddr ip @virtual-addresses drop
  }
}
`;
}

/** The table of a family without any Service. */
export function renderTable(family: Family, { podCidrs, ownPodCidrs, serviceCidrs }: ClusterAddresses): string {
  const ip = family === 4 ? 'ip' : 'ip6';
  const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  const frontend = `${ip} daddr . meta l4proto . th dport`;
  const key = `${address} . inet_proto . inet_service`;
  const interval = (cidrs: readonly Cidr[]) => {
    const own = disjointRanges(cidrs.filter((cidr) => cidr.family === family)).map(formatCidr);
    const elements = own.length > 0 ? ` elements = { ${own.sort().join(', ')} };` : '';
    return `type ${address}; flags interval;${elements}`;
  };
  const unmark = `meta mark set meta mark & ${hex(~(MASQUERADE_MARK | IPVS_MARK))}`;
  const from = (map: string) => `
  chain ${map} {
    meta mark set ${frontend} map @${map} goto ${map === 'from-node' ? 'act-for-node' : 'act'}
    goto unused-port
  }`;
  return `table ${tableOf(family)} {
${MAPS.map((map) => `  map ${map} { type ${key} : mark; }`).join('\n')}
  set local-policy { type ${key}; }
  set firewalled { type ${key}; }
  set firewall-allowed { type ${key} . ${address}; flags interval; }
  set leaving { type ${key}; }
  set hairpin { type ${address} . ${address}; }
  set virtual-addresses { type ${address}; }
  set pod-cidrs { ${interval(podCidrs)} }
  set own-pod-cidrs { ${interval(ownPodCidrs)} }
  set service-cidrs { ${interval(serviceCidrs)} }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject
  }
  chain unused-port {
    ${ip} daddr @service-cidrs goto refuse
    ${ip} daddr @virtual-addresses goto refuse
  }
  chain act {
    meta mark ${Code.refuse} meta mark set 0x0 goto refuse
    meta mark ${Code.drop} drop
    meta mark ${Code.masquerade} meta mark set ${hex(MASQUERADE_MARK | IPVS_MARK)} accept
    meta mark ${Code.pass} meta mark set ${hex(IPVS_MARK)} accept
    meta mark set meta mark | ${hex(IPVS_MARK)}
  }
  chain act-for-node {
    meta mark ${Code.refuse} meta mark set 0x0 goto refuse
    meta mark ${Code.drop} drop
    meta mark ${Code.masquerade} meta mark set ${hex(MASQUERADE_MARK)} accept
    meta mark set 0x0
  }${MAPS.map(from).join('')}
  chain from-other-pods {
    ${frontend} @local-policy meta mark set ${frontend} map @from-node goto act
    goto from-pods
  }
  chain firewall {
    ${frontend} @firewalled ${frontend} . ${ip} saddr != @firewall-allowed drop
  }
  chain prerouting {
    type filter hook prerouting priority -110; policy accept;
    ct state != new accept
    ${frontend} @leaving goto refuse
    jump firewall
    ${ip} saddr @own-pod-cidrs goto from-pods
    ${ip} saddr @pod-cidrs goto from-other-pods
    goto from-outside
  }
  chain output {
    type filter hook output priority -110; policy accept;
    ct state != new accept
    meta mark & ${hex(IPVS_MARK)} == ${hex(IPVS_MARK)} accept
    ${frontend} @leaving goto refuse
    jump firewall
    ${ip} saddr @pod-cidrs goto from-pods
    goto from-node
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & ${hex(MASQUERADE_MARK)} == ${hex(MASQUERADE_MARK)} ${unmark} masquerade fully-random
    meta mark & ${hex(IPVS_MARK)} == ${hex(IPVS_MARK)} ${unmark}
    ${ip} saddr . ${ip} daddr @hairpin masquerade fully-random
  }
}
`;
}
