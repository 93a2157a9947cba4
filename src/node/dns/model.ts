/**
 * What the API objects mean in DNS (DNS-based service discovery 1.1.0): pure functions from Services, EndpointSlices and
 * Pods to addresses, ports and hostnames. Nothing here knows of packets.
 */
import { isIp, parseIp } from '../../base/ip.ts';
import type { EndpointSlice, Pod, Service } from '../../kube/types.ts';

/** An endpoint of a Service, one address of one family. */
export interface EndpointAddress {
  readonly address: string;
  /** The endpoint's hostname where it has one, else its address with dashes. */
  readonly hostname: string;
  readonly ports: readonly NamedPort[];
}

export interface NamedPort {
  /** "" where the port has no name: such a port has no SRV name of its own. */
  readonly name: string;
  /** "tcp", "udp", "sctp". */
  readonly protocol: string;
  readonly port: number;
}

export type ServiceKind = 'cluster-ip' | 'headless' | 'external-name';

export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

export function kindOf(service: Service): ServiceKind {
  if (service.spec.type === 'ExternalName') return 'external-name';
  return service.spec.clusterIP === 'None' ? 'headless' : 'cluster-ip';
}

/** The Service's cluster addresses, canonical, both families. */
export function clusterAddresses(service: Service): string[] {
  if (service.spec.type === 'ExternalName') return [];
  const addresses = service.spec.clusterIPs ?? (service.spec.clusterIP ? [service.spec.clusterIP] : []);
  return addresses.filter(isIp).map((address) => parseIp(address));
}

export function servicePorts(service: Service): NamedPort[] {
  return (service.spec.ports ?? []).map((port) => ({
    name: port.name ?? '',
    protocol: (port.protocol ?? 'TCP').toLowerCase(),
    port: port.port,
  }));
}

/** The Service that a slice belongs to, "namespace/name"; undefined where it belongs to none. */
export function ownerOf({ metadata }: EndpointSlice): string | undefined {
  const name = metadata.labels?.[SERVICE_NAME_LABEL];
  return name ? `${metadata.namespace}/${name}` : undefined;
}

/**
 * The endpoints that a Service's name stands for, each address once, in a stable order: those that the slices call ready.
 * For a Service with publishNotReadyAddresses the slices call all of them so.
 */
export function endpointAddresses(slices: readonly EndpointSlice[]): EndpointAddress[] {
  const found = new Map<string, EndpointAddress & { readonly given: boolean }>();
  for (const slice of slices) {
    const ports = slicePorts(slice);
    for (const endpoint of slice.endpoints ?? []) {
      // An absent condition means ready (discovery/v1 EndpointConditions).
      if (endpoint.conditions?.ready === false) continue;
      for (const address of endpoint.addresses.filter(isIp).map((text) => parseIp(text))) {
        const before = found.get(address);
        const given = Boolean(endpoint.hostname) || (before?.given ?? false);
        const hostname = endpoint.hostname || before?.hostname || dashed(address);
        found.set(address, { address, hostname, given, ports: before ? union(before.ports, ports) : ports });
      }
    }
  }
  return [...found.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}

/** All addresses that a slice mentions, canonical, ready or not. */
export function sliceAddresses({ endpoints }: EndpointSlice): string[] {
  const all = (endpoints ?? []).flatMap(({ addresses }) => addresses.filter(isIp).map((text) => parseIp(text)));
  return [...new Set<string>(all)];
}

/** A pod's addresses, canonical, while they are its own: those of an ended pod may be another's by now. */
export function podAddresses({ status }: Pod): string[] {
  if (status?.phase === 'Succeeded' || status?.phase === 'Failed') return [];
  const all = status?.podIPs ?? (status?.podIP ? [{ ip: status.podIP }] : []);
  return all.flatMap(({ ip }) => (ip && isIp(ip) ? [parseIp(ip)] : []));
}

function slicePorts(slice: EndpointSlice): NamedPort[] {
  return (slice.ports ?? []).flatMap(({ name, protocol, port }) =>
    // An absent port means all ports: nothing that an SRV record can say.
    port === undefined || port === null
      ? []
      : [{ name: name ?? '', protocol: (protocol ?? 'TCP').toLowerCase(), port }],
  );
}

function union(before: readonly NamedPort[], more: readonly NamedPort[]): NamedPort[] {
  const key = ({ name, protocol, port }: NamedPort) => `${name} ${protocol} ${port}`;
  return [...new Map([...before, ...more].map((port) => [key(port), port])).values()];
}

/** "10-244-1-5", "fd00-10-244--5": an address as one label, which neither begins nor ends with a dash. */
export function dashed(address: string): string {
  const label = address.replaceAll(/[.:]/g, '-');
  return `${label.startsWith('-') ? '0' : ''}${label}${label.endsWith('-') ? '0' : ''}`;
}

/** The address that a dashed label stands for, canonical, or undefined. */
export function undashed(label: string): string | undefined {
  const four = label.replaceAll('-', '.');
  if (isIp(four)) return parseIp(four);
  const six = label.replaceAll('-', ':');
  return isIp(six) ? parseIp(six) : undefined;
}
