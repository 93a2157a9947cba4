/**
 * Frontends -> rules, pure. The unit is a group: the frontends of one port of a Service in one family, which share their endpoints
 * and so their chains. A group's chains are its own; in the list chains it has one rule for each frontend.
 */
import { createHash } from 'node:crypto';
import { cidrContains, type Family } from '../../../base/ip.ts';
import { type Endpoint, endpointText, type Frontend, frontendKey, servicePortOf, type Target } from '../model.ts';
import type { ClusterAddresses } from '../rules.ts';
import {
  FIREWALL_CHAIN,
  type GroupTable,
  MARK_CHAIN,
  MARK_NOT_OWN_CHAIN,
  MARK_OTHERS_CHAIN,
  NODE_PORTS_CHAIN,
  REFUSE_CHAIN,
  rangesOf,
  SERVICES_CHAIN,
} from './layout.ts';

/** A rule of a list chain; the key is the frontend's, or an address's, which sorts behind all frontends. */
export interface ListRule {
  readonly table: GroupTable;
  readonly chain: string;
  readonly key: string;
  readonly rule: string;
}

export interface RenderedGroup {
  /** Rules by chain, by table. */
  readonly chains: Readonly<Record<GroupTable, ReadonlyMap<string, readonly string[]>>>;
  readonly rules: readonly ListRule[];
}

/** The group that a frontend belongs to, without its family. */
export function groupOf(frontend: Frontend): string {
  return `${servicePortOf(frontend) ?? frontendKey(frontend)} ${frontend.protocol}`;
}

/** Sorts rules about addresses behind those of frontends, and the refusal of whole ranges behind them. */
const ADDRESS_KEY = '~';
const RANGE_KEY = '~~';

/** 16 characters of base 32, as kube-proxy names chains: at most 28 in all fit (XT_EXTENSION_MAXNAMELEN is 29). */
function chainName(prefix: string, ...identity: readonly string[]): string {
  const hash = createHash('sha256').update(identity.join(' ')).digest();
  let name = '';
  for (let bit = 0; name.length < 16; bit += 5) {
    const five = ((hash[bit >> 3]! << 8) | hash[(bit >> 3) + 1]!) >> (11 - (bit & 7));
    name += 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[five & 31];
  }
  return `${prefix}-${name}`;
}

/** The rules of a whole family that refuse what no Service has: addresses of the Service ranges. */
export function rangeRules(family: Family, { serviceCidrs }: ClusterAddresses): readonly ListRule[] {
  return rangesOf(serviceCidrs, family).map((range) => ({
    table: 'filter',
    chain: SERVICES_CHAIN,
    key: `${RANGE_KEY} ${range}`,
    rule: `-d ${range} -j ${REFUSE_CHAIN}`,
  }));
}

/** Renders the frontends of one group, at least one. */
export function renderGroup(frontends: readonly Frontend[], addresses: ClusterAddresses): RenderedGroup {
  const group = new GroupRenderer(groupOf(frontends[0]!), addresses);
  for (const frontend of [...frontends].sort((a, b) => (frontendKey(a) < frontendKey(b) ? -1 : 1))) group.add(frontend);
  return group;
}

class GroupRenderer implements RenderedGroup {
  readonly chains = {
    mangle: new Map<string, string[]>(),
    filter: new Map<string, string[]>(),
    nat: new Map<string, string[]>(),
  };
  readonly rules: ListRule[] = [];
  readonly #identity: string;
  readonly #addresses: ClusterAddresses;
  /** The chain of each list of endpoints. */
  readonly #pools = new Map<string, string>();

  constructor(identity: string, addresses: ClusterAddresses) {
    this.#identity = identity;
    this.#addresses = addresses;
  }

  add(frontend: Frontend): void {
    if (frontend.role === 'clusterIP') this.#addInternal(frontend);
    else this.#addExternal(frontend);
    this.#refuse(frontend);
    if (frontend.sourceRanges) this.#restrict(frontend, frontend.sourceRanges);
  }

