/**
 * The EndpointSlices of a Service: what they must hold, and the fewest writes that get there. Pure. What they hold depends on
 * the Service and its pods alone.
 */

import { isReady } from '../../kube/conditions.ts';
import type { Labels } from '../../kube/selectors.ts';
import type { EndpointSlice, Pod, Service, SliceEndpoint } from '../../kube/types.ts';
import { controllerReference } from '../owners.ts';
import {
  type AddressType,
  addressTypesOf,
  endpointHostname,
  endpointPorts,
  hasEndpoint,
  podAddress,
} from './endpoint-of-pod.ts';
import { EndpointGroups, managedByLabel, packSlices, type SliceChanges, serviceNameLabel } from './slice-packing.ts';
import { hintsOf } from './topology-hints.ts';

export const managedBy = 'endpointslice-controller.k8s.io';
const headlessLabel = 'service.kubernetes.io/headless';

export interface DesiredSlicesInput {
  readonly service: Service;
  /** The pods that the Service selects. */
  readonly pods: readonly Pod[];
  /** The Service's slices that this controller manages. */
  readonly existing: readonly EndpointSlice[];
  /** The zone of a node, from its topology label. */
  readonly zoneOf: (nodeName: string) => string | undefined;
  /** When what is new happened, in milliseconds since the epoch. */
  readonly changedAt?: number | undefined;
}

export function desiredSlices(input: DesiredSlicesInput): SliceChanges {
  const { service, existing } = input;
  const types = addressTypesOf(service);
  const changes = types.map((addressType) =>
    packSlices({
      addressType,
      groups: groupEndpoints(input, addressType),
      existing,
      service: service.metadata,
      labels: sliceLabels(service),
      owner: controllerReference(service),
      emptySlice: true,
      changedAt: input.changedAt,
    }),
  );
  const others = existing.filter((slice) => !types.includes(slice.addressType as AddressType));
  return {
    create: changes.flatMap((change) => change.create),
    update: changes.flatMap((change) => change.update),
    delete: [...changes.flatMap((change) => change.delete), ...others],
  };
}

function groupEndpoints({ service, pods, zoneOf }: DesiredSlicesInput, type: AddressType): EndpointGroups {
  const groups = new EndpointGroups();
  for (const pod of pods) {
    const address = hasEndpoint(pod) ? podAddress(pod, type) : undefined;
    if (address !== undefined) groups.add(endpointPorts(pod, service), endpointOf(pod, service, address, zoneOf));
  }
  return groups;
}

function endpointOf(pod: Pod, service: Service, address: string, zoneOf: DesiredSlicesInput['zoneOf']): SliceEndpoint {
  const serving = isReady(pod);
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  const { nodeName } = pod.spec;
  const zone = nodeName === undefined ? undefined : zoneOf(nodeName);
  const hostname = endpointHostname(pod, service);
  const endpoint: SliceEndpoint = {
    addresses: [address],
    conditions: {
      ready: service.spec.publishNotReadyAddresses === true || (serving && !terminating),
      serving,
      terminating,
    },
    ...(hostname === undefined ? {} : { hostname }),
    ...(nodeName ? { nodeName } : {}),
    ...(zone === undefined ? {} : { zone }),
    targetRef: { kind: 'Pod', namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid },
  };
  const hints = hintsOf(service.spec.trafficDistribution, endpoint);
  return hints ? { ...endpoint, hints } : endpoint;
}

/** The Service's own labels, then those that say whose slice it is. */
export function sliceLabels(service: Service): Labels {
  const { [headlessLabel]: _headless, ...labels } = service.metadata.labels ?? {};
  return {
    ...labels,
    [serviceNameLabel]: service.metadata.name,
    [managedByLabel]: managedBy,
    ...(service.spec.clusterIP === 'None' ? { [headlessLabel]: '' } : {}),
  };
}
