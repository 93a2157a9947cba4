/**
 * What the API objects mean in DNS (DNS-based service discovery 1.1.0): pure functions from Services and EndpointSlices to
 * addresses, ports and hostnames. Nothing here knows of packets.
 */
import { isIp, parseIp } from '../../base/ip.ts';
import type { EndpointSlice, Service } from '../../kube/types.ts';

/** An endpoint of a headless Service, one address of one family. */
export interface EndpointAddress {
  readonly address: string;
  /** The pod's hostname where it has one, else its address with dashes. */
  readonly hostname: string;
  /** Whether the hostname was given; only then it names the endpoint in PTR records and is resolved first. */
  readonly named: boolean;
  readonly ports: readonly NamedPort[];
}

export interface NamedPort {
  /** "" where the port has no name: such a port has no SRV record of its own. */
  readonly name: string;
  /** "tcp", "udp", "sctp". */
  readonly protocol: string;
  readonly port: number;
}

export type ServiceKind = 'cluster-ip' | 'headless' | 'external-name';

export function kindOf(service: Service): ServiceKind {
  if (service.spec.type === 'ExternalName') return 'external-name';
  return service.spec.clusterIP === 'None' ? 'headless' : 'cluster-ip';
}

/** The Service's cluster addresses, canonical, both families. */
export function clusterAddresses(service: Service): string[] {
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

/** The endpoints of a headless Service that its name stands for: the ready ones, each address once. */
export function endpointAddresses(slices: readonly EndpointSlice[]): EndpointAddress[] {
  const found = new Map<string, EndpointAddress>();
  for (const slice of slices) {
    if (slice.addressType === 'FQDN') continue;
    const ports = slicePorts(slice);
    for (const endpoint of slice.endpoints ?? []) {
      // An absent condition means ready (discovery/v1 EndpointConditions).
      if (endpoint.conditions?.ready === false) continue;
      for (const text of endpoint.addresses.filter(isIp)) {
        const address = parseIp(text);
        const before = found.get(address);
        found.set(address, {
          address,
          hostname: endpoint.hostname || before?.hostname || dashed(address),
          named: Boolean(endpoint.hostname) || (before?.named ?? false),
          ports: mergePorts(before?.ports ?? [], ports),
        });
      }
    }
  }
  return [...found.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}

function slicePorts(slice: EndpointSlice): NamedPort[] {
  return (slice.ports ?? []).flatMap(({ name, protocol, port }) =>
    port === undefined || port === null
      ? []
      : [{ name: name ?? '', protocol: (protocol ?? 'TCP').toLowerCase(), port }],
  );
}

function mergePorts(before: readonly NamedPort[], more: readonly NamedPort[]): NamedPort[] {
  const all = [...before, ...more];
  return all.filter(
    (one, i) =>
      all.findIndex(
        (other) => other.name === one.name && other.protocol === one.protocol && other.port === one.port,
      ) === i,
  );
}

/** "10-244-1-5", "fd00-10-244--5": an address as one label. */
export function dashed(address: string): string {
  const label = address.replaceAll(/[.:]/g, '-');
  return label.startsWith('-') ? `0${label}` : label.endsWith('-') ? `${label}0` : label;
}

/** The address that a dashed label stands for, or undefined. */
export function undashed(label: string): string | undefined {
  const four = label.replaceAll('-', '.');
  if (isIp(four)) return parseIp(four);
  const six = label.replaceAll('-', ':');
  return isIp(six) ? parseIp(six) : undefined;
}