  #addInternal(frontend: Frontend): void {
    this.#refuseOtherPorts(frontend);
    if (frontend.inside.kind !== 'endpoints') return;
    const pool = this.#pool(frontend, frontend.inside.endpoints, 'KUBE-SVC');
    // First in the pool's chain, before the choice.
    this.chains.nat.get(pool)!.unshift(`${destination(frontend)} -j ${MARK_OTHERS_CHAIN}`);
    this.#list('nat', SERVICES_CHAIN, frontend, `-j ${pool}`);
  }

  #addExternal(frontend: Frontend): void {
    const isNodes = frontend.role === 'nodePort' || frontend.role === 'hostPort';
    if (isNodes) {
      const { address } = frontend;
      const jump = `-d ${single(frontend.family, address)} -j ${NODE_PORTS_CHAIN}`;
      this.rules.push({ table: 'nat', chain: SERVICES_CHAIN, key: `${ADDRESS_KEY} ${address}`, rule: jump });
    }
    const chain = this.#externalChain(frontend);
    if (chain) this.#list('nat', isNodes ? NODE_PORTS_CHAIN : SERVICES_CHAIN, frontend, `-j ${chain}`);
  }

  /** Tells pods, the node itself and everybody else apart; all external frontends of a group lead to the same. */
  #externalChain(frontend: Frontend): string | undefined {
    const { family, inside, outside, masquerade } = frontend;
    if (inside.kind !== 'endpoints' && outside?.kind !== 'endpoints') return undefined;
    const name = chainName('KUBE-EXT', this.#identity);
    if (this.chains.nat.has(name)) return name;
    const rules: string[] = [];
    const near = inside.kind === 'endpoints' ? this.#pool(frontend, inside.endpoints, 'KUBE-SVC') : undefined;
    const fromNode = '-m addrtype --src-type LOCAL';
    if (near && masquerade) rules.push(`-j ${MARK_CHAIN}`);
    if (near && outside)
      for (const pods of rangesOf(this.#addresses.podCidrs, family))
        rules.push(`-s ${pods} -j ${MARK_NOT_OWN_CHAIN}`, `-s ${pods} -j ${near}`);
    if (near && !masquerade) rules.push(`${fromNode} -j ${MARK_CHAIN}`);
    if (near) rules.push(outside ? `${fromNode} -j ${near}` : `-j ${near}`);
    if (outside?.kind === 'endpoints') rules.push(`-j ${this.#pool(frontend, outside.endpoints, 'KUBE-SVL')}`);
    this.chains.nat.set(name, rules);
    return name;
  }

  /** The chain that picks one of the endpoints. */
  #pool(frontend: Frontend, endpoints: readonly Endpoint[], prefix: 'KUBE-SVC' | 'KUBE-SVL'): string {
    const texts = endpoints.map(endpointText).sort();
    const key = texts.join();
    const known = this.#pools.get(key);
    if (known) return known;
    // A ClusterIP that keeps to this node takes the first name, and others that do not the second.
    const names = [prefix, 'KUBE-SVC', 'KUBE-SVL'].map((each) => chainName(each, this.#identity));
    const name = names.find((each) => !this.chains.nat.has(each)) ?? chainName('KUBE-SVL', this.#identity, key);
    this.#pools.set(key, name);
    this.chains.nat.set(
      name,
      poolRules(texts, (text) => this.#endpoint(frontend, text), frontend.affinitySeconds),
    );
    return name;
  }

  #endpoint(frontend: Frontend, text: string): string {
    const name = chainName('KUBE-SEP', this.#identity, text);
    if (this.chains.nat.has(name)) return name;
    const { family, protocol, affinitySeconds } = frontend;
    const [address, port] = text.split(' . ') as [string, string];
    const remember = affinitySeconds === undefined ? '' : `-m recent --name ${name} --set --rsource `;
    this.chains.nat.set(name, [
      `-s ${single(family, address)} -j ${MARK_CHAIN}`,
      `-p ${protocol} ${remember}-j DNAT --to-destination ${family === 4 ? address : `[${address}]`}:${port}`,
    ]);
    return name;
  }

  /** What becomes of packets that no rule has translated. */
  #refuse(frontend: Frontend): void {
    const rest: Target = frontend.outside && frontend.outside.kind !== 'endpoints' ? frontend.outside : frontend.inside;
    if (rest.kind === 'endpoints') return;
    this.#list('filter', SERVICES_CHAIN, frontend, rest.kind === 'drop' ? '-j DROP' : `-j ${REFUSE_CHAIN}`);
  }

  /** Unused ports of a ClusterIP outside the Service ranges. */
  #refuseOtherPorts({ family, address }: Frontend): void {
    if (this.#addresses.serviceCidrs.some((range) => range.family === family && cidrContains(range, address))) return;
    const rule = `-d ${single(family, address)} -j ${REFUSE_CHAIN}`;
    this.rules.push({ table: 'filter', chain: SERVICES_CHAIN, key: `${ADDRESS_KEY} ${address}`, rule });
  }

  #restrict(frontend: Frontend, ranges: readonly string[]): void {
    const name = chainName('KUBE-FW', this.#identity, frontendKey(frontend));
    const allowed = ranges.map(
      (range) => `-s ${range.includes('/') ? range : single(frontend.family, range)} -j RETURN`,
    );
    this.chains.mangle.set(name, [...allowed, '-j DROP']);
    this.#list('mangle', FIREWALL_CHAIN, frontend, `-j ${name}`);
  }

  #list(table: GroupTable, chain: string, frontend: Frontend, verdict: string): void {
    const servicePort = servicePortOf(frontend);
    const comment = servicePort ? `-m comment --comment ${servicePort} ` : '';
    const rule = `${destination(frontend)} ${comment}${verdict}`;
    this.rules.push({ table, chain, key: frontendKey(frontend), rule });
  }
}

/** With affinity first where the client went before, then by chance: 1/n of what comes, 1/(n-1) of the rest … all. */
function poolRules(
  texts: readonly string[],
  chainOf: (text: string) => string,
  affinitySeconds: number | undefined,
): string[] {
  const chains = texts.map(chainOf);
  const recall = affinitySeconds === undefined ? [] : chains.map((chain) => recalled(chain, affinitySeconds));
  const chance = chains.map((chain, i) => {
    const left = chains.length - i;
    return left === 1
      ? `-j ${chain}`
      : `-m statistic --mode random --probability ${(1 / left).toFixed(10)} -j ${chain}`;
  });
  return [...recall, ...chance];
}

function recalled(chain: string, seconds: number): string {
  return `-m recent --name ${chain} --rcheck --seconds ${seconds} --reap --rsource -j ${chain}`;
}

function destination({ family, address, protocol, port }: Frontend): string {
  return `-d ${single(family, address)} -p ${protocol} -m ${protocol} --dport ${port}`;
}

function single(family: Family, address: string): string {
  return `${address}/${family === 4 ? 32 : 128}`;
}
