/**
 * ClusterNetworkPolicy of policy.networking.k8s.io (v1beta1; v1alpha2 has the same fields), sigs.k8s.io/network-policy-api:
 * what administrators say about all pods. No npm package carries it.
 */
import type { LabelSelector } from 'kubernetes-types/meta/v1';

/** Exactly one field is set. */
export interface ClusterNetworkPolicySubject {
  namespaces?: LabelSelector;
  pods?: NamespacedPodSelector;
}

export interface NamespacedPodSelector {
  /** Absent: all namespaces. */
  namespaceSelector?: LabelSelector;
  podSelector: LabelSelector;
}

/** Exactly one field is set; ingress rules know `namespaces` and `pods` only. */
export interface ClusterNetworkPolicyPeer {
  namespaces?: LabelSelector;
  pods?: NamespacedPodSelector;
  nodes?: LabelSelector;
  networks?: string[];
  domainNames?: string[];
}

/** Exactly one field is set. */
export interface ClusterNetworkPolicyPort {
  number?: number;
  range?: { start: number; end: number };
}

/** Exactly one field is set. */
export interface ClusterNetworkPolicyProtocol {
  tcp?: { destinationPort?: ClusterNetworkPolicyPort };
  udp?: { destinationPort?: ClusterNetworkPolicyPort };
  sctp?: { destinationPort?: ClusterNetworkPolicyPort };
  destinationNamedPort?: string;
}

export interface ClusterNetworkPolicyRule {
  name?: string;
  /** Accept, Deny or Pass. */
  action: string;
  protocols?: ClusterNetworkPolicyProtocol[];
}

export interface ClusterNetworkPolicyIngressRule extends ClusterNetworkPolicyRule {
  from: ClusterNetworkPolicyPeer[];
}

export interface ClusterNetworkPolicyEgressRule extends ClusterNetworkPolicyRule {
  to: ClusterNetworkPolicyPeer[];
}

export interface ClusterNetworkPolicySpec {
  /** Admin or Baseline. */
  tier: string;
  /** 0 to 1000; the lowest is asked first. */
  priority: number;
  subject: ClusterNetworkPolicySubject;
  ingress?: ClusterNetworkPolicyIngressRule[];
  egress?: ClusterNetworkPolicyEgressRule[];
}

/** metav1.Condition. */
export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly observedGeneration?: number;
  /** RFC 3339. */
  readonly lastTransitionTime: string;
  readonly reason: string;
  readonly message: string;
}

export interface ClusterNetworkPolicyStatus {
  conditions?: Condition[];
}
