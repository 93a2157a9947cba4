/**
 * The EndpointSlices of a Service without selector whose endpoints a user wrote as an Endpoints object: consumers read slices
 * only. Pure.
 */
import { familyName, familyOf, isIp } from '../../base/ip.ts';
import type { corev1, discoveryv1, EndpointSlice, Endpoints, Service } from '../../kube/types.ts';
import { controllerReference } from '../owners.ts';
import type { AddressType } from './endpoint-of-pod.ts';
import { EndpointGroups, managedByLabel, packSlices, type SliceChanges, serviceNameLabel } from './slice-packing.ts';

export const mirroredBy = 'endpointslicemirroring-controller.k8s.io';
const skipLabel = 'endpointslice.kubernetes.io/skip-mirror';
const leaderAnnotation = 'control-plane.alpha.kubernetes.io/leader';
/** Kubernetes' --mirroring-max-endpoints-per-subset. */
const maxPerSubset = 1000;

/** Whether the object is to be mirrored: its Service has no selector, and nobody said not to. */
export function isMirrored(endpoints: Endpoints, service: Service | undefined): boolean {
  const { labels, annotations, deletionTimestamp } = endpoints.metadata;
  if (!service || deletionTimestamp || service.spec.type === 'ExternalName') return false;
  if (Object.keys(service.spec.selector ?? {}).length > 0) return false;
  return labels?.[skipLabel] !== 'true' && annotations?.[leaderAnnotation] === undefined;
}

export function mirroredSlices(endpoints: Endpoints, existing: readonly EndpointSlice[]): SliceChanges {
  const { [managedByLabel]: _by, [serviceNameLabel]: _name, ...own } = endpoints.metadata.labels ?? {};
  const labels = { ...own, [serviceNameLabel]: endpoints.metadata.name, [managedByLabel]: mirroredBy };
  const changes = (['IPv4', 'IPv6'] as const).map((addressType) =>
    packSlices({
      addressType,
      groups: groupsOf(endpoints, addressType),
      existing,
      service: endpoints.metadata,
      labels,
      owner: controllerReference(endpoints),
      emptySlice: false,
    }),
  );
  return {
    create: changes.flatMap((change) => change.create),
    update: changes.flatMap((change) => change.update),
    delete: changes.flatMap((change) => change.delete),
  };
}

function groupsOf(endpoints: Endpoints, type: AddressType): EndpointGroups {
  const groups = new EndpointGroups();
  for (const subset of endpoints.subsets ?? []) {
    const ports = (subset.ports ?? []).map(({ name, port, protocol, appProtocol }) => ({
      name: name ?? '',
      port,
      protocol: protocol ?? 'TCP',
      ...(appProtocol === undefined ? {} : { appProtocol }),
    }));
    const ready = subset.addresses ?? [];
    const notReady = subset.notReadyAddresses ?? [];
    const all = [
      ...ready.map((address) => endpointOf(address, true)),
      ...notReady.map((address) => endpointOf(address, false)),
    ];
    for (const endpoint of all.slice(0, maxPerSubset)) {
      const [ip] = endpoint.addresses;
      if (ip && isIp(ip) && familyName(familyOf(ip)) === type) groups.add(ports, endpoint);
    }
  }
  return groups;
}

function endpointOf(address: corev1.EndpointAddress, ready: boolean): discoveryv1.Endpoint {
  const { ip, hostname, nodeName, targetRef } = address;
  return {
    addresses: [ip],
    conditions: { ready },
    ...(hostname === undefined ? {} : { hostname }),
    ...(nodeName === undefined ? {} : { nodeName }),
    ...(targetRef === undefined ? {} : { targetRef }),
  };
}
