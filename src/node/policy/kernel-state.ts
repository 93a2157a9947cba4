/**
 * What the kernel holds, read from nftables' JSON listing (libnftables-json(5)) into the spelling of `Elements`. For taking
 * a table over after a restart, and for tests that compare the kernel with the model. Never needed while running.
 */
import { cidrSize, type Family, familyOf, ipToBigInt, isIp, parseCidr } from '../../base/ip.ts';
import { formatAddressRange } from './blocks.ts';
import { type ElementChange, type Elements, formatClass } from './elements.ts';
import { protocols } from './ports.ts';
import { type Logging, layoutChain } from './render.ts';
import { setDeclarations } from './sets.ts';

export interface KernelState {
  /** Whether the chains and declarations are this version's. */
  readonly layoutMatches: boolean;
  readonly sets: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Reads the objects of a listing of the table. Throws TypeError on what it does not understand. */
export function readKernelState(listing: readonly unknown[], logging: Logging = 'log'): KernelState {
  const sets = new Map<string, Map<string, string>>();
  let layoutMatches = false;
  const layout = layoutChain(logging);
  for (const object of listing as readonly { readonly [key: string]: Json }[]) {
    const chain = asObject(object['chain']);
    if (chain?.['name'] === layout) layoutMatches = true;
    const set = asObject(object['set'] ?? object['map']);
    if (set) sets.set(String(set['name']), readElements(set));
  }
  const complete = Object.keys(setDeclarations).every((name) => sets.has(name));
  return { layoutMatches: layoutMatches && complete, sets };
}

function readElements(set: { readonly [key: string]: Json }): Map<string, string> {
  const elements = new Map<string, string>();
  const list = set['elem'] ?? [];
  if (!Array.isArray(list)) throw new TypeError(`no list of elements in ${String(set['name'])}`);
  for (const found of list as readonly Json[]) {
    // An element with a counter of its own.
    const element = asObject(found)?.['elem'] ? asObject(asObject(found)!['elem'])!['val']! : found;
    if (set['map'] === undefined) {
      const key = readKey(element);
      elements.set(hasRanges(String(set['name'])) ? withRange(key) : key, '');
    } else {
      const [key, value] = element as readonly [Json, Json];
      const text = hasRanges(String(set['name'])) ? withRange(readKey(key)) : readKey(key);
      elements.set(text, set['map'] === 'classid' ? readClass(value) : String(value));
    }
  }
  return elements;
}

/** The sets of address blocks. */
function hasRanges(set: string): boolean {
  return /_block(port)?[46]$/.test(set);
}

/** A lone address in the second field, as nft prints a range of one, in the spelling of `Elements`. */
function withRange(key: string): string {
  return key.replace(/^(\S+ \. )([^\s-]+)(?=$| )/, '$1$2-$2');
}

function readKey(element: Json): string {
  const concat = asObject(element)?.['concat'];
  if (!Array.isArray(concat)) return readField(element);
  const fields = concat as readonly Json[];
  // The first field of every concatenation is a class, except in the sets of address pairs.
  return fields.map((field, i) => (i === 0 && !isAddress(field) ? readClass(field) : readField(field))).join(' . ');
}

function isAddress(field: Json): boolean {
  return typeof field === 'string' && isIp(field);
}

function readField(field: Json): string {
  if (typeof field === 'number') return String(field);
  if (typeof field === 'string') return field in protocols ? String(protocols[field as keyof typeof protocols]) : field;
  const object = asObject(field);
  const range = object?.['range'];
  if (Array.isArray(range)) return `${String(range[0])}-${String(range[1])}`;
  const prefix = asObject(object?.['prefix'] ?? null);
  if (prefix) return readPrefix(String(prefix['addr']), Number(prefix['len']));
  throw new TypeError(`not understood in a listing of nftables: ${JSON.stringify(field)}`);
}

function readPrefix(address: string, length: number): string {
  const cidr = parseCidr(`${address}/${length}`);
  const from = ipToBigInt(cidr.address);
  const family: Family = familyOf(cidr.address);
  return formatAddressRange(family, { from, to: from + cidrSize(cidr) - 1n });
}

/** "1:2f", or the names that tc gives to two handles. */
function readClass(field: Json): string {
  if (field === 'none') return formatClass(0);
  if (field === 'root') return formatClass(0xffffffff);
  return String(field);
}

function asObject(value: Json | undefined): { readonly [key: string]: Json } | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as { readonly [key: string]: Json })
    : undefined;
}

const tierMaps = ['admin', 'baseline'].flatMap((tier) =>
  ['ingress4', 'ingress6', 'egress4', 'egress6'].map((side) => `${tier}_${side}`),
);

/** What must change to come from the kernel's state to the wanted one, garbage told apart from what is revoked. */
export function takeoverChanges(elements: Elements, kernel: KernelState): ElementChange[] {
  const classes = valuesOf(elements, ['ingress4', 'ingress6', 'egress4', 'egress6']);
  const tierClasses = valuesOf(elements, tierMaps);
  const identities = valuesOf(elements, ['identity4', 'identity6']);
  return elements.difference(kernel.sets).map((change) => {
    if (change.after !== undefined || !/^(tier_)?(in|e)gress_/.test(change.set)) return change;
    const [policyClass, peer] = change.key.split(' . ') as [string, string];
    const isTier = change.set.startsWith('tier_');
    const namesIdentity = /_(any|protocol|port|range)$/.test(change.set) && peer !== (isTier ? '0' : '1');
    const garbage = !(isTier ? tierClasses : classes).has(policyClass) || (namesIdentity && !identities.has(peer));
    return { ...change, garbage };
  });
}

function valuesOf(elements: Elements, sets: readonly string[]): Set<string> {
  return new Set(sets.flatMap((set) => [...elements.entries(set).values()]));
}
