/**
 * The whole table as nftables text. The chains are fixed: they do not grow with pods, policies or rules; only sets and maps
 * do. Equal elements give equal bytes. docs/policy.md draws a packet's path.
 *
 * `meta priority` carries the class and `meta mark` the identity of the peer while a packet is judged (sets can be asked for
 * concatenations of packet fields and meta fields only). Both are put back: the priority to 0, which is what forwarding
 * gives to packets without a type of service, the mark to what the Service rules said. Connection marks stay untouched.
 */
import { createHash } from 'node:crypto';
import { IPVS_MARK, MASQUERADE_MARK } from '../../base/packet-marks.ts';
import { everyone } from './classes.ts';
import type { Direction } from './compile.ts';
import { denyBit, Elements, tierCodes } from './elements.ts';
import { logGroup, setDeclarations, tableName } from './sets.ts';

export const table = `inet ${tableName}`;
const denyText = `0x${denyBit.toString(16)}`;
const masquerade = `0x${MASQUERADE_MARK.toString(16)}`;
const throughIpvs = `0x${IPVS_MARK.toString(16)}`;

/** One packet, one direction: the class of the isolated pod is in the priority already. */
function judgeChains(direction: Direction, family: 4 | 6): string {
  const ip = family === 4 ? 'ip' : 'ip6';
  const peer = direction === 'ingress' ? 'saddr' : 'daddr';
  const name = `judge_${direction}${family}`;
  return `
  chain ${name} {
    meta mark & ${masquerade} == ${masquerade} goto ${name}_masquerade
    jump ${name}_peer
    meta mark set 0x0 meta priority set none
  }
  chain ${name}_masquerade {
    jump ${name}_peer
    meta mark set ${masquerade} meta priority set none
  }
  chain ${name}_peer {
    meta mark set 0x0
    meta mark set ${ip} ${peer} map @identity${family}
    goto ${direction}_rules
  }`;
}

/** Returns when something allows the packet, drops it otherwise. Hash sets first, ranges after. */
function ruleChains(direction: Direction, logging: boolean): string {
  const address = direction === 'ingress' ? 'saddr' : 'daddr';
  const lookups = ['any', 'protocol', 'port', 'range'].map((set) => {
    const fields = ['meta priority', 'meta mark', 'meta l4proto', 'th dport'];
    const count = set === 'any' ? 2 : set === 'protocol' ? 3 : 4;
    return `    ${fields.slice(0, count).join(' . ')} @${direction}_${set} return`;
  });
  const blocks = (['ip', 'ip6'] as const).flatMap((ip) => {
    const family = ip === 'ip' ? 4 : 6;
    const field = `meta priority . ${ip} ${address}`;
    const ports = `${field} . meta l4proto . th dport`;
    const rules = [
      `    ${field} @${direction}_block${family} return`,
      `    ${ports} @${direction}_blockport${family} return`,
    ];
    return direction === 'egress' ? [`    ${ports} @egress_podport${family} return`, ...rules] : rules;
  });
  return `
  chain ${direction}_rules {
${lookups.join('\n')}
    meta mark set ${everyone}
${lookups.join('\n')}
${blocks.join('\n')}
    goto ${direction}_drop
  }
  chain ${direction}_drop {
${logging ? `    ${logRule(direction)}\n` : ''}    meta priority @denied_${direction} counter name ${direction}_denied drop
    counter name ${direction}_denied drop
  }
  chain tier_${direction}_drop {
${logging ? `    ${logRule(direction)}\n` : ''}    meta mark @tier_denied_${direction} counter name ${direction}_denied drop
    counter name ${direction}_denied drop
  }`;
}

/** Who the local pod of a direction is. */
function ownAddress(direction: Direction, family: 4 | 6): string {
  return `${family === 4 ? 'ip' : 'ip6'} ${direction === 'ingress' ? 'daddr' : 'saddr'}`;
}

/** One direction of a packet: the Admin tier, then NetworkPolicies; for pods that none of them isolates the Baseline tier. */
function sideChain(direction: Direction, family: 4 | 6): string {
  const side = `${direction}${family}`;
  return `
  chain side_${side} {
    meta priority set ${ownAddress(direction, family)} map @admin_${side} goto admin_${side}
    goto policies_${side}
  }`;
}

function policiesChain(direction: Direction, family: 4 | 6): string {
  const side = `${direction}${family}`;
  const own = ownAddress(direction, family);
  return `
  chain policies_${side} {
    meta priority set ${own} map @${side} goto judge_${side}
    meta priority set ${own} map @baseline_${side} goto baseline_${side}
  }`;
}

/** Does what the tier says; what it leaves goes to the next one. Everything changed is put back first. */
function tierChains(tier: 'admin' | 'baseline', direction: Direction, family: 4 | 6): string {
  const side = `${direction}${family}`;
  const name = `${tier}_${side}`;
  const body = (mark: string) => {
    const restore = `meta mark set ${mark} meta priority set none`;
    return `    jump tier_${side}
    meta mark ${tierCodes.accept} ${restore} return
    meta mark & ${denyText} == ${denyText} goto tier_${direction}_drop
    ${restore}${tier === 'admin' ? ` goto policies_${side}` : ''}`;
  };
  return `
  chain ${name} {
    meta mark & ${masquerade} == ${masquerade} goto ${name}_masquerade
${body('0x0')}
  }
  chain ${name}_masquerade {
${body(masquerade)}
  }`;
}

