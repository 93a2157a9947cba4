/**
 * Where a packet for a Service lands, straight from the API objects by the rules that Kubernetes writes down, without the
 * model, the maps or the kernel. Slow and plain on purpose: it judges them. Also an answer to "why does this not arrive?".
 */
import { type Cidr, cidrContains, type Family, familyOf, isCidr, isIp, parseCidr, parseIp } from '../../base/ip.ts';
import type { EndpointSlice, Pod, Service, ServicePort } from '../../kube/types.ts';
import { usableAddress } from './addresses.ts';
import type { NodeView, Protocol } from './model.ts';

/** All that decides. */
export interface ClusterState {
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  /** Pods with host ports. */
  readonly pods?: readonly Pod[];
  readonly podCidrs: readonly Cidr[];
  /** Those of the pods of the node that decides. */
  readonly ownPodCidrs: readonly Cidr[];
  readonly serviceCidrs: readonly Cidr[];
}

/** The first packet of a connection, as the node sees it. */
export interface Packet {
  readonly source: string;
  readonly destination: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** A pod of this node or another one's whose packet is routed here; the node itself; or anybody else. */
  readonly from: 'pod' | 'node' | 'outside';
}

export interface Landing {
  /** "address port" of the endpoint. */
  readonly endpoint: string;
  /** Whether the endpoint sees an address of the node instead of the source. */
  readonly masqueraded: boolean;
}

export type Decision =
  | { readonly kind: 'endpoints'; readonly landings: readonly Landing[]; readonly sticky: boolean }
  | { readonly kind: 'reject' }
  | { readonly kind: 'drop' }
  /** No Service's: the packet is not touched. */
  | { readonly kind: 'pass' };

type Via = 'clusterIP' | 'external' | 'loadBalancer' | 'nodePort';

interface Match {
  readonly service: Service;
  readonly port: ServicePort;
  readonly via: Via;
}

/**
 * Where it lands. `translation` says where destinations are replaced: in packets, or where pods and the node connect, whose
 * sources are then what they are.
 */
export function decide(
  state: ClusterState,
  node: NodeView,
  packet: Packet,
  translation: 'packets' | 'sockets' = 'packets',
): Decision {
  const match = findMatch(state, node, packet);
  if (!match) {
    const host = findHostPort(state, node, packet);
    if (host) return land([host], packet, packet.from === 'node', false);
    return isServiceAddress(state, packet) ? { kind: 'reject' } : { kind: 'pass' };
  }
  if (match.via === 'loadBalancer' && !isAllowed(match.service, node, packet)) return { kind: 'drop' };
  const candidates = candidatesOf(state, node, match.service, match.port, familyOf(packet.destination));
  const decision =
    match.via === 'clusterIP'
      ? decideInternal(match.service, node, candidates, packet)
      : decideExternal(state, match.service, node, candidates, packet);
  return translation === 'sockets' && isForSockets(match, packet) ? withSources(decision) : decision;
}

/** Whether the socket itself is translated: not for ports of nodes, and not where the source has to be judged first. */
function isForSockets({ service, via }: Match, packet: Packet): boolean {
  if (packet.from === 'outside' || via === 'nodePort') return false;
  if (via !== 'loadBalancer') return true;
  const ranges = rangesOf(service, familyOf(packet.destination));
  return ranges.length === 0 || ranges.some(({ prefix }) => prefix === 0);
}

function withSources(decision: Decision): Decision {
  if (decision.kind !== 'endpoints') return decision;
  return { ...decision, landings: decision.landings.map((landing) => ({ ...landing, masqueraded: false })) };
}

function decideInternal(service: Service, node: NodeView, all: readonly Candidate[], packet: Packet): Decision {
  const masquerade = packet.from !== 'pod';
  const sticky = service.spec.sessionAffinity === 'ClientIP';
  if (service.spec.internalTrafficPolicy === 'Local') {
    const here = serving(all.filter((each) => each.here));
    if (here.length > 0) return land(here, packet, masquerade, sticky);
    return { kind: serving(all).length > 0 ? 'drop' : 'reject' };
  }
  const chosen = topologically(all, node);
  return chosen.length > 0 ? land(chosen, packet, masquerade, sticky) : { kind: 'reject' };
}

