/** How objects are named: the namespace/name key, and where a kind lives in the API's paths. */
import type { KindName, KubeObject } from './types.ts';

export interface NamespacedName {
  /** Absent for a cluster-wide object. */
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** "namespace/name", or "name" for a cluster-wide object: the key of queues and indexes. */
export function keyOf(object: { readonly metadata: NamespacedName } | NamespacedName): string {
  const { namespace, name } = 'metadata' in object ? object.metadata : object;
  return namespace ? `${namespace}/${name}` : name;
}

export function parseKey(key: string): NamespacedName {
  const slash = key.indexOf('/');
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** Where a kind lives: group "" is the core group. */
export interface ApiResource {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
}

const resource = (kind: KindName, group: string, version: string, plural: string, namespaced = true): ApiResource => ({
  group,
  version,
  kind,
  plural,
  namespaced,
});

/** The kinds of `KindMap` and their places in the API. */
export const apiResources: { readonly [K in KindName]: ApiResource } = {
  Namespace: resource('Namespace', '', 'v1', 'namespaces', false),
  Node: resource('Node', '', 'v1', 'nodes', false),
  Pod: resource('Pod', '', 'v1', 'pods'),
  Service: resource('Service', '', 'v1', 'services'),
  Endpoints: resource('Endpoints', '', 'v1', 'endpoints'),
  EndpointSlice: resource('EndpointSlice', 'discovery.k8s.io', 'v1', 'endpointslices'),
  ConfigMap: resource('ConfigMap', '', 'v1', 'configmaps'),
  Secret: resource('Secret', '', 'v1', 'secrets'),
  ServiceAccount: resource('ServiceAccount', '', 'v1', 'serviceaccounts'),
  Event: resource('Event', '', 'v1', 'events'),
  Deployment: resource('Deployment', 'apps', 'v1', 'deployments'),
  ReplicaSet: resource('ReplicaSet', 'apps', 'v1', 'replicasets'),
  NetworkPolicy: resource('NetworkPolicy', 'networking.k8s.io', 'v1', 'networkpolicies'),
  ClusterNetworkPolicy: resource(
    'ClusterNetworkPolicy',
    'policy.networking.k8s.io',
    'v1beta1',
    'clusternetworkpolicies',
    false,
  ),
  Lease: resource('Lease', 'coordination.k8s.io', 'v1', 'leases'),
};

/** "v1" or "apps/v1". */
export function apiVersionOf(place: Pick<ApiResource, 'group' | 'version'>): string {
  return place.group ? `${place.group}/${place.version}` : place.version;
}

/** The URL path of a collection or of one object: "/api/v1/namespaces/default/pods/a/status". */
export function apiPath(place: ApiResource, at: Partial<NamespacedName> = {}, subresource?: string): string {
  const parts = place.group ? ['/apis', place.group, place.version] : ['/api', place.version];
  if (place.namespaced && at.namespace) parts.push('namespaces', encodeURIComponent(at.namespace));
  parts.push(place.plural);
  if (at.name !== undefined) parts.push(encodeURIComponent(at.name));
  if (subresource) parts.push(subresource);
  return parts.join('/');
}

/** A reference for events and owner fields. */
export function objectReference(object: KubeObject & { metadata: { namespace?: string } }) {
  return {
    apiVersion: object.apiVersion,
    kind: object.kind,
    name: object.metadata.name,
    namespace: object.metadata.namespace,
    uid: object.metadata.uid,
    resourceVersion: object.metadata.resourceVersion,
  };
}
