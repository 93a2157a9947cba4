/** Which addresses a Service of type LoadBalancer gets: one for each of its families. */
import { type Family, familyName, familyOf, type IpAddress, isIp, parseIp } from '../../base/ip.ts';
import { keyOf } from '../../kube/names.ts';
import type { Service } from '../../kube/types.ts';
import type { AddressBook } from './address-book.ts';

/** spec.loadBalancerClass of Services that podwire serves, beside those without a class. */
export const LOAD_BALANCER_CLASS = 'podwire.io/lb';

/** Whether podwire gives the Service its addresses. */
export function isServed({ metadata, spec }: Service): boolean {
  const { type, loadBalancerClass = LOAD_BALANCER_CLASS } = spec;
  return !metadata.deletionTimestamp && type === 'LoadBalancer' && loadBalancerClass === LOAD_BALANCER_CLASS;
}

export interface AssignOptions {
  readonly book: AddressBook;
  /** Addresses of the nodes. */
  readonly excluded: ReadonlySet<string>;
  /** Addresses that are in no pool are kept: what the pools are is not known for sure (the ConfigMap has faults). */
  readonly keepStrays: boolean;
}

export interface Assignment {
  /** In the order of the Service's families. */
  readonly addresses: readonly IpAddress[];
  /** Those that the Service had and has no more. */
  readonly released: readonly IpAddress[];
  /** Why a family has none. */
  readonly problems: readonly string[];
}

/**
 * Takes what the Service needs from the book and gives back what it does not. What it has stays while it is allowed. Under
 * RequireDualStack a Service that has nothing yet gets both families or none.
 */
export function assignAddresses(service: Service, options: AssignOptions): Assignment {
  const { book } = options;
  const key = keyOf(service);
  const before = book.heldBy(key);
  const families = familiesOf(service);
  const problems: string[] = [];
  const asked = askedAddress(service, families, problems);
  const addresses: IpAddress[] = [];
  for (const family of families) {
    const address = assignFamily(service, family, asked, before, options, problems);
    if (address !== undefined) addresses.push(address);
  }
  if (service.spec.ipFamilyPolicy === 'RequireDualStack' && before.length === 0 && addresses.length < families.length)
    addresses.length = 0;
  for (const address of book.heldBy(key)) if (!addresses.includes(address)) book.release(address);
  return { addresses, released: before.filter((address) => !addresses.includes(address)), problems };
}

function familiesOf({ spec }: Service): readonly Family[] {
  const names = spec.ipFamilies?.length ? spec.ipFamilies : ['IPv4'];
  return names.map((name): Family => (name === 'IPv6' ? 6 : 4));
}

/** spec.loadBalancerIP, of which a Service has at most one: the other family is chosen freely. */
function askedAddress({ spec }: Service, families: readonly Family[], problems: string[]): IpAddress | undefined {
  const text = spec.loadBalancerIP;
  if (!text) return undefined;
  if (!isIp(text)) problems.push(`spec.loadBalancerIP ${JSON.stringify(text)} is not an IP address`);
  else if (!families.includes(familyOf(text)))
    problems.push(`spec.loadBalancerIP ${text} is of a family that the Service does not have`);
  else return parseIp(text);
  return undefined;
}

function assignFamily(
  service: Service,
  family: Family,
  asked: IpAddress | undefined,
  before: readonly IpAddress[],
  { book, excluded, keepStrays }: AssignOptions,
  problems: string[],
): IpAddress | undefined {
  const key = keyOf(service);
  const isAsked = asked !== undefined && familyOf(asked) === family;
  const had = before.find((address) => familyOf(address) === family && (keepStrays || book.poolOf(address)));
  if (had !== undefined && (!isAsked || had === asked)) return had;
  if (isAsked) {
    const refusal = refusalOf(asked, key, book, excluded);
    if (!refusal && book.take(asked, key)) return asked;
    problems.push(refusal ?? `${asked} is taken`);
    return had;
  }
  // A malformed wish is not answered with another address.
  if (service.spec.loadBalancerIP && problems.length > 0) return undefined;
  const address = book.takeAny(family, key, excluded);
  const isOptional = service.spec.ipFamilyPolicy === 'PreferDualStack' && !book.serves(family);
  if (address === undefined && !isOptional) problems.push(noAddress(family, book));
  return address;
}

function refusalOf(asked: IpAddress, key: string, book: AddressBook, excluded: ReadonlySet<string>) {
  const owner = book.ownerOf(asked);
  if (owner !== undefined && owner !== key) return `spec.loadBalancerIP ${asked} belongs to Service ${owner}`;
  if (!book.poolOf(asked)) return `spec.loadBalancerIP ${asked} is in no pool`;
  return excluded.has(asked) ? `spec.loadBalancerIP ${asked} is a node's own address` : undefined;
}

function noAddress(family: Family, book: AddressBook): string {
  const name = familyName(family);
  return book.serves(family) ? `all ${name} addresses of the pools are taken` : `no pool has ${name} addresses`;
}
