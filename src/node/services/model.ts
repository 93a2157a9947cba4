/**
 * The model of Services on one node: which addresses and ports are frontends, and where each of them leads.
 *
 * Pure: Service + EndpointSlices + the node's own view in, frontends and complaints out. Nothing here knows nftables.
 * The rules are kube-proxy's (pkg/proxy of Kubernetes 1.36); docs/services.md writes them down.
 */
import { cidrContains, type Family, type IpAddress, isCidr, parseCidr } from '../../base/ip.ts';
import { keyOf } from '../../kube/names.ts';
import type { EndpointSlice, Service, ServicePort } from '../../kube/types.ts';
import { canonicalIp, familyOfCanonical } from './addresses.ts';
import { choosePools, type Pools } from './pools.ts';
import { mergeEndpoints, parseSlices } from './slices.ts';
import { minimalRanges } from './source-ranges.ts';

/** What a frontend can carry. SCTP is refused with a problem: see `Problem`. */
export type Protocol = 'tcp' | 'udp';

/** The node on which the model is made. */
export interface NodeView {
  readonly name: string;
  /** The label topology.kubernetes.io/zone. */
  readonly zone?: string | undefined;
  /** Where NodePorts and host ports are served: canonical addresses of either family. */
  readonly nodePortAddresses: readonly IpAddress[];
}

export interface Endpoint {
  readonly address: IpAddress;
  readonly port: number;
  /** Whether it runs on this node, as its slice's nodeName says. */
  readonly local: boolean;
  /** Nobody said where it runs (hand-made slices): it may be a pod of this node that meets itself. */
  readonly unplaced?: true;
  /** What `endpointText` says of it, where it was made before: equal endpoints of a slice share the text. */
  readonly text?: EndpointText;
}

/** Where packets of a frontend go: to one of the endpoints (never none), or nowhere. */
export type Target =
  | { readonly kind: 'endpoints'; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: 'reject' }
  | { readonly kind: 'drop' };

export type FrontendRole = 'clusterIP' | 'nodePort' | 'loadBalancer' | 'externalIP' | 'hostPort';

/** One address and port that is translated. */
export interface Frontend {
  readonly family: Family;
  readonly address: IpAddress;
  readonly protocol: Protocol;
  readonly port: number;
  readonly role: FrontendRole;
  /** "namespace/name" of the Service that it serves, and which of its ports: all frontends of a port lead to the same endpoints. */
  readonly service?: string | undefined;
  readonly portName?: string | undefined;
  /**
   * For pods and for the node itself, and for everybody else unless `outside` says otherwise. Where it does, pods of other nodes
   * are masqueraded: their own node did not translate, and an answer from an endpoint elsewhere would reach them past this node.
   */
  readonly inside: Target;
  /** For sources that are neither pods nor this node, where it differs (externalTrafficPolicy: Local). */
  readonly outside?: Target | undefined;
  /** Whether `inside` rewrites the source of every connection, pods' too (externalTrafficPolicy: Cluster). */
  readonly masquerade: boolean;
  /** sessionAffinity ClientIP: seconds without a new connection after which a client is forgotten. */
  readonly affinitySeconds?: number | undefined;
  /** loadBalancerSourceRanges: only sources inside are let through. Disjoint CIDRs or addresses, sorted. */
  readonly sourceRanges?: readonly string[] | undefined;
}

/** Something in the API that podwire ignores, and why. */
export interface Problem {
  readonly kind: 'Service' | 'EndpointSlice' | 'Pod';
  readonly namespace: string;
  readonly name: string;
  /** An event's reason. */
  readonly reason:
    | 'UnsupportedProtocol'
    | 'UnsupportedAddress'
    | 'InvalidEndpoints'
    | 'InvalidAddress'
    | 'FrontendConflict'
    | 'KernelRefused';
  readonly message: string;
}

/** Everything that one Service (or one pod's host ports) asks for on this node. */
export interface ServiceModel {
  /** "namespace/name" of a Service, "pod:namespace/name" of a pod with host ports. */
  readonly key: string;
  /** creationTimestamp, or empty: of two claims to one frontend the older wins, and any Service before a host port. */
  readonly created: string;
  readonly frontends: readonly Frontend[];
  readonly problems: readonly Problem[];
  /** healthCheckNodePort of an externalTrafficPolicy Local load balancer, with the addresses that serve here. */
  readonly health?: { readonly port: number; readonly localEndpoints: number } | undefined;
}

