/**
 * Which addresses the cluster's nodes answer for on their wire, and which nodes may. Pure: Services and EndpointSlices in.
 *
 * Announced are the addresses in the status of Services of type LoadBalancer whose class is podwire's. Under
 * externalTrafficPolicy Local only nodes with an endpoint may answer, because others would drop what comes.
 */
import { type Family, familyOf, type IpAddress, isIp, parseIp } from '../../base/ip.ts';
import { isReady } from '../../kube/conditions.ts';
import { keyOf } from '../../kube/names.ts';
import type { EndpointSlice, Node, Service } from '../../kube/types.ts';

export interface AnnouncedAddress {
  readonly address: IpAddress;
  readonly family: Family;
  /** "namespace/name" of the Service that has it. */
  readonly service: string;
  /** The only nodes that may answer; any node when absent. */
  readonly nodes?: ReadonlySet<string> | undefined;
}

/** spec.loadBalancerClass of Services that podwire serves, beside those without a class. */
export const LOAD_BALANCER_CLASS = 'podwire.io/lb';
/** Kubernetes' label for nodes that load balancers leave out. */
const EXCLUDED_LABEL = 'node.kubernetes.io/exclude-from-external-load-balancers';
const OTHER_PROXY_LABEL = 'service.kubernetes.io/service-proxy-name';

/** Whether the Service's addresses are podwire's to announce. */
export function isAnnounced({ metadata, spec }: Service): boolean {
  const { type, loadBalancerClass = LOAD_BALANCER_CLASS } = spec;
  if (metadata.deletionTimestamp || metadata.labels?.[OTHER_PROXY_LABEL]) return false;
  return type === 'LoadBalancer' && loadBalancerClass === LOAD_BALANCER_CLASS;
}

/** The addresses of one Service. */
export function buildAddresses(service: Service, slices: readonly EndpointSlice[]): readonly AnnouncedAddress[] {
  if (!isAnnounced(service)) return [];
  const key = keyOf(service);
  const isLocal = service.spec.externalTrafficPolicy === 'Local';
  return (service.status?.loadBalancer?.ingress ?? []).flatMap(({ ip, ...rest }) => {
    // ipMode is newer than the 1.30 types; Proxy means that packets do not come with this destination (KEP-1860).
    if (!ip || !isIp(ip) || (rest as { ipMode?: string }).ipMode === 'Proxy') return [];
    const address = parseIp(ip);
    const family = familyOf(address);
    return [{ address, family, service: key, nodes: isLocal ? nodesWithEndpoints(slices, family) : undefined }];
  });
}

/** Nodes with ready endpoints, or, where nothing is ready any more, with endpoints that still drain: as proxies do. */
function nodesWithEndpoints(slices: readonly EndpointSlice[], family: Family): ReadonlySet<string> {
  const ready = new Set<string>();
  const draining = new Set<string>();
  for (const { addressType, endpoints } of slices) {
    if (addressType !== `IPv${family}`) continue;
    for (const { nodeName, conditions } of endpoints ?? []) {
      if (!nodeName) continue;
      if (conditions?.ready ?? true) ready.add(nodeName);
      else if (conditions?.serving && conditions.terminating) draining.add(nodeName);
    }
  }
  return ready.size > 0 ? ready : draining;
}

/** The same address of several Services counts once; nodes must be allowed by all of them. */
export function mergeAddresses(lists: Iterable<readonly AnnouncedAddress[]>): ReadonlyMap<IpAddress, AnnouncedAddress> {
  const merged = new Map<IpAddress, AnnouncedAddress>();
  for (const one of [...lists].flat()) {
    const other = merged.get(one.address);
    if (!other) merged.set(one.address, one);
    else if (one.nodes) merged.set(one.address, { ...other, nodes: other.nodes?.intersection(one.nodes) ?? one.nodes });
  }
  return merged;
}

/** Whether load balancers may use the node: it is Ready and not left out by its label. */
export function isCandidate(node: Node): boolean {
  const { deletionTimestamp, labels } = node.metadata;
  return !deletionTimestamp && labels?.[EXCLUDED_LABEL] === undefined && isReady(node);
}
