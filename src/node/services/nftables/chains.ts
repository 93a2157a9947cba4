/**
 * The rules: what every table holds whatever the Services are, and the chains that are made when the first frontend needs
 * them, one for each endpoint COUNT and one for each affinity timeout. Their number never grows with the Services.
 *
 * `numgen random mod K` takes constants only, hence a chain for each count. docs/services.md draws a packet's path.
 *
 * The slot (or, with affinity, the id) goes through the connection's mark, which keeps it. A map keyed with `typeof …
 * numgen …` would not need that, but nft 1.0.6 cannot add a rule to it later ("conflicting protocols: ip vs. th").
 */
import { type Cidr, type Family, formatCidr } from '../../../base/ip.ts';
import { MASQUERADE_MARK } from '../../../base/packet-marks.ts';
import type { ClusterAddresses } from '../rules.ts';
import { disjointRanges } from '../source-ranges.ts';
import {
  CODE_MASK,
  Code,
  type DispatchMap,
  DROP_CODE,
  FIREWALLED,
  LOCAL_SLOT,
  REJECT_CODE,
  tableOf,
} from './schema.ts';

const MASQUERADE = `0x${MASQUERADE_MARK.toString(16)}`;
const NOT_MASQUERADE = `0x${(~MASQUERADE_MARK >>> 0).toString(16)}`;

const hex = (value: number): string => `0x${value.toString(16)}`;

/** What the map `dispatch` has from the start. */
export const DISPATCH_ELEMENTS: readonly string[] = [`${hex(REJECT_CODE)} : goto refuse`, `${hex(DROP_CODE)} : drop`];

/** The words of a family. */
function words(family: Family) {
  const ip = family === 4 ? 'ip' : 'ip6';
  const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  const frontend = `${ip} daddr . meta l4proto . th dport`;
  // nft 1.0.6 takes no 128-bit field in the key of a dynamic map, so IPv6 clients are remembered by a hash. Two clients of
  // one hash only make each other choose again: endpoint ids differ between frontends.
  const client =
    family === 4
      ? `ip saddr . ${frontend}`
      : `jhash ip6 saddr . ip6 daddr . meta l4proto . th dport mod 4294967295 seed 0x706f6477`;
  return { ip, address, frontend, client };
}

/** The CIDRs of a family as the elements of an interval set, sorted. */
export function cidrElements(cidrs: readonly Cidr[], family: Family): readonly string[] {
  return disjointRanges(cidrs.filter((cidr) => cidr.family === family))
    .map(formatCidr)
    .sort();
}

/** The table of a family without any Service: maps, sets and base chains. */
export function renderTable(family: Family, addresses: ClusterAddresses): string {
  return `table ${tableOf(family)} {
${renderMaps(family, addresses)}
${renderBaseChains(family)}
${renderAffinityChains(family)}
}
`;
}

function renderMaps(family: Family, { podCidrs, ownPodCidrs, serviceCidrs }: ClusterAddresses): string {
  const { address } = words(family);
  const key = `${address} . inet_proto . inet_service`;
  const clients = family === 4 ? `type ipv4_addr . ${key} : mark` : 'type mark : mark';
  const interval = (cidrs: readonly Cidr[]) => {
    const elements = cidrElements(cidrs, family);
    return `type ${address}; flags interval;${elements.length > 0 ? ` elements = { ${elements.join(', ')} };` : ''}`;
  };
  return `  map services { type ${key} : mark; }
  map outside-services { type ${key} : mark; }
  map endpoints { type ${key} . mark : ${address} . inet_service; }
  map affinity-counts { type ${key} : mark; }
  map affinity-local-counts { type ${key} : mark; }
  map affinity-picks { type ${key} . mark : mark; }
  map affinity-endpoints { type ${key} . mark : ${address} . inet_service; }
  map affinity-clients { ${clients}; flags dynamic,timeout; size 262144; timeout 3h; }
  map affinity-local-clients { ${clients}; flags dynamic,timeout; size 262144; timeout 3h; }
  map dispatch { type mark : verdict; elements = { ${DISPATCH_ELEMENTS.join(', ')} }; }
  map affinity-dispatch { type mark : verdict; }
  map affinity-local-dispatch { type mark : verdict; }
  set firewall-allowed { type ${key} . ${address}; flags interval; }
  set hairpin { type ${address} . ${address}; }
  set pod-cidrs { ${interval(podCidrs)} }
  set own-pod-cidrs { ${interval(ownPodCidrs)} }
  set service-cidrs { ${interval(serviceCidrs)} }
  set service-addresses { type ${address}; }`;
}

