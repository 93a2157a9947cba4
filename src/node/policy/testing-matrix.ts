/**
 * The people of the conformance matrix: three namespaces of three pods, and the world outside. What they are asked about:
 * `testing-matrix-cases.ts`.
 */
import type { Namespace, Pod } from '../../kube/types.ts';
import { namespaceObject, podObject } from './testing.ts';

/** A pod of the matrix, or somebody outside. */
export interface Endpoint {
  /** "x/a", or "world". */
  readonly name: string;
  /** "x", "y", "z"; '' outside. */
  readonly ns: string;
  /** "a", "b", "c"; '' outside. */
  readonly pod: string;
  readonly v4: string;
  readonly v6: string;
}

export interface Probe {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  readonly port: number;
}

export const probes: readonly Probe[] = [
  { protocol: 'TCP', port: 80 },
  { protocol: 'TCP', port: 81 },
  { protocol: 'UDP', port: 80 },
  { protocol: 'UDP', port: 81 },
  { protocol: 'SCTP', port: 80 },
  { protocol: 'ICMP', port: 0 },
];

export const namespaceNames = ['x', 'y', 'z'] as const;
const podNames = ['a', 'b', 'c'] as const;

export const pods: readonly Endpoint[] = namespaceNames.flatMap((ns, i) =>
  podNames.map((pod, j) => ({
    name: `${ns}/${pod}`,
    ns,
    pod,
    v4: `10.244.${i + 1}.${j + 1}`,
    v6: `fd00:10:244:${i + 1}::${j + 1}`,
  })),
);
export const world: Endpoint = { name: 'world', ns: '', pod: '', v4: '192.0.2.10', v6: '2001:db8::10' };
export const endpoints: readonly Endpoint[] = [...pods, world];

/** The team of a namespace: x and y are blue, z is green. */
export const namespaces = (): Namespace[] =>
  namespaceNames.map((ns) => namespaceObject(ns, { ns, team: ns === 'z' ? 'green' : 'blue' }));

/** Named ports: "web" is 80, but 81 on the pods c; "dns" is 80 of UDP; only the pods a have "metrics" (81). */
export function podObjects(nodeOf: (pod: Endpoint) => string = () => 'n1'): Pod[] {
  return pods.map((each) =>
    podObject(each.name, {
      labels: { pod: each.pod, tier: each.pod === 'a' ? 'front' : 'back', ...(each.pod === 'c' ? { db: 'yes' } : {}) },
      ips: [each.v4, each.v6],
      node: nodeOf(each),
      ports: [
        { name: 'web', containerPort: each.pod === 'c' ? 81 : 80 },
        { name: 'dns', containerPort: 80, protocol: 'UDP' },
        ...(each.pod === 'a' ? [{ name: 'metrics', containerPort: 81 }] : []),
      ],
    }),
  );
}
