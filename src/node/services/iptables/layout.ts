/**
 * The chains that are there whatever the Services are, with the names that kube-proxy's iptables mode gives them, so that people
 * and tools that know those find their way. docs/services.md draws the path of a packet.
 *
 *     raw     PREROUTING           -> KUBE-LOOPBACK-GUARD                      IPv4: nothing to or from 127.0.0.0/8 over a link
 *     mangle  PREROUTING, OUTPUT   -> KUBE-PROXY-FIREWALL -> KUBE-FW-…         loadBalancerSourceRanges, before translation
 *     nat     PREROUTING, OUTPUT   -> KUBE-SERVICES -> KUBE-SVC-… | KUBE-EXT-… -> KUBE-SVL-… -> KUBE-SEP-… -> DNAT
 *                                                  \-> KUBE-NODEPORTS (for an address of the node) -> the same
 *     mangle  POSTROUTING          -> KUBE-LOOPBACK-LEAVES                     IPv4: from 127.0.0.0/8 only what is masqueraded
 *     nat     POSTROUTING          -> KUBE-POSTROUTING                         masquerade what KUBE-MARK-MASQ has marked
 *     filter  INPUT, FORWARD, OUTPUT -> KUBE-SERVICES -> KUBE-REFUSE | DROP    what no rule above has translated
 *     filter  FORWARD              -> KUBE-FORWARD
 */
import { type Cidr, type Family, formatCidr } from '../../../base/ip.ts';
import { MASQUERADE_MARK } from '../../../base/packet-marks.ts';
import { XTABLES_TABLES, type XtablesTable } from '../../../linux/xtables.ts';
import type { ClusterAddresses } from '../rules.ts';
import { disjointRanges } from '../source-ranges.ts';

/** Empty, in every table: who finds it gone knows that somebody has flushed the table. */
export const CANARY_CHAIN = 'KUBE-PROXY-CANARY';
export const SERVICES_CHAIN = 'KUBE-SERVICES';
export const NODE_PORTS_CHAIN = 'KUBE-NODEPORTS';
export const FIREWALL_CHAIN = 'KUBE-PROXY-FIREWALL';
export const REFUSE_CHAIN = 'KUBE-REFUSE';
export const MARK_CHAIN = 'KUBE-MARK-MASQ';
/** Marks for masquerade what does not come from a pod. */
export const MARK_OTHERS_CHAIN = 'KUBE-MARK-NOT-POD';
/** Marks for masquerade what does not come from a pod of this node. */
export const MARK_NOT_OWN_CHAIN = 'KUBE-MARK-NOT-OWN';

const MARK = `0x${MASQUERADE_MARK.toString(16)}`;
/**
 * NodePorts at 127.0.0.1 need net.ipv4.conf.all.route_localnet, with which the kernel takes packets to and from 127.0.0.0/8 on
 * every link (CVE-2020-8558). Here they are martian as before, by a look at what is on the wire: before connection tracking,
 * which gives answers to the node's own connections their address 127.0.0.1 back.
 */
const LOOPBACK_GUARD_CHAIN = 'KUBE-LOOPBACK-GUARD';
/**
 * What the node sends from 127.0.0.0/8 leaves only with another source. The nat table cannot drop, and nothing comes after it:
 * so what is let through here is what it will translate, be it now (the mark) or as it did a connection's first packet (SNAT).
 */
const LOOPBACK_LEAVES_CHAIN = 'KUBE-LOOPBACK-LEAVES';
const LOOPBACK = '127.0.0.0/8';

const NEW = '-m conntrack --ctstate NEW';

/** All chains of ours in a table begin so: whatever else is in it belongs to somebody else. */
export const OWN_PREFIX = 'KUBE-';

/** A rule in one of the kernel's own chains that leads to ours. */
export interface Hook {
  readonly chain: 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING';
  readonly rule: string;
}

export interface TableLayout {
  readonly hooks: readonly Hook[];
  /** Rules by chain, in their order. */
  readonly chains: ReadonlyMap<string, readonly string[]>;
}

/** The tables of a family that have something of ours, in the order in which they are written. */
export function tablesOf(family: Family): readonly XtablesTable[] {
  return family === 4 ? XTABLES_TABLES : XTABLES_TABLES.filter((table) => table !== 'raw');
}