function renderBaseChains(family: Family): string {
  const { ip, frontend } = words(family);
  const lookup = `meta mark set ${frontend} map`;
  const masked = `meta mark set meta mark | ${MASQUERADE} goto run-code`;
  return `  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject
  }
  chain firewall {
    ${frontend} . ${ip} saddr != @firewall-allowed drop
  }
  chain run-code {
    meta mark & ${hex(FIREWALLED)} == ${hex(FIREWALLED)} jump firewall
    meta mark & ${hex(CODE_MASK)} vmap @dispatch
  }
  chain unused-port {
    ${ip} daddr @service-cidrs goto refuse
    ${ip} daddr @service-addresses goto refuse
  }
  chain from-outside {
    ${lookup} @outside-services goto run-code
    ${ip} daddr @service-cidrs ${lookup} @services ${masked}
    ${ip} daddr @service-addresses ${lookup} @services ${masked}
    ${lookup} @services goto run-code
    goto unused-port
  }
  chain from-other-pods {
    ${lookup} @outside-services ${lookup} @services ${masked}
    goto from-pods
  }
  chain from-pods {
    ${lookup} @services goto run-code
    goto unused-port
  }
  chain from-node {
    ${lookup} @services ${masked}
    goto unused-port
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ${ip} saddr @own-pod-cidrs goto from-pods
    ${ip} saddr @pod-cidrs goto from-other-pods
    goto from-outside
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ${ip} saddr @pod-cidrs goto from-pods
    goto from-node
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & ${MASQUERADE} == ${MASQUERADE} meta mark set meta mark & ${NOT_MASQUERADE} masquerade fully-random
    ct status dnat ${ip} saddr . ${ip} daddr @hairpin masquerade fully-random${family === 4 ? LOOPBACK_LEAVES : ''}
  }${family === 4 ? LOOPBACK_GUARD : ''}`;
}

/**
 * NodePorts at 127.0.0.1 need net.ipv4.conf.all.route_localnet, with which the kernel takes packets to and from 127.0.0.0/8 on
 * every link (CVE-2020-8558). Here they are martian as before, by a look at what is on the wire: before connection
 * tracking, which gives answers to the node's own connections their address 127.0.0.1 back.
 */
const LOOPBACK_GUARD = `
  chain loopback-guard {
    type filter hook prerouting priority raw; policy accept;
    ip daddr 127.0.0.0/8 iiftype != loopback drop
    ip saddr 127.0.0.0/8 iiftype != loopback drop
  }`;
/** What the node sends from 127.0.0.0/8 leaves only with another source. */
const LOOPBACK_LEAVES = `
    ip saddr 127.0.0.0/8 oiftype != loopback drop`;

/** The constant part of session affinity: how many endpoints there are, and which of them, with the mark's M bit saved. */
function renderAffinityChains(family: Family): string {
  const { frontend } = words(family);
  return `  chain affinity-count {
    meta mark set ${frontend} map @affinity-counts meta mark vmap @affinity-dispatch
  }
  chain affinity-local-count {
    meta mark set ${frontend} map @affinity-local-counts meta mark vmap @affinity-local-dispatch
  }
  chain affinity-pick-masqueraded {
    jump affinity-count
    meta mark set ${MASQUERADE}
  }
  chain affinity-pick {
    meta mark & ${MASQUERADE} == ${MASQUERADE} goto affinity-pick-masqueraded
    jump affinity-count
    meta mark set 0x0
  }
  chain affinity-local-pick {
    jump affinity-local-count
    meta mark set 0x0
  }`;
}

/** A chain that is made on demand, and how a code or count leads to it. */
export interface DemandedChain {
  /** Unique within a table. */
  readonly name: string;
  readonly rules: readonly string[];
  readonly map: DispatchMap;
  /** Empty for a chain that only other chains jump to. */
  readonly element: string;
  /** Other chains that this one jumps to. */
  readonly needs: readonly DemandedChain[];
}