/** The identity of a frontend, which is also its nftables key: "10.96.0.10 . tcp . 80". */
export function frontendKey({ address, protocol, port }: Pick<Frontend, 'address' | 'protocol' | 'port'>): string {
  return `${address}${BETWEEN[protocol]}${port}`;
}

/** Ready-made, because each piece that is put into a text costs. */
const BETWEEN: Readonly<Record<Protocol, string>> = { tcp: ' . tcp . ', udp: ' . udp . ' };

/** The port of a Service that a frontend serves, "namespace/name:port" or, where it has no name, "namespace/name". */
export function servicePortOf({ service, portName }: Frontend): string | undefined {
  return service && portName ? `${service}:${portName}` : service;
}

/** An endpoint as rules write it: "10.244.0.2 . 8080". */
export type EndpointText = string;

export function endpointText({ address, port, text }: Pick<Endpoint, 'address' | 'port' | 'text'>): EndpointText {
  return text ?? `${address} . ${port}`;
}

/** kube-proxy leaves Services with this label to other proxies. */
const OTHER_PROXY_LABEL = 'service.kubernetes.io/service-proxy-name';
/** core/v1 DefaultClientIPServiceAffinitySeconds: three hours. */
const DEFAULT_AFFINITY_SECONDS = 10800;

const PROTOCOLS: { readonly [name: string]: Protocol | undefined } = { TCP: 'tcp', UDP: 'udp' };

/**
 * Builds the model of one Service. Never throws: what cannot be used is left out and told in `problems`. The key is the Service's
 * own; who has the text at hand gives it, so that there is one of it.
 */
export function buildService(
  service: Service,
  slices: readonly EndpointSlice[],
  node: NodeView,
  key: string = keyOf(service),
): ServiceModel {
  const created = service.metadata.creationTimestamp ?? '';
  if (!isProxied(service)) return { key, created, problems: NO_PROBLEMS, frontends: NO_FRONTENDS };
  const problems: Problem[] = [];
  let frontends: Frontend[] | undefined;
  const parsed = parseSlices(slices, node.name);
  for (const { problem } of parsed) if (problem) problems.push(problem);
  const policies = policiesOf(service);
  const families = familiesOf(service);
  let health: ServiceModel['health'];
  for (const port of service.spec.ports ?? []) {
    const protocol = PROTOCOLS[port.protocol ?? 'TCP'];
    if (!protocol) {
      problems.push(unsupported(service, port));
      continue;
    }
    const portName = { name: port.name ?? '', protocol: port.protocol ?? 'TCP' };
    for (const family of families) {
      const pools = choosePools(mergeEndpoints(parsed, family, portName), policies, node);
      health = widerHealth(health, service, pools);
      const more = frontendsOf({ key, service, port, protocol, family, pools, policies, node, problems });
      if (frontends) frontends.push(...more);
      else frontends = more;
    }
  }
  return {
    key,
    created,
    problems: problems.length > 0 ? problems : NO_PROBLEMS,
    frontends: frontends ? withoutDuplicates(frontends) : NO_FRONTENDS,
    health,
  };
}

const NO_PROBLEMS: readonly Problem[] = [];
const NO_FRONTENDS: readonly Frontend[] = [];

/** Each address and port once: the first that asked for it has it. */
function withoutDuplicates(frontends: readonly Frontend[]): readonly Frontend[] {
  if (frontends.length < 2) return frontends;
  const first = new Map<string, Frontend>();
  for (const frontend of frontends) {
    const id = frontendKey(frontend);
    if (!first.has(id)) first.set(id, frontend);
  }
  return [...first.values()];
}

function isProxied(service: Service): boolean {
  const { type, clusterIP } = service.spec;
  return type !== 'ExternalName' && clusterIP !== 'None' && !service.metadata.labels?.[OTHER_PROXY_LABEL];
}

/** The traffic policies of a Service as they work: the external one only where something external exists. */
export interface Policies {
  readonly internalLocal: boolean;
  readonly externalLocal: boolean;
  /** Whether anything but the ClusterIP is served. */
  readonly external: boolean;
}

