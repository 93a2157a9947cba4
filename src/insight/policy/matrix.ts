/** `policy matrix`: who reaches whom, computed. Measuring is somebody else's; comparing is here. Pure. */
import { familyOf } from '../../base/ip.ts';
import type { Pod } from '../../kube/types.ts';
import { evaluator } from '../../node/policy/oracle.ts';
import { podAddresses, type TransportProtocol } from './endpoints.ts';
import type { PolicySnapshot } from './snapshot.ts';

export interface MatrixPod {
  /** "namespace/name". */
  readonly key: string;
  readonly addresses: readonly string[];
  /** What is asked of it. */
  readonly port: number;
}

export type Computed = 'allow' | 'deny';
/** `closed`: nobody listens, but the packet arrived. `failed`: neither an answer nor silence (no route). */
export type Measured = 'open' | 'closed' | 'silent' | 'failed';

export interface MatrixCell {
  readonly from: string;
  readonly to: string;
  readonly srcIp: string;
  readonly dstIp: string;
  readonly port: number;
  readonly computed: Computed;
  readonly measured?: Measured;
}

export interface Matrix {
  readonly pods: readonly MatrixPod[];
  /** One for each pair and each address family that both have. */
  readonly cells: readonly MatrixCell[];
}

/** Where a pod declares no port. */
const usualPort = 80;

export interface MatrixOptions {
  readonly namespace?: string | undefined;
  readonly port?: number | undefined;
  readonly protocol: TransportProtocol;
}

/** Pods with an address of their own that run; pods of the node's network are under no policy. */
export function matrixPods(snapshot: PolicySnapshot, { namespace, port, protocol }: MatrixOptions): MatrixPod[] {
  return snapshot.pods
    .filter(({ metadata, spec, status }) => {
      const inScope = namespace === undefined || metadata.namespace === namespace;
      return inScope && !spec.hostNetwork && status?.phase === 'Running';
    })
    .map((pod) => ({
      key: `${pod.metadata.namespace}/${pod.metadata.name}`,
      addresses: podAddresses(pod),
      port: port ?? firstPort(pod, protocol) ?? usualPort,
    }))
    .filter(({ addresses }) => addresses.length > 0)
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

function firstPort({ spec }: Pod, protocol: TransportProtocol): number | undefined {
  return spec.containers.flatMap(({ ports }) => ports ?? []).find((each) => (each.protocol ?? 'TCP') === protocol)
    ?.containerPort;
}

export function computeMatrix(snapshot: PolicySnapshot, options: MatrixOptions): Matrix {
  const pods = matrixPods(snapshot, options);
  const evaluate = evaluator(snapshot);
  const cells = pods.flatMap((from) =>
    pods.flatMap((to) =>
      to.addresses.flatMap((dstIp): MatrixCell[] => {
        const srcIp = from.addresses.find((each) => familyOf(each) === familyOf(dstIp));
        if (srcIp === undefined) return [];
        const { verdict } = evaluate({ srcIp, dstIp, protocol: options.protocol, dport: to.port });
        return [{ from: from.key, to: to.key, srcIp, dstIp, port: to.port, computed: verdict }];
      }),
    ),
  );
  return { pods, cells };
}

/** Whether what was measured is not what was computed. */
export function differs({ computed, measured }: MatrixCell): boolean {
  if (measured === undefined) return false;
  if (measured === 'failed') return true;
  return (measured === 'silent') !== (computed === 'deny');
}