function decideExternal(
  state: ClusterState,
  service: Service,
  node: NodeView,
  all: readonly Candidate[],
  packet: Packet,
): Decision {
  const sticky = service.spec.sessionAffinity === 'ClientIP';
  const chosen = topologically(all, node);
  if (chosen.length === 0) return { kind: 'reject' };
  if (service.spec.externalTrafficPolicy !== 'Local') return land(chosen, packet, true, sticky);
  // An answer to a pod of another node would not come by here.
  const isOwnPod = packet.from === 'pod' && state.ownPodCidrs.some((cidr) => cidrContains(cidr, packet.source));
  if (packet.from === 'pod') return land(chosen, packet, !isOwnPod, sticky);
  if (packet.from === 'node') return land(chosen, packet, true, sticky);
  const here = serving(all.filter((each) => each.here));
  return here.length > 0 ? land(here, packet, false, sticky) : { kind: 'drop' };
}

function land(chosen: readonly Candidate[], packet: Packet, masquerade: boolean, sticky: boolean): Decision {
  const landings = chosen.map(({ address, port }) => ({
    endpoint: `${address} ${port}`,
    masqueraded: masquerade || address === packet.source,
  }));
  return { kind: 'endpoints', landings, sticky };
}

interface Candidate {
  readonly address: string;
  readonly port: number;
  readonly here: boolean;
  readonly ready: boolean;
  readonly draining: boolean;
  readonly zones: readonly string[];
  readonly nodes: readonly string[];
}

/** Ready endpoints, or those that shut down but still serve when none is ready. */
function serving(all: readonly Candidate[]): readonly Candidate[] {
  const ready = all.filter((each) => each.ready);
  return ready.length > 0 ? ready : all.filter((each) => each.draining);
}

function topologically(all: readonly Candidate[], node: NodeView): readonly Candidate[] {
  const ready = all.filter((each) => each.ready);
  if (ready.length === 0) return serving(all);
  if (ready.every((each) => each.nodes.length > 0)) {
    const mine = ready.filter((each) => each.nodes.includes(node.name));
    if (mine.length > 0) return mine;
  }
  if (node.zone !== undefined && ready.every((each) => each.zones.length > 0)) {
    const mine = ready.filter((each) => each.zones.includes(node.zone!));
    if (mine.length > 0) return mine;
  }
  return ready;
}

function candidatesOf(
  state: ClusterState,
  node: NodeView,
  service: Service,
  port: ServicePort,
  family: Family,
): readonly Candidate[] {
  const found = new Map<string, Candidate>();
  for (const slice of state.slices) {
    if (slice.metadata.namespace !== service.metadata.namespace) continue;
    if (slice.metadata.labels?.['kubernetes.io/service-name'] !== service.metadata.name) continue;
    if (slice.addressType !== (family === 4 ? 'IPv4' : 'IPv6')) continue;
    for (const slicePort of slice.ports ?? []) {
      if ((slicePort.name ?? '') !== (port.name ?? '')) continue;
      if ((slicePort.protocol ?? 'TCP') !== (port.protocol ?? 'TCP') || !slicePort.port) continue;
      for (const item of slice.endpoints ?? []) {
        const address = usableAddress(item.addresses[0], family);
        if (!address.ok) continue;
        const candidate = readCandidate(item, address.value, slicePort.port, node);
        const id = `${candidate.address} ${candidate.port}`;
        const known = found.get(id);
        if (!known || rank(candidate) > rank(known)) found.set(id, candidate);
      }
    }
  }
  return [...found.values()];
}

const rank = (each: Candidate): number => (each.ready ? 4 : 0) + (each.draining ? 2 : 0) + (each.here ? 1 : 0);

function readCandidate(
  item: EndpointSlice['endpoints'][number],
  address: string,
  port: number,
  node: NodeView,
): Candidate {
  const ready = item.conditions?.ready !== false;
  const isServing = item.conditions?.serving ?? ready;
  const hints = (item.hints ?? {}) as { forZones?: { name: string }[]; forNodes?: { name: string }[] };
  return {
    address,
    port,
    here: item.nodeName === node.name,
    ready,
    draining: !ready && isServing && item.conditions?.terminating === true,
    zones: (hints.forZones ?? []).map(({ name }) => name),
    nodes: (hints.forNodes ?? []).map(({ name }) => name),
  };
}

