/** The API objects that explanations are computed from, all of one moment. */
import type {
  ClusterNetworkPolicy,
  EndpointSlice,
  Namespace,
  NetworkPolicy,
  Node,
  Pod,
  Service,
} from '../../kube/types.ts';

export interface PolicySnapshot {
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly policies: readonly NetworkPolicy[];
  readonly clusterPolicies: readonly ClusterNetworkPolicy[];
  readonly nodes: readonly Node[];
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  /** Addresses of the client that is no part of the cluster. */
  readonly outside: readonly string[];
}
