/**
 * The types of the API objects that podwire works with, as the API server returns them: apiVersion, kind and the server-set
 * metadata are there. Field names and meanings are Kubernetes' own (API level 1.36); kubernetes-types carries 1.30, newer
 * fields are added here.
 */
import type { Deployment as DeploymentV1, ReplicaSet as ReplicaSetV1 } from 'kubernetes-types/apps/v1';
import type { Lease as LeaseV1 } from 'kubernetes-types/coordination/v1';
import type {
  ConfigMap as ConfigMapV1,
  Endpoints as EndpointsV1,
  Event as EventV1,
  Namespace as NamespaceV1,
  Node as NodeV1,
  Pod as PodV1,
  Secret as SecretV1,
  ServiceAccount as ServiceAccountV1,
  Service as ServiceV1,
} from 'kubernetes-types/core/v1';
import type { EndpointSlice as EndpointSliceV1, Endpoint as EndpointV1 } from 'kubernetes-types/discovery/v1';
import type { ObjectMeta } from 'kubernetes-types/meta/v1';
import type { NetworkPolicy as NetworkPolicyV1 } from 'kubernetes-types/networking/v1';
import type { ClusterNetworkPolicySpec, ClusterNetworkPolicyStatus } from './cluster-network-policy.ts';

export type * as appsv1 from 'kubernetes-types/apps/v1';
export type * as corev1 from 'kubernetes-types/core/v1';
export type * as discoveryv1 from 'kubernetes-types/discovery/v1';
export type * as metav1 from 'kubernetes-types/meta/v1';
export type { LabelSelector, ObjectMeta, OwnerReference, Status } from 'kubernetes-types/meta/v1';
export type * as networkingv1 from 'kubernetes-types/networking/v1';

/** Metadata of an object that the server holds. */
export interface StoredMeta extends ObjectMeta {
  name: string;
  uid: string;
  resourceVersion: string;
  creationTimestamp: string;
}

/** Metadata of an object inside a namespace. */
export interface NamespacedMeta extends StoredMeta {
  namespace: string;
}

type Stored<T, Meta> = Omit<T, 'metadata' | 'apiVersion' | 'kind' | 'status'> & {
  apiVersion: string;
  kind: string;
  metadata: Meta;
} & (T extends { readonly status?: infer S } ? { status?: S } : unknown);

type Writable<T> = { -readonly [P in keyof T]: T[P] };
type InNamespace<T> = Stored<T, NamespacedMeta>;
type ClusterWide<T> = Stored<T, StoredMeta>;

export type Namespace = ClusterWide<NamespaceV1>;
export type Node = ClusterWide<NodeV1> & { spec: NonNullable<NodeV1['spec']> };
export type Pod = InNamespace<PodV1> & { spec: NonNullable<PodV1['spec']> };
export type Service = InNamespace<ServiceV1> & {
  /** trafficDistribution since 1.30: PreferClose, PreferSameZone, PreferSameNode. */
  spec: NonNullable<ServiceV1['spec']> & { trafficDistribution?: string };
};
export type Endpoints = InNamespace<EndpointsV1>;
/** hints.forNodes since 1.33 (KEP-3015). */
export type SliceEndpoint = EndpointV1 & { hints?: { forNodes?: { name: string }[] } };
export type EndpointSlice = InNamespace<Omit<EndpointSliceV1, 'endpoints'>> & { endpoints: SliceEndpoint[] };
export type ConfigMap = InNamespace<ConfigMapV1>;
export type Secret = InNamespace<SecretV1>;
export type ServiceAccount = InNamespace<ServiceAccountV1>;
export type Event = InNamespace<EventV1>;
export type Deployment = InNamespace<DeploymentV1> & { spec: NonNullable<DeploymentV1['spec']> };
export type ReplicaSet = InNamespace<ReplicaSetV1> & { spec: NonNullable<ReplicaSetV1['spec']> };
export type NetworkPolicy = InNamespace<NetworkPolicyV1> & { spec: NonNullable<NetworkPolicyV1['spec']> };
/** policy.networking.k8s.io; cluster-wide. */
export interface ClusterNetworkPolicy extends KubeObject {
  spec: ClusterNetworkPolicySpec;
  status?: ClusterNetworkPolicyStatus;
}
export type Lease = InNamespace<LeaseV1> & { spec: NonNullable<LeaseV1['spec']> };

/** Every kind that podwire's own components read or write, by its kind name. */
export interface KindMap {
  Namespace: Namespace;
  Node: Node;
  Pod: Pod;
  Service: Service;
  Endpoints: Endpoints;
  EndpointSlice: EndpointSlice;
  ConfigMap: ConfigMap;
  Secret: Secret;
  ServiceAccount: ServiceAccount;
  Event: Event;
  Deployment: Deployment;
  ReplicaSet: ReplicaSet;
  NetworkPolicy: NetworkPolicy;
  ClusterNetworkPolicy: ClusterNetworkPolicy;
  Lease: Lease;
}

export type KindName = keyof KindMap;

/** Any object that the server holds. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: StoredMeta;
}

/** An object to be created: the server fills in the rest of the metadata. */
export type Draft<T extends KubeObject> = Omit<T, 'metadata' | 'apiVersion' | 'kind'> & {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
};

export type PodSpec = Pod['spec'];
export type PodStatus = Writable<NonNullable<PodV1['status']>>;
export type ServicePort = NonNullable<Service['spec']['ports']>[number];

/** One event of a watch. A BOOKMARK's object carries nothing but its resourceVersion. */
export type WatchEvent<T> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  | { readonly type: 'BOOKMARK'; readonly object: { readonly metadata: { readonly resourceVersion: string } } };
