/** `policy matrix`: who reaches whom, computed. Measuring is somebody else's; comparing is here. Pure. */
import { familyOf } from '../../base/ip.ts';
import type { Pod } from '../../kube/types.ts';
import { evaluator } from '../../node/policy/oracle.ts';
import { podAddresses, type TransportProtocol } from './endpoints.ts';
import { type PortQuestion, portsOfPolicies } from './policy-ports.ts';
import type { PolicySnapshot } from './snapshot.ts';

export interface MatrixPod {
  /** "namespace/name". */
  readonly key: string;
  readonly addresses: readonly string[];
  /** What is asked of it, at least one. */
  readonly ports: readonly PortQuestion[];
}

export type Computed = 'allow' | 'deny';
/** `closed`: nobody listens, but the packet arrived. `failed`: neither an answer nor silence (no route). */
export type Measured = 'open' | 'closed' | 'silent' | 'failed';

export interface MatrixCell extends PortQuestion {
  readonly from: string;
  readonly to: string;
  readonly srcIp: string;
  readonly dstIp: string;
  readonly computed: Computed;
  readonly measured?: Measured;
}

export interface Matrix {
  readonly pods: readonly MatrixPod[];
  /** One for each pair, each port that is asked of the receiver, and each address family that both have. */
  readonly cells: readonly MatrixCell[];
}

/** Where a pod declares no port. */
const usualPort = 80;

export interface MatrixOptions {
  readonly namespace?: string | undefined;
  readonly port?: number | undefined;
  readonly protocols: readonly TransportProtocol[];
  /** Ask also for the ports that policies name. */
  readonly policyPorts?: boolean;
}

/** Pods with an address of their own that run; pods of the node's network are under no policy. */
export function matrixPods(snapshot: PolicySnapshot, options: MatrixOptions): MatrixPod[] {
  return snapshot.pods
    .filter(({ metadata, spec, status }) => {
      const inScope = options.namespace === undefined || metadata.namespace === options.namespace;
      return inScope && !spec.hostNetwork && status?.phase === 'Running';
    })
    .map((pod) => ({
      key: `${pod.metadata.namespace}/${pod.metadata.name}`,
      addresses: podAddresses(pod),
      ports: questionsOf(pod, snapshot, options),
    }))
    .filter(({ addresses }) => addresses.length > 0)
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

function questionsOf(pod: Pod, snapshot: PolicySnapshot, options: MatrixOptions): PortQuestion[] {
  const { port, protocols, policyPorts } = options;
  const usual = protocols.map((protocol) => ({ protocol, port: port ?? firstPort(pod, protocol) ?? usualPort }));
  if (!policyPorts || port !== undefined) return usual;
  const named = portsOfPolicies(pod, snapshot).filter(({ protocol }) => protocols.includes(protocol));
  const distinct = new Map([...usual, ...named].map((each) => [`${each.protocol} ${each.port}`, each]));
  return [...distinct.values()].sort((a, b) =>
    a.protocol < b.protocol ? -1 : a.protocol > b.protocol ? 1 : a.port - b.port,
  );
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
        return to.ports.map(({ protocol, port }) => {
          const { verdict } = evaluate({ srcIp, dstIp, protocol, dport: port });
          return { from: from.key, to: to.key, srcIp, dstIp, protocol, port, computed: verdict };
        });
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
