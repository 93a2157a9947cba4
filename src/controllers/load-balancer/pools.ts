/**
 * Pools of addresses for Services of type LoadBalancer, as the ConfigMap kube-system/podwire-load-balancer writes them. Pure.
 *
 *     data:
 *       pools: |
 *         - name: public
 *           addresses: [172.18.201.0/24, 172.18.202.10-172.18.202.20, "fd00:18::c9:0/112"]
 *         - name: by-request-only
 *           addresses: [172.18.203.7]
 *           autoAssign: false
 */
import { parse } from 'yaml';
import { messageOf } from '../../base/errors.ts';
import { familyOf, formatCidr, type IpAddress, ipToBigInt, parseCidr } from '../../base/ip.ts';
import { type AddressRange, parseRange, rangeOfCidr } from '../../base/ip-range.ts';

export interface AddressPool {
  readonly name: string;
  readonly ranges: readonly AddressRange[];
  /** Whether Services get addresses of it that did not ask for one by spec.loadBalancerIP. */
  readonly autoAssign: boolean;
}

export interface ParsedPools {
  readonly pools: readonly AddressPool[];
  /** What is wrong, a line each. What is wrong is left out; the rest counts. */
  readonly problems: readonly string[];
}

/** The name of the pool that the cluster's start sets. A pool of this name in the ConfigMap replaces it. */
export const DEFAULT_POOL = 'default';

/** Addresses that no Service can have, whoever lists them. */
const UNUSABLE = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3', '::/127', 'fe80::/10', 'ff00::/8'];

export interface ParsePoolsOptions {
  /** The default pool's CIDRs and ranges. */
  readonly defaults: readonly string[];
  /** CIDRs of the cluster itself (pods, Services), which no pool may touch. */
  readonly reserved: readonly string[];
}

/** The default pool and those of the ConfigMap's text, which may be absent. */
export function parsePools(text: string | undefined, { defaults, reserved }: ParsePoolsOptions): ParsedPools {
  const problems: string[] = [];
  const listed = text === undefined ? [] : readList(text, problems);
  const pools: AddressPool[] = [];
  const add = (pool: AddressPool) => {
    const fault = faultOf(pool, pools, reserved);
    if (fault) problems.push(fault);
    else pools.push(pool);
  };
  for (const [i, item] of listed.entries()) {
    const pool = readPool(item, i, problems);
    if (pool) add(pool);
  }
  if (defaults.length > 0 && !listed.some((item) => isObject(item) && item['name'] === DEFAULT_POOL)) {
    add({ name: DEFAULT_POOL, ranges: defaults.map(parseRange), autoAssign: true });
  }
  return { pools, problems };
}

function readList(text: string, problems: string[]): readonly unknown[] {
  try {
    const value: unknown = parse(text, { logLevel: 'error' });
    if (value === null || value === undefined) return [];
    if (Array.isArray(value)) return value;
    problems.push('pools: must be a list');
  } catch (error) {
    problems.push(`pools: is not YAML: ${messageOf(error).split('\n')[0]}`);
  }
  return [];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const FIELDS = ['name', 'addresses', 'autoAssign'];

function readPool(item: unknown, index: number, problems: string[]): AddressPool | undefined {
  const at = `pools[${index}]`;
  const wrong = (message: string): undefined => void problems.push(`${at}${message}`);
  if (!isObject(item)) return wrong(': must be an object with name and addresses');
  const { name, addresses, autoAssign = true } = item;
  const unknown = Object.keys(item).find((key) => !FIELDS.includes(key));
  if (unknown !== undefined) return wrong(`.${unknown}: unknown field; there are ${FIELDS.join(', ')}`);
  if (typeof name !== 'string' || !/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
    return wrong('.name: must be a name of lower-case letters, digits and hyphens');
  if (typeof autoAssign !== 'boolean') return wrong('.autoAssign: must be true or false');
  if (!Array.isArray(addresses) || addresses.length === 0) return wrong('.addresses: must be a list, not empty');
  const ranges: AddressRange[] = [];
  for (const [i, text] of addresses.entries()) {
    try {
      ranges.push(parseRange(String(text)));
    } catch (error) {
      wrong(`.addresses[${i}]: ${messageOf(error)}`);
    }
  }
  return ranges.length > 0 ? { name, ranges, autoAssign } : undefined;
}

function faultOf(pool: AddressPool, others: readonly AddressPool[], reserved: readonly string[]): string | undefined {
  if (others.some(({ name }) => name === pool.name)) return `pool ${pool.name}: there are two of this name`;
  const reservedHit = [...UNUSABLE, ...reserved].map(parseCidr).find((cidr) => touches(pool, rangeOfCidr(cidr)));
  if (reservedHit) return `pool ${pool.name}: ${formatCidr(reservedHit)} cannot be announced`;
  const other = others.find(({ ranges }) => ranges.some((range) => touches(pool, range)));
  return other && `pool ${pool.name}: overlaps pool ${other.name}`;
}

function touches({ ranges }: AddressPool, range: AddressRange): boolean {
  return ranges.some((one) => one.family === range.family && one.first <= range.last && range.first <= one.last);
}

export function poolContains({ ranges }: AddressPool, address: IpAddress): boolean {
  const family = familyOf(address);
  const value = ipToBigInt(address);
  return ranges.some((range) => range.family === family && range.first <= value && value <= range.last);
}
