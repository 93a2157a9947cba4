/** What the policy engine needs of a Pod, read once. */
import { isIPv4 } from 'node:net';
import { type IpAddress, ipFromBytes, ipToBytes, isIp } from '../../base/ip.ts';
import type { Labels } from '../../kube/selectors.ts';
import type { Pod } from '../../kube/types.ts';
import { type Protocol, protocolOf } from './ports.ts';

export interface NamedPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface PodFacts {
  /** "namespace/name". */
  readonly key: string;
  readonly uid: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly nodeName: string | undefined;
  /** Pods in the node's own network: policies neither select them nor know them as peers. */
  readonly hostNetwork: boolean;
  /** Succeeded or Failed: its address may already belong to another pod. */
  readonly finished: boolean;
  /** As the API has them. */
  readonly addresses: readonly IpAddress[];
  readonly namedPorts: readonly NamedPort[];
  /** Equal for pods that no policy can tell apart: namespace, labels, named ports. */
  readonly identityKey: string;
}

export function podFacts(pod: Pod): PodFacts {
  const { namespace, name } = pod.metadata;
  // The API's image of a static pod has its own uid; the runtime and the network plugin know the pod by the other one.
  const uid = pod.metadata.annotations?.['kubernetes.io/config.mirror'] ?? pod.metadata.uid;
  const labels = pod.metadata.labels ?? {};
  const namedPorts = namedPortsOf(pod);
  const phase = pod.status?.phase;
  return {
    key: `${namespace}/${name}`,
    uid,
    namespace,
    labels,
    nodeName: pod.spec.nodeName,
    hostNetwork: pod.spec.hostNetwork === true,
    finished: phase === 'Succeeded' || phase === 'Failed',
    addresses: addressesOf(pod),
    namedPorts,
    identityKey: identityKeyOf(namespace, labels, namedPorts),
  };
}

function addressesOf(pod: Pod): IpAddress[] {
  const { podIP, podIPs } = pod.status ?? {};
  const texts = podIPs?.length ? podIPs.map(({ ip }) => ip) : [podIP];
  return canonicalAddresses(texts.filter((text) => text !== undefined));
}

/** Canonical, each once; text that is no address is left out. */
export function canonicalAddresses(texts: readonly string[]): IpAddress[] {
  return [...new Set(texts.filter(isIp).map(canonical))];
}

/** As `parseIp`, without its arithmetic: thousands of pods are read at once. IPv4 text has only one spelling. */
function canonical(text: string): IpAddress {
  return isIPv4(text) ? (text as IpAddress) : ipFromBytes(ipToBytes(text));
}

/** Ports with a name, of containers and of sidecars (init containers that keep running). */
function namedPortsOf(pod: Pod): NamedPort[] {
  const sidecars = (pod.spec.initContainers ?? []).filter(
    (container) => (container as { restartPolicy?: string }).restartPolicy === 'Always',
  );
  const ports = new Map<string, NamedPort>();
  for (const container of [...pod.spec.containers, ...sidecars]) {
    for (const { name, containerPort, protocol: text } of container.ports ?? []) {
      const protocol = protocolOf(text);
      if (name && protocol) ports.set(`${name} ${protocol} ${containerPort}`, { name, protocol, port: containerPort });
    }
  }
  return [...ports.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, port]) => port);
}

function identityKeyOf(namespace: string, labels: Labels, ports: readonly NamedPort[]): string {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([namespace, sorted, ports.map(({ name, protocol, port }) => [name, protocol, port])]);
}
