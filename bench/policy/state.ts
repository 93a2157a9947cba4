/** The clusters of the policy benchmark, as plain API objects. */
import type { Namespace, NetworkPolicy, networkingv1, Pod } from '../../src/kube/types.ts';

export const nodeName = 'node-1';
export const sizes = { policies: 1000, localPods: 100, pods: 5000, namespaces: 10 } as const;

let serial = 0;
const meta = (name: string, labels: Record<string, string> = {}) => ({
  name,
  uid: `uid-${++serial}`,
  resourceVersion: String(serial),
  creationTimestamp: '2026-01-01T00:00:00Z',
  labels,
});

export function namespaceOf(name: string): Namespace {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: meta(name, { 'kubernetes.io/metadata.name': name }) };
}

export function podOf(
  namespace: string,
  name: string,
  labels: Record<string, string>,
  ips: string[],
  node: string,
): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...meta(name, labels), namespace },
    spec: { nodeName: node, containers: [{ name: 'c', image: 'x' }] },
    status: { phase: 'Running', podIPs: ips.map((ip) => ({ ip })) },
  };
}

export function policyOf(namespace: string, name: string, spec: networkingv1.NetworkPolicySpec): NetworkPolicy {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { ...meta(name), namespace },
    spec,
  };
}

export interface BenchState {
  readonly namespaces: Namespace[];
  readonly pods: Pod[];
  readonly policies: NetworkPolicy[];
}

/**
 * Ten namespaces of 500 pods: 50 apps of ten replicas, in five tiers; ten pods of each namespace are local. A policy selects
 * a tier and allows three apps: one of its own namespace, one of a neighbour, one on a port.
 */
export function largeState(): BenchState {
  const names = Array.from({ length: sizes.namespaces }, (_, i) => `ns-${i}`);
  const perNamespace = sizes.pods / sizes.namespaces;
  const local = sizes.localPods / sizes.namespaces;
  const pods = names.flatMap((namespace, n) =>
    Array.from({ length: perNamespace }, (_, i) => {
      const app = i % 50;
      const ips = [`10.244.${n * 2 + (i >> 8)}.${i & 255}`, `fd00:10:244:${n.toString(16)}::${(i + 1).toString(16)}`];
      const node = i < local ? nodeName : 'node-2';
      return podOf(namespace, `pod-${i}`, { app: `app-${app}`, tier: `tier-${app % 5}` }, ips, node);
    }),
  );
  const policies = names.flatMap((namespace, n) =>
    Array.from({ length: sizes.policies / sizes.namespaces }, (_, i) => largePolicy(namespace, n, i)),
  );
  return { namespaces: names.map(namespaceOf), pods, policies };
}

export function largePolicy(namespace: string, n: number, i: number): NetworkPolicy {
  const neighbour = `ns-${(n + 1) % sizes.namespaces}`;
  return policyOf(namespace, `policy-${i}`, {
    podSelector: { matchLabels: { tier: `tier-${i % 5}` } },
    policyTypes: ['Ingress'],
    ingress: [
      { from: [{ podSelector: { matchLabels: { app: `app-${i % 50}` } } }], ports: [{ protocol: 'TCP', port: 8080 }] },
      {
        from: [
          {
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': neighbour } },
            podSelector: { matchLabels: { app: `app-${(i * 7) % 50}` } },
          },
        ],
      },
      { from: [{ podSelector: { matchLabels: { app: `app-${(i * 3) % 50}` } } }], ports: [{ port: 9000 + (i % 10) }] },
    ],
  });
}

/** Two pods, and so many policies on the second; only the last one allows the first. */
export function connectState(policies: number, addresses: readonly (readonly string[])[]): BenchState {
  const pods = addresses.map((ips, i) => podOf('ns-0', `pod-${i}`, { app: `app-${i}` }, [...ips], nodeName));
  const list = Array.from({ length: policies }, (_, i) =>
    policyOf('ns-0', `policy-${String(i).padStart(5, '0')}`, {
      podSelector: { matchLabels: { app: 'app-1' } },
      policyTypes: ['Ingress'],
      ingress: [
        {
          from: [{ podSelector: { matchLabels: { app: i === policies - 1 ? 'app-0' : `other-${i}` } } }],
          ports: [{ port: 80 }],
        },
      ],
    }),
  );
  return { namespaces: [namespaceOf('ns-0')], pods, policies: list };
}
