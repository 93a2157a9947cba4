/**
 * The ports that policies name, as questions to a pod: where verdicts may differ from one port to the next. Of a range both
 * ends; of a name what it means on the pod.
 */
import type { ClusterNetworkPolicyProtocol } from '../../kube/cluster-network-policy.ts';
import type { networkingv1, Pod } from '../../kube/types.ts';
import type { TransportProtocol } from './endpoints.ts';
import type { PolicySnapshot } from './snapshot.ts';

export interface PortQuestion {
  readonly protocol: TransportProtocol;
  readonly port: number;
}

/** With repetitions. */
export function portsOfPolicies(pod: Pod, { policies, clusterPolicies }: PolicySnapshot): PortQuestion[] {
  const own = policies.flatMap(({ spec }) =>
    [...(spec.ingress ?? []), ...(spec.egress ?? [])].flatMap(({ ports }) => ports ?? []),
  );
  const tiers = clusterPolicies.flatMap(({ spec }) =>
    [...(spec.ingress ?? []), ...(spec.egress ?? [])].flatMap(({ protocols }) => protocols ?? []),
  );
  return [...own.flatMap((port) => ofPort(port, pod)), ...tiers.flatMap((protocol) => ofProtocol(protocol, pod))];
}

function isTransport(text: string): text is TransportProtocol {
  return text === 'TCP' || text === 'UDP' || text === 'SCTP';
}

function ofPort({ protocol = 'TCP', port, endPort }: networkingv1.NetworkPolicyPort, pod: Pod): PortQuestion[] {
  if (!isTransport(protocol) || port === undefined) return [];
  if (typeof port === 'string') return named(port, pod).filter((each) => each.protocol === protocol);
  return [port, ...(endPort === undefined ? [] : [endPort])].map((each) => ({ protocol, port: each }));
}

function ofProtocol({ destinationNamedPort, ...protocols }: ClusterNetworkPolicyProtocol, pod: Pod): PortQuestion[] {
  if (destinationNamedPort) return named(destinationNamedPort, pod);
  return Object.entries(protocols).flatMap(([name, details]) => {
    const protocol = name.toUpperCase();
    const { number, range } = details?.destinationPort ?? {};
    const ports = range ? [range.start, range.end] : number === undefined ? [] : [number];
    return isTransport(protocol) ? ports.map((port) => ({ protocol, port })) : [];
  });
}

function named(name: string, { spec }: Pod): PortQuestion[] {
  return spec.containers
    .flatMap(({ ports }) => ports ?? [])
    .filter((port) => port.name === name)
    .flatMap(({ protocol = 'TCP', containerPort: port }) => (isTransport(protocol) ? [{ protocol, port }] : []));
}
