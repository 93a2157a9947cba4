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

/** What identifies a port in a Service and its slices: the name is empty where a single port has none. */
export interface PortName {
  readonly name: string;
  /** As the API writes it: "TCP". */
  readonly protocol: string;
}

/** A port of a slice and who serves it. */
export interface SlicePort extends PortName {
  readonly endpoints: readonly SliceEndpoint[];
}

export interface ParsedSlice {
  /** Undefined for slices of names (addressType FQDN), which no proxy uses. */
  readonly family: Family | undefined;
  /** Nearly always one, and a handful at most: looked through one by one. */
  readonly ports: readonly SlicePort[];
  readonly problem: Problem | undefined;
}

type SliceItem = EndpointSlice['endpoints'][number];
type SliceItemPort = NonNullable<EndpointSlice['ports']>[number];
/** Hints by node came after the 1.30 types (KEP-3015). */
type Hints = { forZones?: { name: string }[]; forNodes?: { name: string }[] };

const NO_PORTS: ParsedSlice['ports'] = [];
const NO_ENDPOINTS: readonly SliceEndpoint[] = [];

const cache = new WeakMap<EndpointSlice, { readonly nodeName: string; readonly parsed: ParsedSlice }>();

/**
 * Reads the slices of a Service as the node sees them. Objects of an informer are never mutated, so what was read of a slice is
 * remembered with it where there are several: one of a thousand changes then costs one. A lone slice is read anew each time.
 */
export function parseSlices(slices: readonly EndpointSlice[], nodeName: string): readonly ParsedSlice[] {
  if (slices.length === 1) return [readSlice(slices[0]!, nodeName)];
  return slices.map((slice) => {
    const known = cache.get(slice);
    if (known?.nodeName === nodeName) return known.parsed;
    const parsed = readSlice(slice, nodeName);
    cache.set(slice, { nodeName, parsed });
    return parsed;
  });
}

/** One list from all slices of a family, without duplicates: of two that say different things the readier one counts. */
export function mergeEndpoints(
  slices: readonly ParsedSlice[],
  family: Family,
  port: PortName,
): readonly SliceEndpoint[] {
  let only = NO_ENDPOINTS;
  let merged: Map<string, SliceEndpoint> | undefined;
  for (const slice of slices) {
    const list = slice.family === family ? endpointsAt(slice, port) : NO_ENDPOINTS;
    if (list.length === 0) continue;
    if (only.length === 0) {
      only = list;
      continue;
    }
    merged ??= putReadiest(new Map(), only);
    putReadiest(merged, list);
  }
  return merged ? [...merged.values()] : only;
}

function putReadiest(merged: Map<string, SliceEndpoint>, list: readonly SliceEndpoint[]): Map<string, SliceEndpoint> {
  for (const endpoint of list) {
    const id = endpointText(endpoint);
    const other = merged.get(id);
    if (!other || readiness(endpoint) > readiness(other)) merged.set(id, endpoint);
  }
  return merged;
}

/** The endpoints of a port of a slice. */
function endpointsAt({ ports }: ParsedSlice, { name, protocol }: PortName): readonly SliceEndpoint[] {
  for (const port of ports) if (port.name === name && port.protocol === protocol) return port.endpoints;
  return NO_ENDPOINTS;
}

function readSlice(slice: EndpointSlice, nodeName: string): ParsedSlice {
  const family = slice.addressType === 'IPv4' ? 4 : slice.addressType === 'IPv6' ? 6 : undefined;
  if (!family) return { family, ports: NO_PORTS, problem: undefined };
  const complaints = new Complaints();
  const numbers = numberedPorts(slice, complaints);
  const first = readEndpoints(slice, family, { nodeName, port: numbers[0]?.port ?? 0 }, complaints);
  const ports = numbers.map(({ name, protocol, port }, i): SlicePort => {
    const endpoints = i === 0 ? first : first.map((endpoint) => atPort(endpoint, port));
    return { name: name ?? '', protocol: protocol ?? 'TCP', endpoints };
  });
  return { family, ports: withoutRepeats(ports), problem: complaints.problem(slice) };
}

type NumberedPort = SliceItemPort & { readonly port: number };

/** The ports that can be used: nearly always all of them. */
function numberedPorts({ ports }: EndpointSlice, complaints: Complaints): readonly NumberedPort[] {
  const usable = (port: SliceItemPort) => hasNumber(port, complaints);
  if (ports?.length === 1) return usable(ports[0]!) ? (ports as readonly NumberedPort[]) : [];
  return (ports ?? []).filter(usable) as readonly NumberedPort[];
}

