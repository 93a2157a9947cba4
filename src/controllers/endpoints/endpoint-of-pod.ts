/** What a pod is as an endpoint of a Service: shared by the slices and the Endpoints object. */
import { type Family, familyName, familyOf, isIp } from '../../base/ip.ts';
import type { discoveryv1, Pod, PodSpec, Service, ServicePort } from '../../kube/types.ts';
import { isPodTerminal } from '../pod-state.ts';

export type AddressType = 'IPv4' | 'IPv6';

/** The families that the Service wants endpoints of, the primary one first. */
export function addressTypesOf({ spec }: Service): readonly AddressType[] {
  if (spec.ipFamilies?.length) return spec.ipFamilies as AddressType[];
  const fromAddresses = (spec.clusterIPs ?? [spec.clusterIP ?? ''])
    .filter((ip) => isIp(ip))
    .map((ip) => familyName(familyOf(ip)));
  // A headless Service from before the server filled in ipFamilies: every family that pods have.
  return fromAddresses.length > 0 ? fromAddresses : ['IPv4', 'IPv6'];
}

/** The pod's address of a family. */
export function podAddress(pod: Pod, addressType: AddressType): string | undefined {
  const family: Family = addressType === 'IPv4' ? 4 : 6;
  const ips = pod.status?.podIPs?.map(({ ip }) => ip) ?? [pod.status?.podIP];
  return ips.find((ip) => ip !== undefined && isIp(ip) && familyOf(ip) === family);
}

/** Whether the pod can be an endpoint at all: it has an address and has not ended. */
export function hasEndpoint(pod: Pod): boolean {
  return Boolean(pod.status?.podIP || pod.status?.podIPs?.length) && !isPodTerminal(pod);
}

/** The name by which DNS knows the endpoint, when the pod asks for it in this Service. */
export function endpointHostname(pod: Pod, service: Service): string | undefined {
  const { hostname, subdomain } = pod.spec;
  return hostname && subdomain === service.metadata.name ? hostname : undefined;
}

/**
 * The number behind a Service's port on this pod: the target's number, or the container port of its name and protocol
 * (sidecars count as containers). Undefined when the pod has no such port.
 */
export function targetPort(pod: Pod, port: ServicePort): number | undefined {
  const target = port.targetPort;
  if (target === undefined || target === 0 || target === '') return port.port;
  if (typeof target === 'number') return target;
  const protocol = port.protocol ?? 'TCP';
  for (const container of containersOf(pod.spec)) {
    const found = container.ports?.find((one) => one.name === target && (one.protocol ?? 'TCP') === protocol);
    if (found) return found.containerPort;
  }
  return undefined;
}

function containersOf(spec: PodSpec): PodSpec['containers'] {
  const sidecars = (spec.initContainers ?? []).filter((container) => container.restartPolicy === 'Always');
  return [...spec.containers, ...sidecars];
}

/** The ports of the pod's endpoint, in the order of the Service's; those the pod does not have are left out. */
export function endpointPorts(pod: Pod, service: Service): readonly discoveryv1.EndpointPort[] {
  return (service.spec.ports ?? []).flatMap((port) => {
    const number = targetPort(pod, port);
    if (number === undefined) return [];
    const { appProtocol } = port;
    return [
      {
        name: port.name ?? '',
        port: number,
        protocol: port.protocol ?? 'TCP',
        ...(appProtocol === undefined ? {} : { appProtocol }),
      },
    ];
  });
}

/** What of a pod matters to its endpoints: changes of anything else are no news. */
export function endpointFacts(pod: Pod): string {
  const { metadata, spec, status } = pod;
  const ready = status?.conditions?.find((condition) => condition.type === 'Ready')?.status;
  return JSON.stringify([
    metadata.uid,
    metadata.deletionTimestamp !== undefined,
    spec.nodeName,
    spec.hostname,
    spec.subdomain,
    status?.podIPs ?? status?.podIP,
    isPodTerminal(pod),
    ready,
  ]);
}
