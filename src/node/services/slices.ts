/**
 * EndpointSlices, read once and kept for as long as the informer keeps the object: the usable endpoints by port.
 *
 * Slices may be written by anybody, so nothing in them is trusted: addresses that no Service may lead to (they would turn
 * every Service into a way to the node's own loopback or link-local services) and malformed ones are left out and told.
 */
import type { Family, IpAddress } from '../../base/ip.ts';
import type { EndpointSlice } from '../../kube/types.ts';
import { usableAddress } from './addresses.ts';
import { type Endpoint, endpointText, type Problem } from './model.ts';

/** An endpoint with the conditions and hints of discovery.k8s.io/v1, defaults filled in. */
export interface SliceEndpoint extends Endpoint {
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly zoneHints?: readonly string[] | undefined;
  readonly nodeHints?: readonly string[] | undefined;
}

export interface ParsedSlice {
  /** Undefined for slices of names (addressType FQDN), which no proxy uses. */
  readonly family: Family | undefined;
  /** By "name/PROTOCOL" of the slice's ports; the name is empty where the Service has a single unnamed port. */
  readonly ports: ReadonlyMap<string, readonly SliceEndpoint[]>;
  readonly problem: Problem | undefined;
}

type SliceItem = EndpointSlice['endpoints'][number];
/** Hints by node came after the 1.30 types (KEP-3015). */
type Hints = { forZones?: { name: string }[]; forNodes?: { name: string }[] };

const NO_PORTS: ParsedSlice['ports'] = new Map();

const cache = new WeakMap<EndpointSlice, { readonly nodeName: string; readonly parsed: ParsedSlice }>();

/**
 * Reads the slices of a Service as the node sees them. Objects of an informer are never mutated, so what was read of a slice is
 * remembered with it where there are several: one of a thousand changes then costs one. A lone slice is read anew each time.
 */
export function parseSlices(slices: readonly EndpointSlice[], nodeName: string): readonly ParsedSlice[] {
  if (slices.length < 2) return slices.map((slice) => readSlice(slice, nodeName));
  return slices.map((slice) => {
    const known = cache.get(slice);
    if (known?.nodeName === nodeName) return known.parsed;
    const parsed = readSlice(slice, nodeName);
    cache.set(slice, { nodeName, parsed });
    return parsed;
  });
}

function readSlice(slice: EndpointSlice, nodeName: string): ParsedSlice {
  const family = slice.addressType === 'IPv4' ? 4 : slice.addressType === 'IPv6' ? 6 : undefined;
  if (!family) return { family, ports: NO_PORTS, problem: undefined };
  const complaints = new Complaints();
  const hosts = readHosts(slice, family, nodeName, complaints);
  const ports = new Map<string, readonly SliceEndpoint[]>();
  for (const { name, protocol, port } of slice.ports ?? []) {
    if (port === undefined || port === null || !Number.isInteger(port) || port < 1 || port > 65535) {
      complaints.add(`port ${JSON.stringify(name ?? '')} without a number from 1 to 65535`);
      continue;
    }
    const id = `${name ?? ''}/${protocol ?? 'TCP'}`;
    const endpoints = hosts.map((host) => endpointAt(host, port));
    const known = ports.get(id);
    ports.set(id, known ? [...known, ...endpoints] : endpoints);
  }
  return { family, ports, problem: complaints.problem(slice) };
}

type Host = Omit<SliceEndpoint, 'port' | 'text'>;

/** Written out, because there may be a hundred thousand: a spread takes three times as long. */
function endpointAt(host: Host, port: number): SliceEndpoint {
  const { address, local, ready, serving, terminating, unplaced, zoneHints, nodeHints } = host;
  const text = endpointText({ address, port });
  if (unplaced || zoneHints || nodeHints) return { ...host, port, text };
  return { address, port, local, ready, serving, terminating, text };
}

function readHosts(slice: EndpointSlice, family: Family, nodeName: string, complaints: Complaints): readonly Host[] {
  const hosts: Host[] = [];
  let places: Map<IpAddress, number> | undefined;
  for (const item of slice.endpoints ?? []) {
    const text = item.addresses?.[0];
    const address = usableAddress(text, family);
    if (!address.ok) {
      complaints.add(address.reason, text);
      continue;
    }
    const host = readHost(item, address.value, nodeName);
    const place = places ? places.get(host.address) : hosts.findIndex((known) => known.address === host.address);
    if (place === undefined || place === -1) {
      hosts.push(host);
      if (hosts.length > FEW) places ??= new Map(hosts.map((each, i) => [each.address, i]));
      places?.set(host.address, hosts.length - 1);
      continue;
    }
    complaints.add('duplicate', text);
    if (readiness(host) > readiness(hosts[place]!)) hosts[place] = host;
  }
  return hosts;
}

/** So many are looked through one by one: most slices have a handful of endpoints, and a map takes more than they do. */
const FEW = 8;

/** Of two endpoints with one address the readier one counts; of equal ones, the one that is known to be here. */
export function readiness(host: Omit<SliceEndpoint, 'address' | 'port'>): number {
  const isDraining = host.serving && host.terminating;
  return (host.ready ? 4 : isDraining ? 2 : 0) + (host.local ? 1 : 0);
}

function readHost(item: SliceItem, address: IpAddress, nodeName: string): Host {
  const ready = item.conditions?.ready ?? true;
  const { forZones, forNodes } = (item.hints ?? {}) as Hints;
  return {
    address,
    local: item.nodeName === nodeName,
    ...(item.nodeName ? {} : { unplaced: true as const }),
    ready,
    serving: item.conditions?.serving ?? ready,
    terminating: item.conditions?.terminating ?? false,
    ...(forZones?.length ? { zoneHints: forZones.map(({ name }) => name) } : {}),
    ...(forNodes?.length ? { nodeHints: forNodes.map(({ name }) => name) } : {}),
  };
}

/** Counts what is wrong in a slice, so that ten thousand wrong endpoints make one short message. */
class Complaints {
  readonly #counts = new Map<string, { count: number; example: string | undefined }>();

  add(reason: string, example?: string): void {
    const known = this.#counts.get(reason);
    if (known) known.count++;
    else this.#counts.set(reason, { count: 1, example });
  }

  problem(slice: EndpointSlice): Problem | undefined {
    if (this.#counts.size === 0) return undefined;
    const { namespace, name } = slice.metadata;
    const parts = [...this.#counts].map(([reason, { count, example }]) => {
      const shown = example === undefined ? '' : ` (as ${JSON.stringify(example).slice(0, 60)})`;
      return `${count} ${reason}${shown}`;
    });
    const message = `ignored: ${parts.sort().join(', ')}`;
    return { kind: 'EndpointSlice', namespace, name, reason: 'InvalidEndpoints', message };
  }
}