/** Leaves the verdict's code in the mark, or the peer's identity when the tier says nothing about it. */
function tierLookup(direction: Direction, family: 4 | 6): string {
  const ip = family === 4 ? 'ip' : 'ip6';
  const peer = `${ip} ${direction === 'ingress' ? 'saddr' : 'daddr'}`;
  const sets = `tier_${direction}`;
  const pair = 'meta priority . meta mark';
  const port = 'meta l4proto . th dport';
  const block = [
    `    meta mark 0x0 meta mark set meta priority . ${peer} . ${port} map @${sets}_blockport${family}`,
    `    meta mark 0x0 meta mark set meta priority . ${peer} map @${sets}_block${family}`,
  ];
  return `
  chain tier_${direction}${family} {
    meta mark set 0x0
    meta mark set ${peer} map @identity${family}
    meta mark set ${pair} . ${port} map @${sets}_port
    meta mark set ${pair} . ${port} map @${sets}_range
    meta mark set ${pair} . meta l4proto map @${sets}_protocol
    meta mark set ${pair} map @${sets}_any
${direction === 'egress' ? `${block.join('\n')}\n` : ''}  }`;
}

/** Copies of denied packets for `PolicyDrops`: few, so that a flood of them costs no more than its drops. */
function logRule(direction: Direction): string {
  return `limit rate 50/second burst 100 packets log prefix "${direction}" group ${logGroup} snaplen 128`;
}

/**
 * What is forwarded passes the forward hook; what IPVS forwards (Services in mode ipvs) is delivered to the node first and leaves it
 * by the output hook, translated as well, with a mark that nothing of the node itself has.
 */
function chains(logging: boolean): string {
  const forward = ([4, 6] as const).map((family) => {
    const ip = family === 4 ? 'ip' : 'ip6';
    return `
  chain forward${family} {
    ${ip} saddr . ${ip} daddr @self${family} accept
    jump side_egress${family}
    jump side_ingress${family}
  }`;
  });
  const judges = (['egress', 'ingress'] as const).flatMap((direction) => [
    ruleChains(direction, logging),
    ...([4, 6] as const).flatMap((family) => [
      judgeChains(direction, family),
      tierLookup(direction, family),
      tierChains('baseline', direction, family),
      policiesChain(direction, family),
      tierChains('admin', direction, family),
      sideChain(direction, family),
    ]),
  ]);
  return `  counter ingress_denied { }
  counter egress_denied { }${judges.join('')}${forward.join('')}
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    meta nfproto vmap { ipv4 : goto forward4, ipv6 : goto forward6 }
  }
  chain forward_through_ipvs {
    type filter hook output priority filter; policy accept;
    meta mark & ${throughIpvs} == 0x0 accept
    ct state established,related accept
    meta nfproto vmap { ipv4 : goto forward4, ipv6 : goto forward6 }
  }
`;
}

/** The chains, with the copies of denied packets or without them, where the kernel has no log groups. */
export type Logging = 'log' | 'silent';
const chainTexts: Readonly<Record<Logging, string>> = { log: chains(true), silent: chains(false) };

/**
 * An empty chain whose name stands for the shape of the table: declarations and chains. An agent of another version sees by
 * it that it cannot take the table over element by element.
 */
export function layoutChain(logging: Logging): string {
  const shape = chainTexts[logging] + JSON.stringify(setDeclarations);
  return `layout_${createHash('sha256').update(shape).digest('hex').slice(0, 12)}`;
}

export function formatElement(key: string, value: string): string {
  return value === '' ? key : `${key} : ${value}`;
}

/** One transaction that makes the table, with nothing in its sets; refused where there is one already. */
export function renderEmptyTable(logging: Logging = 'log'): string {
  return `create table ${table}\n${renderTable(new Elements(), logging)}`;
}

/** The table's text, to be loaded into a namespace that has none. */
export function renderTable(elements: Elements, logging: Logging = 'log'): string {
  const sets = Object.entries(setDeclarations).map(([name, { kind, body }]) => {
    const texts = [...elements.entries(name)].map(([key, value]) => formatElement(key, value)).sort();
    const list = texts.length ? `\n    elements = {\n      ${texts.join(',\n      ')}\n    }` : '';
    return `  ${kind} ${name} {\n    ${body}${list}\n  }\n`;
  });
  return `table ${table} {\n${sets.join('')}${chainTexts[logging]}  chain ${layoutChain(logging)} {\n  }\n}\n`;
}

/** One transaction that puts the table in place of whatever is there. */
export function renderReplacement(elements: Elements, logging: Logging = 'log'): string {
  return `add table ${table}\ndelete table ${table}\n${renderTable(elements, logging)}`;
}
