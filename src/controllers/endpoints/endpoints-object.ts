/**
 * The Endpoints object (core/v1) of a Service: the older form of the same knowledge, for clients that still read it. Only
 * the Service's primary family; at most 1000 addresses. Pure.
 */

import { isReady } from '../../kube/conditions.ts';
import type { corev1, Draft, Endpoints, Pod, Service } from '../../kube/types.ts';
import { addressTypesOf, endpointHostname, endpointPorts, hasEndpoint, podAddress } from './endpoint-of-pod.ts';

export const overCapacityAnnotation = 'endpoints.kubernetes.io/over-capacity';
const managedByLabel = 'endpoints.kubernetes.io/managed-by';
const headlessLabel = 'service.kubernetes.io/headless';

/** Kubernetes' bound of an Endpoints object. */
const maxAddresses = 1000;

type Subset = corev1.EndpointSubset;
type Address = corev1.EndpointAddress;
type Port = corev1.EndpointPort;

interface Candidate {
  readonly address: Address;
  readonly port: Port | undefined;
  readonly ready: boolean;
}

/** What the Endpoints object of the Service must be; without a resourceVersion. */
export function desiredEndpoints(service: Service, pods: readonly Pod[]): Draft<Endpoints> {
  const { candidates, truncated } = withinCapacity(pods.flatMap((pod) => candidatesOf(pod, service)));
  const { [headlessLabel]: _headless, ...labels } = service.metadata.labels ?? {};
  return {
    metadata: {
      name: service.metadata.name,
      namespace: service.metadata.namespace,
      labels: {
        ...labels,
        [managedByLabel]: 'endpoint-controller',
        ...(service.spec.clusterIP === 'None' ? { [headlessLabel]: '' } : {}),
      },
      ...(truncated ? { annotations: { [overCapacityAnnotation]: 'truncated' } } : {}),
    },
    subsets: packSubsets(candidates),
  };
}

function candidatesOf(pod: Pod, service: Service): readonly Candidate[] {
  const publishAll = service.spec.publishNotReadyAddresses === true;
  const ip = hasEndpoint(pod) ? podAddress(pod, addressTypesOf(service)[0] ?? 'IPv4') : undefined;
  if (ip === undefined || (pod.metadata.deletionTimestamp && !publishAll)) return [];
  const hostname = endpointHostname(pod, service);
  const { name, namespace, uid } = pod.metadata;
  const address = {
    ip,
    ...(hostname === undefined ? {} : { hostname }),
    ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
    targetRef: { kind: 'Pod', namespace, name, uid },
  };
  const ready = publishAll || isReady(pod);
  if (!service.spec.ports?.length) return [{ address, port: undefined, ready }];
  return endpointPorts(pod, service).map(({ name: portName, port, protocol, appProtocol }) => ({
    address,
    ready,
    port: {
      ...(portName ? { name: portName } : {}),
      port: port!,
      ...(protocol ? { protocol } : {}),
      ...(appProtocol === undefined ? {} : { appProtocol }),
    },
  }));
}

/** Ready addresses first when there are more than fit. */
function withinCapacity(candidates: readonly Candidate[]) {
  const ips = (ready: boolean) => candidates.filter((one) => one.ready === ready).map((one) => one.address.ip);
  const all = [...new Set([...ips(true), ...ips(false)])];
  if (all.length <= maxAddresses) return { candidates, truncated: false };
  const kept = new Set(all.slice(0, maxAddresses));
  return { candidates: candidates.filter((one) => kept.has(one.address.ip)), truncated: true };
}

/** Addresses with equal ports share a subset; everything sorted, so that equal input gives equal output. */
function packSubsets(candidates: readonly Candidate[]): Subset[] {
  const byAddress = Map.groupBy(candidates, (one) => `${one.address.ip} ${one.address.targetRef?.uid}`);
  const entries = [...byAddress.values()].map((group) => ({
    address: group[0]!.address,
    ready: group[0]!.ready,
    ports: group.flatMap((one) => (one.port ? [one.port] : [])).sort(comparePorts),
  }));
  const byPorts = Map.groupBy(entries, (entry) => JSON.stringify(entry.ports));
  return [...byPorts.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, group]) => {
      const addresses = (ready: boolean) =>
        group
          .filter((entry) => entry.ready === ready)
          .map((entry) => entry.address)
          .sort((a, b) => (a.ip < b.ip ? -1 : 1));
      const ready = addresses(true);
      const notReady = addresses(false);
      return {
        ...(ready.length > 0 ? { addresses: ready } : {}),
        ...(notReady.length > 0 ? { notReadyAddresses: notReady } : {}),
        ...(group[0]!.ports.length > 0 ? { ports: group[0]!.ports } : {}),
      };
    });
}

function comparePorts(a: Port, b: Port): number {
  return (a.name ?? '') < (b.name ?? '') ? -1 : (a.name ?? '') > (b.name ?? '') ? 1 : a.port - b.port;
}