function policiesOf(service: Service): Policies {
  const { type, externalIPs, internalTrafficPolicy, externalTrafficPolicy } = service.spec;
  const external = type === 'NodePort' || type === 'LoadBalancer' || (externalIPs?.length ?? 0) > 0;
  return {
    external,
    internalLocal: internalTrafficPolicy === 'Local',
    externalLocal: external && externalTrafficPolicy === 'Local',
  };
}

function unsupported(service: Service, port: ServicePort): Problem {
  return {
    kind: 'Service',
    namespace: service.metadata.namespace,
    name: service.metadata.name,
    reason: 'UnsupportedProtocol',
    message: `port ${port.port}: protocol ${port.protocol} is not forwarded, only TCP and UDP are`,
  };
}

/** The families of a Service, from its ClusterIPs, or from ipFamilies while those are not allocated yet. */
function familiesOf(service: Service): readonly Family[] {
  let families: readonly Family[] = NO_FAMILIES;
  for (const text of clusterIpsOf(service)) {
    const address = canonicalIp(text);
    if (address) families = withFamily(families, familyOfCanonical(address));
  }
  if (families.length > 0) return families;
  for (const name of service.spec.ipFamilies ?? ['IPv4']) families = withFamily(families, name === 'IPv6' ? 6 : 4);
  return families;
}

/** The lists that there are, so that ten thousand Services need no lists of their own. */
const NO_FAMILIES: readonly Family[] = [];
const ONLY: Readonly<Record<Family, readonly Family[]>> = { 4: [4], 6: [6] };

function withFamily(families: readonly Family[], family: Family): readonly Family[] {
  if (families.length === 0) return ONLY[family];
  return families.includes(family) ? families : [...families, family];
}

const isGiven = (clusterIp: string): boolean => clusterIp !== '' && clusterIp !== 'None';

function clusterIpsOf(service: Service): readonly string[] {
  const { clusterIPs, clusterIP } = service.spec;
  if (clusterIPs?.length) return clusterIPs.every(isGiven) ? clusterIPs : clusterIPs.filter(isGiven);
  return clusterIP && clusterIP !== 'None' ? [clusterIP] : [];
}

interface PortContext {
  readonly key: string;
  readonly service: Service;
  readonly port: ServicePort;
  readonly protocol: Protocol;
  readonly family: Family;
  readonly pools: Pools;
  readonly policies: Policies;
  readonly node: NodeView;
  readonly problems: Problem[];
}

/** All that one port of a Service is reached by in one family. */
function frontendsOf(context: PortContext): Frontend[] {
  const { service, port } = context;
  const internal = internalTargets(context);
  const own = addressesOf(context, 'clusterIPs', clusterIpsOf(service)).map((address) =>
    frontendOf(context, { address, port: port.port, role: 'clusterIP' }, internal),
  );
  return context.policies.external ? [...own, ...externalFrontends(context)] : own;
}

function externalFrontends(context: PortContext): Frontend[] {
  const { service, port, family, node } = context;
  const { type, externalIPs } = service.spec;
  const external = externalTargets(context);
  const frontends = addressesOf(context, 'externalIPs', externalIPs ?? []).map((address) =>
    frontendOf(context, { address, port: port.port, role: 'externalIP' }, external),
  );
  if (type === 'LoadBalancer')
    for (const address of addressesOf(context, 'loadBalancer.ingress', virtualIngress(service))) {
      const sourceRanges = sourceRangesOf(context, address);
      frontends.push(frontendOf(context, { address, port: port.port, role: 'loadBalancer', sourceRanges }, external));
    }
  if (!port.nodePort || (type !== 'NodePort' && type !== 'LoadBalancer')) return frontends;
  for (const address of node.nodePortAddresses)
    if (familyOfCanonical(address) === family)
      frontends.push(frontendOf(context, { address, port: port.nodePort, role: 'nodePort' }, external));
  return frontends;
}

type Place = Pick<Frontend, 'address' | 'port' | 'role' | 'sourceRanges'>;

