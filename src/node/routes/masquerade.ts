/**
 * The way out of the flat network: what a pod sends to an address that is neither a pod's nor a node's gets the node's own
 * address as its source, because nobody out there has a route back to pods. (The API server is such an address: it runs
 * beside the nodes, not on one.) Pods and nodes among themselves are never translated.
 *
 * One small table of its own, replaced as a whole: flows that exist keep what they were given.
 */
import { type Cidr, type Family, familyOf, formatCidr, parseCidr } from '../../base/ip.ts';
import type { RoutesModel } from './model.ts';

export const MASQUERADE_TABLE = 'inet podwire-masquerade';

/** What is needed of the kernel (`Nftables`). */
export interface NftRunner {
  run(text: string): void;
}

/** One transaction that makes the table so. Pure; equal models give equal text. */
export function renderMasquerade(model: RoutesModel, clusterCidrs: readonly string[]): string {
  const cidrs = clusterCidrs.map(parseCidr);
  const nodes = [model.self, ...model.peers].flatMap((node) => node.addresses);
  const rules = cidrs.map((cidr) => rule(cidr, nodes.filter((address) => familyOf(address) === cidr.family).sort()));
  return [
    `add table ${MASQUERADE_TABLE}`,
    `delete table ${MASQUERADE_TABLE}`,
    `table ${MASQUERADE_TABLE} {`,
    '  chain postrouting {',
    '    type nat hook postrouting priority srcnat + 10; policy accept;',
    ...rules.map((text) => `    ${text}`),
    '  }',
    '}',
    '',
  ].join('\n');
}

const PROTOCOL: Readonly<Record<Family, string>> = { 4: 'ip', 6: 'ip6' };
/** Multicast stays on its link. */
const MULTICAST: Readonly<Record<Family, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' };

function rule(cidr: Cidr, nodes: readonly string[]): string {
  const ip = PROTOCOL[cidr.family];
  const pods = formatCidr(cidr);
  return `${ip} saddr ${pods} ${ip} daddr != { ${[pods, MULTICAST[cidr.family], ...nodes].join(', ')} } masquerade fully-random`;
}

/** Keeps the table true. What was applied last is applied again after a while, in case something else removed it. */
export class Masquerade {
  readonly #nft: NftRunner;
  readonly #clusterCidrs: readonly string[];
  #applied = '';
  #appliedAt = 0;

  constructor(nft: NftRunner, clusterCidrs: readonly string[]) {
    this.#nft = nft;
    this.#clusterCidrs = clusterCidrs;
  }

  /** `now` in milliseconds. Throws KernelError when the kernel refuses. */
  ensure(model: RoutesModel, now: number): void {
    const text = renderMasquerade(model, this.#clusterCidrs);
    if (text === this.#applied && now - this.#appliedAt < REAPPLY_MS) return;
    this.#nft.run(text);
    this.#applied = text;
    this.#appliedAt = now;
  }

  remove(): void {
    this.#applied = '';
    this.#nft.run(`add table ${MASQUERADE_TABLE}\ndelete table ${MASQUERADE_TABLE}\n`);
  }
}

/** A little less than the controller's longest interval between two looks. */
const REAPPLY_MS = 50_000;