function hasNumber({ name, port }: SliceItemPort, complaints: Complaints): boolean {
  if (port !== undefined && port !== null && Number.isInteger(port) && port >= 1 && port <= 65535) return true;
  complaints.add(`port ${JSON.stringify(name ?? '')} without a number from 1 to 65535`);
  return false;
}

/** What a slice says twice of one port counts together. */
function withoutRepeats(ports: readonly SlicePort[]): readonly SlicePort[] {
  if (ports.length < 2) return ports;
  const kept: SlicePort[] = [];
  for (const port of ports) {
    const place = kept.findIndex(({ name, protocol }) => name === port.name && protocol === port.protocol);
    if (place < 0) kept.push(port);
    else kept[place] = { ...port, endpoints: [...kept[place]!.endpoints, ...port.endpoints] };
  }
  return kept;
}

/** The same endpoint at another port. */
function atPort(endpoint: SliceEndpoint, port: number): SliceEndpoint {
  return { ...endpoint, port, text: endpointText({ address: endpoint.address, port }) };
}

/** Where a slice is read: the node, and the port that its endpoints get. */
interface Reading {
  readonly nodeName: string;
  readonly port: number;
}

/** The endpoints of a slice, each address once. */
function readEndpoints(
  slice: EndpointSlice,
  family: Family,
  reading: Reading,
  complaints: Complaints,
): readonly SliceEndpoint[] {
  const items = slice.endpoints ?? [];
  const read: SliceEndpoint[] = [];
  let places: Map<IpAddress, number> | undefined;
  for (const item of items) {
    const text = item.addresses?.[0];
    const address = usableAddress(text, family);
    if (!address.ok) {
      complaints.add(address.reason, text);
      continue;
    }
    const endpoint = readEndpoint(item, address.value, reading);
    const place = places ? places.get(endpoint.address) : placeOf(endpoint.address, read);
    if (place === undefined) {
      read.push(endpoint);
      if (read.length > FEW) places ??= new Map(read.map((each, i) => [each.address, i]));
      places?.set(endpoint.address, read.length - 1);
      continue;
    }
    complaints.add('duplicate', text);
    if (readiness(endpoint) > readiness(read[place]!)) read[place] = endpoint;
  }
  return read.slice();
}

function placeOf(address: IpAddress, among: readonly SliceEndpoint[]): number | undefined {
  for (let i = 0; i < among.length; i++) if (among[i]!.address === address) return i;
  return undefined;
}

/** So many are looked through one by one: most slices have a handful of endpoints, and a map takes more than they do. */
const FEW = 8;

/** Of two endpoints with one address the readier one counts; of equal ones, the one that is known to be here. */
export function readiness(endpoint: SliceEndpoint): number {
  const isDraining = endpoint.serving && endpoint.terminating;
  return (endpoint.ready ? 4 : isDraining ? 2 : 0) + (endpoint.local ? 1 : 0);
}

/** Written out, because there may be a hundred thousand: a spread takes three times as long. */
function readEndpoint(item: SliceItem, address: IpAddress, { nodeName, port }: Reading): SliceEndpoint {
  const ready = item.conditions?.ready ?? true;
  const serving = item.conditions?.serving ?? ready;
  const terminating = item.conditions?.terminating ?? false;
  const local = item.nodeName === nodeName;
  const text = endpointText({ address, port });
  const endpoint: SliceEndpoint = { address, port, local, ready, serving, terminating, text };
  if (item.nodeName && !item.hints) return endpoint;
  const { forZones, forNodes } = (item.hints ?? {}) as Hints;
  return {
    ...endpoint,
    ...(item.nodeName ? {} : { unplaced: true as const }),
    ...(forZones?.length ? { zoneHints: forZones.map(({ name }) => name) } : {}),
    ...(forNodes?.length ? { nodeHints: forNodes.map(({ name }) => name) } : {}),
  };
}

/** Counts what is wrong in a slice, so that ten thousand wrong endpoints make one short message. */
class Complaints {
  #counts: Map<string, { count: number; example: string | undefined }> | undefined;

  add(reason: string, example?: string): void {
    this.#counts ??= new Map();
    const known = this.#counts.get(reason);
    if (known) known.count++;
    else this.#counts.set(reason, { count: 1, example });
  }

  problem(slice: EndpointSlice): Problem | undefined {
    if (!this.#counts) return undefined;
    const { namespace, name } = slice.metadata;
    const parts = [...this.#counts].map(([reason, { count, example }]) => {
      const shown = example === undefined ? '' : ` (as ${JSON.stringify(example).slice(0, 60)})`;
      return `${count} ${reason}${shown}`;
    });
    const message = `ignored: ${parts.sort().join(', ')}`;
    return { kind: 'EndpointSlice', namespace, name, reason: 'InvalidEndpoints', message };
  }
}