/** The tables in which a group of frontends has chains. */
export const GROUP_TABLES = ['mangle', 'filter', 'nat'] as const satisfies readonly XtablesTable[];
export type GroupTable = (typeof GROUP_TABLES)[number];

/** The chains of a table whose rules are one for each frontend or address, in any order; see rule-list.ts. */
export const LIST_CHAINS: Readonly<Record<XtablesTable, readonly string[]>> = {
  raw: [],
  mangle: [FIREWALL_CHAIN],
  nat: [SERVICES_CHAIN, NODE_PORTS_CHAIN],
  filter: [SERVICES_CHAIN],
};

/** CIDRs of a family without overlaps, as iptables lists them. */
export function rangesOf(cidrs: readonly Cidr[], family: Family): readonly string[] {
  return disjointRanges(cidrs.filter((cidr) => cidr.family === family))
    .map(formatCidr)
    .sort();
}

/** A table without any Service. */
export function layoutOf(table: XtablesTable, family: Family, addresses: ClusterAddresses): TableLayout {
  switch (table) {
    case 'raw':
      return {
        hooks: [{ chain: 'PREROUTING', rule: `-j ${LOOPBACK_GUARD_CHAIN}` }],
        chains: new Map([
          [CANARY_CHAIN, []],
          [LOOPBACK_GUARD_CHAIN, ['-d', '-s'].map((side) => `${side} ${LOOPBACK} ! -i lo -j DROP`)],
        ]),
      };
    case 'mangle': {
      const rule = `${NEW} -j ${FIREWALL_CHAIN}`;
      const hooks: Hook[] = (['PREROUTING', 'OUTPUT'] as const).map((chain) => ({ chain, rule }));
      const chains = new Map<string, readonly string[]>([[CANARY_CHAIN, []]]);
      if (family === 4) {
        hooks.push({ chain: 'POSTROUTING', rule: `-j ${LOOPBACK_LEAVES_CHAIN}` });
        const isLeft = `-m mark ! --mark ${MARK}/${MARK} -m conntrack ! --ctstate SNAT`;
        chains.set(LOOPBACK_LEAVES_CHAIN, [`-s ${LOOPBACK} ! -o lo ${isLeft} -j DROP`]);
      }
      return { hooks, chains };
    }
    case 'nat':
      return {
        hooks: [
          { chain: 'PREROUTING', rule: `-j ${SERVICES_CHAIN}` },
          { chain: 'OUTPUT', rule: `-j ${SERVICES_CHAIN}` },
          { chain: 'POSTROUTING', rule: '-j KUBE-POSTROUTING' },
        ],
        chains: new Map([
          [CANARY_CHAIN, []],
          [MARK_CHAIN, [`-j MARK --set-xmark ${MARK}/${MARK}`]],
          [MARK_OTHERS_CHAIN, markOthers(rangesOf(addresses.podCidrs, family))],
          [MARK_NOT_OWN_CHAIN, markOthers(rangesOf(addresses.ownPodCidrs, family))],
          [
            'KUBE-POSTROUTING',
            [
              `-m mark ! --mark ${MARK}/${MARK} -j RETURN`,
              `-j MARK --set-xmark ${MARK}/0x0`,
              '-j MASQUERADE --random-fully',
            ],
          ],
        ]),
      };
    case 'filter': {
      const rule = `${NEW} -j ${SERVICES_CHAIN}`;
      return {
        hooks: [
          { chain: 'INPUT', rule },
          { chain: 'FORWARD', rule },
          { chain: 'FORWARD', rule: '-j KUBE-FORWARD' },
          { chain: 'OUTPUT', rule },
        ],
        chains: new Map([
          [CANARY_CHAIN, []],
          [
            REFUSE_CHAIN,
            ['-p tcp -j REJECT --reject-with tcp-reset', `-j REJECT --reject-with ${unreachable(family)}`],
          ],
          [
            'KUBE-FORWARD',
            [`-m mark --mark ${MARK}/${MARK} -j ACCEPT`, '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'],
          ],
        ]),
      };
    }
  }
}

function markOthers(ranges: readonly string[]): readonly string[] {
  return [...ranges.map((range) => `-s ${range} -j RETURN`), `-j ${MARK_CHAIN}`];
}

function unreachable(family: Family): string {
  return family === 4 ? 'icmp-port-unreachable' : 'icmp6-port-unreachable';
}