/** The Service that owns the destination: the oldest, then the first by name. */
function findMatch(state: ClusterState, node: NodeView, packet: Packet): Match | undefined {
  const name = ({ metadata }: Service) => `${metadata.creationTimestamp} ${metadata.namespace}/${metadata.name}`;
  const services = [...state.services].sort((a, b) => (name(a) < name(b) ? -1 : 1));
  for (const service of services) {
    const { type, clusterIP } = service.spec;
    if (type === 'ExternalName' || clusterIP === 'None') continue;
    if (service.metadata.labels?.['service.kubernetes.io/service-proxy-name']) continue;
    for (const port of service.spec.ports ?? []) {
      if ((port.protocol ?? 'TCP').toLowerCase() !== packet.protocol) continue;
      const via = viaOf(service, port, node, packet);
      if (via) return { service, port, via };
    }
  }
  return undefined;
}

function viaOf(service: Service, port: ServicePort, node: NodeView, packet: Packet): Via | undefined {
  const { type, clusterIPs, clusterIP, externalIPs } = service.spec;
  const own = (clusterIPs ?? [clusterIP ?? '']).filter(isIp).map(parseIp);
  const family = familyOf(packet.destination);
  if (!own.some((address) => familyOf(address) === family)) return undefined;
  const is = (text: string | undefined) => text !== undefined && isIp(text) && parseIp(text) === packet.destination;
  if (port.port === packet.port) {
    if (own.some(is)) return 'clusterIP';
    if (externalIPs?.some(is)) return 'external';
    const ingress = (service.status?.loadBalancer?.ingress ?? []) as readonly { ip?: string; ipMode?: string }[];
    const virtual = ingress.filter(({ ipMode }) => ipMode !== 'Proxy');
    if (type === 'LoadBalancer' && virtual.some(({ ip }) => is(ip))) return 'loadBalancer';
  }
  const hasNodePort = type === 'NodePort' || type === 'LoadBalancer';
  if (hasNodePort && port.nodePort === packet.port && node.nodePortAddresses.some(is)) return 'nodePort';
  return undefined;
}

function isAllowed(service: Service, node: NodeView, packet: Packet): boolean {
  const ranges = rangesOf(service, familyOf(packet.source));
  if (ranges.length === 0) return true;
  if (ranges.some((range) => cidrContains(range, packet.source))) return true;
  const nodeIsAllowed = node.nodePortAddresses.some((own) => ranges.some((range) => cidrContains(range, own)));
  return nodeIsAllowed && packet.source === packet.destination;
}

function rangesOf(service: Service, family: Family): readonly Cidr[] {
  const all = (service.spec.loadBalancerSourceRanges ?? []).map((text) => text.trim()).filter(isCidr);
  return all.map(parseCidr).filter((range) => range.family === family);
}

function isServiceAddress(state: ClusterState, packet: Packet): boolean {
  if (state.serviceCidrs.some((cidr) => cidrContains(cidr, packet.destination))) return true;
  return state.services.some(({ metadata, spec }) => {
    const headless = spec.type === 'ExternalName' || spec.clusterIP === 'None' || (spec.ports ?? []).length === 0;
    if (headless || metadata.labels?.['service.kubernetes.io/service-proxy-name']) return false;
    return (spec.clusterIPs ?? [spec.clusterIP ?? '']).some(
      (text) => isIp(text) && parseIp(text) === packet.destination,
    );
  });
}

function findHostPort(state: ClusterState, node: NodeView, packet: Packet): Candidate | undefined {
  const pods = [...(state.pods ?? [])].sort((a, b) => (claimOf(a) < claimOf(b) ? -1 : 1));
  for (const { spec, status } of pods) {
    if (spec.nodeName !== node.name || spec.hostNetwork || status?.phase !== 'Running') continue;
    for (const port of spec.containers.flatMap((container) => container.ports ?? [])) {
      if (port.hostPort !== packet.port || (port.protocol ?? 'TCP').toLowerCase() !== packet.protocol) continue;
      const any = !port.hostIP || port.hostIP === '0.0.0.0' || port.hostIP === '::';
      const addresses = any ? node.nodePortAddresses : [parseIp(port.hostIP!)];
      if (!addresses.some((address) => address === packet.destination)) continue;
      const ips = (status.podIPs ?? []).flatMap(({ ip }) => (ip ? [parseIp(ip)] : []));
      const address = ips.find((ip) => familyOf(ip) === familyOf(packet.destination));
      const state = { here: true, ready: true, draining: false, zones: [], nodes: [] };
      if (address) return { address, port: port.containerPort, ...state };
    }
  }
  return undefined;
}

const claimOf = ({ metadata }: Pod): string =>
  `${metadata.creationTimestamp} pod:${metadata.namespace}/${metadata.name}`;