function frontendOf(
  { key, service, port: { name }, protocol, family }: PortContext,
  place: Place,
  to: Targets,
): Frontend {
  return {
    family,
    address: place.address,
    protocol,
    port: place.port,
    role: place.role,
    service: key,
    portName: name,
    inside: to.inside,
    outside: to.outside,
    masquerade: to.masquerade,
    affinitySeconds: affinityOf(service),
    sourceRanges: place.sourceRanges,
  };
}

function affinityOf(service: Service): number | undefined {
  if (service.spec.sessionAffinity !== 'ClientIP') return undefined;
  return service.spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY_SECONDS;
}

type Targets = Pick<Frontend, 'inside' | 'outside' | 'masquerade'>;

const target = (endpoints: readonly Endpoint[], otherwise: 'reject' | 'drop'): Target =>
  endpoints.length > 0 ? { kind: 'endpoints', endpoints } : { kind: otherwise };

function internalTargets({ pools, policies }: PortContext): Targets {
  if (!policies.internalLocal) return { inside: target(pools.cluster, 'reject'), masquerade: false };
  return { inside: target(pools.local, pools.any ? 'drop' : 'reject'), masquerade: false };
}

/** Under policy Local the client's address stays, and pods and the node itself still reach every endpoint. */
function externalTargets({ pools, policies }: PortContext): Targets {
  const inside = target(pools.cluster, 'reject');
  if (!policies.externalLocal) return { inside, masquerade: inside.kind === 'endpoints' };
  if (!pools.any) return { inside, masquerade: false };
  return { inside, outside: target(pools.local, 'drop'), masquerade: false };
}

/** Addresses of the context's family in canonical text; what is no address at all is told once, for its first family. */
function addressesOf(context: PortContext, field: string, texts: readonly string[]): readonly IpAddress[] {
  if (texts.length === 1 && isCanonical(texts[0]!, context.family)) return texts as readonly IpAddress[];
  const addresses: IpAddress[] = [];
  for (const text of texts) {
    const address = canonicalIp(text);
    if (address) {
      if (familyOfCanonical(address) === context.family) addresses.push(address);
    } else if (!context.problems.some(({ message }) => message.startsWith(`${field}: `) && message.includes(text))) {
      const { namespace, name } = context.service.metadata;
      const message = `${field}: ${JSON.stringify(text).slice(0, 80)} is not an IP address`;
      context.problems.push({ kind: 'Service', namespace, name, reason: 'InvalidAddress', message });
    }
  }
  return addresses;
}

function isCanonical(text: string, family: Family): boolean {
  const address = canonicalIp(text);
  return address === text && familyOfCanonical(address) === family;
}

/** The load balancer's addresses that this node answers for: ipMode Proxy leaves them to the balancer (KEP-1860). */
function virtualIngress(service: Service): readonly string[] {
  const ingress = service.status?.loadBalancer?.ingress ?? [];
  return ingress.flatMap(({ ip, ...rest }) => (ip && (rest as { ipMode?: string }).ipMode !== 'Proxy' ? [ip] : []));
}

/**
 * The source ranges of the address's family. As in kube-proxy, ranges of the other family alone restrict nothing, and a
 * node that is allowed may also come from the load balancer's own address (where it is bound to the node).
 */
function sourceRangesOf({ service, family, node }: PortContext, address: IpAddress): readonly string[] | undefined {
  const texts = (service.spec.loadBalancerSourceRanges ?? []).map((text) => text.trim()).filter(isCidr);
  const ranges = texts.map(parseCidr).filter((range) => range.family === family);
  if (ranges.length === 0) return undefined;
  const allowsNode = ranges.some((range) => node.nodePortAddresses.some((own) => cidrContains(range, own)));
  if (allowsNode) ranges.push({ family, address, prefix: family === 4 ? 32 : 128 });
  return minimalRanges(ranges);
}

function widerHealth(before: ServiceModel['health'], service: Service, pools: Pools): ServiceModel['health'] {
  const { type, externalTrafficPolicy, healthCheckNodePort } = service.spec;
  if (type !== 'LoadBalancer' || externalTrafficPolicy !== 'Local' || !healthCheckNodePort) return undefined;
  const count = new Set(pools.localReady.map((endpoint) => endpoint.address)).size;
  return { port: healthCheckNodePort, localEndpoints: Math.max(before?.localEndpoints ?? 0, count) };
}