/** The chain of a code, or undefined for reject and drop, which every table has. */
export function chainOfCode(family: Family, code: number): DemandedChain | undefined {
  if (code >= REJECT_CODE) return undefined;
  const kind = code & ~0xfffff;
  const value = code & 0xfffff;
  switch (kind) {
    case Code.random:
      return randomChain(family, `random-${value}`, code, `numgen random mod ${value}`);
    case Code.local:
      return randomChain(family, `random-local-${value}`, code, `numgen random mod ${value} offset ${LOCAL_SLOT}`);
    case Code.affinity:
      return affinityChain(family, 'affinity', code, value);
    case Code.affinityLocal:
      return affinityChain(family, 'affinity-local', code, value);
    default:
      throw new RangeError(`no chain for code ${hex(code)}`);
  }
}

/**
 * Ends in drop: a slot that is missing can only be one that went between the two lookups, and a client sends again. To
 * let the packet pass would bind its flow to the untranslated address for good.
 */
function randomChain(family: Family, name: string, code: number, slot: string): DemandedChain {
  const { ip, frontend } = words(family);
  const rules = [
    `meta mark set meta mark & ${MASQUERADE} ct mark set ${slot} dnat ${ip} to ${frontend} . ct mark map @endpoints`,
    'drop',
  ];
  return { name, rules, map: 'dispatch', element: `${hex(code)} : goto ${name}`, needs: [] };
}

/**
 * Goes where the client went before if that endpoint still exists, or else picks, remembers and goes; a second time in
 * case the picked one was removed in between.
 */
function affinityChain(
  family: Family,
  kind: 'affinity' | 'affinity-local',
  code: number,
  seconds: number,
): DemandedChain {
  const { ip, frontend, client } = words(family);
  const clients = `@${kind}-clients`;
  const name = `${kind}-${seconds}`;
  const assign = `${kind}-assign-${seconds}`;
  const remember = `update ${clients} { ${client} timeout ${seconds}s : ct mark }`;
  const translate = `dnat ${ip} to ${frontend} . ct mark map @affinity-endpoints`;
  const recall =
    family === 4 ? `ct mark set ${client} map ${clients}` : `ct mark set ${client} ct mark set ct mark map ${clients}`;
  return {
    name,
    map: 'dispatch',
    element: `${hex(code)} : goto ${name}`,
    rules: [
      `meta mark set meta mark & ${MASQUERADE}`,
      `${recall} ${remember} ${translate}`,
      `jump ${assign}`,
      `jump ${assign}`,
      'drop',
    ],
    needs: [
      {
        name: assign,
        map: 'dispatch',
        element: '',
        needs: [],
        rules: [`jump ${kind}-pick`, `delete ${clients} { ${client} : ct mark }`, remember, translate],
      },
    ],
  };
}

/** The chain that picks one of `count` endpoints for a client that is new to a frontend with affinity. */
export function chainOfCount(family: Family, scope: 'cluster' | 'local', count: number): DemandedChain {
  const { frontend } = words(family);
  const kind = scope === 'local' ? 'affinity-local' : 'affinity';
  const slot = `numgen random mod ${count}${scope === 'local' ? ` offset ${LOCAL_SLOT}` : ''}`;
  const name = `${kind}-pick-${count}`;
  return {
    name,
    map: `${kind}-dispatch`,
    element: `${hex(count)} : jump ${name}`,
    rules: [`ct mark set ${slot} ct mark set ${frontend} . ct mark map @affinity-picks`],
    needs: [],
  };
}

/**
 * The commands that make a chain, what it needs first. Nothing leads to it yet, or, where an earlier agent left one of this
 * name, its rules are replaced.
 */
export function renderChain(family: Family, chain: DemandedChain): string {
  const table = tableOf(family);
  const needs = chain.needs.map((needed) => renderChain(family, needed)).join('');
  const lines = [
    `add chain ${table} ${chain.name}`,
    `flush chain ${table} ${chain.name}`,
    ...chain.rules.map((rule) => `add rule ${table} ${chain.name} ${rule}`),
  ];
  return `${needs}${lines.join('\n')}\n`;
}
