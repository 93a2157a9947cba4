/** Services, EndpointSlices and pods in few words: for tests and benchmarks. */
import type { EndpointSlice, Node, Pod, Service } from '../../kube/types.ts';
import type { NodeView } from './model.ts';

let version = 1;

function metadata(name: string, labels: Record<string, string> = {}) {
  const [namespace, short] = name.includes('/') ? (name.split('/') as [string, string]) : ['default', name];
  return {
    namespace,
    name: short,
    labels,
    uid: `uid-${namespace}-${short}`,
    resourceVersion: String(version++),
    creationTimestamp: '2026-01-01T00:00:00Z',
  };
}

/** A Service by "namespace/name" or a name in default. */
export function makeService(name: string, spec: Service['spec'], ingress: readonly object[] = []): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(name),
    spec,
    status: ingress.length > 0 ? { loadBalancer: { ingress: [...ingress] } } : {},
  };
}

export interface EndpointSpec {
  readonly address: string;
  readonly node?: string;
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
  readonly zones?: readonly string[];
  readonly nodes?: readonly string[];
}

/** A slice of a Service; ports are "name:number/PROTOCOL" in parts: { name, port, protocol }. */
export function makeSlice(
  service: string,
  endpoints: readonly (EndpointSpec | string)[],
  ports: readonly { name?: string; port?: number; protocol?: string }[],
  options: { suffix?: string; addressType?: string } = {},
): EndpointSlice {
  const items = endpoints.map((each) => (typeof each === 'string' ? { address: each } : each));
  const isV6 = items[0]?.address.includes(':') ?? false;
  const [, short] = service.includes('/') ? service.split('/') : ['', service];
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: metadata(`${service}-${options.suffix ?? (isV6 ? 'v6' : 'v4')}`, {
      'kubernetes.io/service-name': short ?? service,
    }),
    addressType: options.addressType ?? (isV6 ? 'IPv6' : 'IPv4'),
    ports: [...ports],
    endpoints: items.map((item) => ({
      addresses: [item.address],
      ...(item.node ? { nodeName: item.node } : {}),
      conditions: {
        ...(item.ready === undefined ? {} : { ready: item.ready }),
        ...(item.serving === undefined ? {} : { serving: item.serving }),
        ...(item.terminating === undefined ? {} : { terminating: item.terminating }),
      },
      ...(item.zones || item.nodes
        ? {
            hints: {
              forZones: (item.zones ?? []).map((zone) => ({ name: zone })),
              ...(item.nodes ? { forNodes: item.nodes.map((node) => ({ name: node })) } : {}),
            },
          }
        : {}),
    })),
  };
}

export function makePod(name: string, spec: Pod['spec'], ips: readonly string[]): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: metadata(name),
    spec,
    status: { phase: 'Running', podIPs: ips.map((ip) => ({ ip })) },
  };
}

export function makeNode(name: string, addresses: readonly string[], zone?: string): Node {
  const { namespace: _, ...meta } = metadata(name, zone ? { 'topology.kubernetes.io/zone': zone } : {});
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: meta,
    spec: {},
    status: { addresses: addresses.map((address) => ({ type: 'InternalIP', address })) },
  };
}

/** A node's view with canonical addresses. */
export function makeView(name: string, addresses: readonly string[], zone?: string): NodeView {
  return { name, zone, nodePortAddresses: addresses as NodeView['nodePortAddresses'] };
}
