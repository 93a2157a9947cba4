/** hostPort of this node's pods as frontends: what the portmap CNI plugin does elsewhere, in the same tables. */
import { familyOf, type IpAddress, isIp, parseIp } from '../../base/ip.ts';
import { keyOf } from '../../kube/names.ts';
import type { Pod } from '../../kube/types.ts';
import { isLoopback } from './addresses.ts';
import { type Frontend, frontendKey, type NodeView, type Problem, type Protocol, type ServiceModel } from './model.ts';
import { LOCALHOST } from './node-addresses.ts';

const PROTOCOLS: { readonly [name: string]: Protocol | undefined } = { TCP: 'tcp', UDP: 'udp' };

/** The key under which a pod's host ports live beside the Services. */
export function hostPortKey(pod: Pod): string {
  return `pod:${keyOf(pod)}`;
}

/** Whether the pod asks for host ports that are podwire's to serve: it has its own network and runs on this node. */
export function hasHostPorts(pod: Pod, nodeName: string): boolean {
  if (pod.spec.nodeName !== nodeName || pod.spec.hostNetwork) return false;
  return portsOf(pod).some((port) => port.hostPort);
}

/** Containers that run beside each other: the ordinary ones and the sidecars (init containers that never end). */
function portsOf(pod: Pod) {
  const sidecars = (pod.spec.initContainers ?? []).filter((container) => container.restartPolicy === 'Always');
  return [...pod.spec.containers, ...sidecars].flatMap((container) => container.ports ?? []);
}

export function buildHostPorts(pod: Pod, node: NodeView): ServiceModel {
  const key = hostPortKey(pod);
  const problems: Problem[] = [];
  const base = { key, created: pod.metadata.creationTimestamp ?? '', problems };
  const ended = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
  if (ended || !hasHostPorts(pod, node.name)) return { ...base, frontends: [] };
  const frontends = new Map<string, Frontend>();
  const podIps = (pod.status?.podIPs ?? []).flatMap(({ ip }) => (ip && isIp(ip) ? [parseIp(ip)] : []));
  for (const { hostPort, hostIP, containerPort, protocol: name } of portsOf(pod)) {
    if (!hostPort) continue;
    const tell = (reason: Problem['reason'], message: string) =>
      problems.push({
        kind: 'Pod',
        namespace: pod.metadata.namespace,
        name: pod.metadata.name,
        reason,
        message: `hostPort ${hostPort}: ${message}`,
      });
    const protocol = PROTOCOLS[name ?? 'TCP'];
    if (!protocol) {
      tell('UnsupportedProtocol', `protocol ${name} is not forwarded, only TCP and UDP are`);
      continue;
    }
    const addresses = hostAddresses(hostIP, node);
    if (typeof addresses === 'string') {
      tell('UnsupportedAddress', addresses);
      continue;
    }
    for (const podIp of podIps) {
      const family = familyOf(podIp);
      const inside = { kind: 'endpoints', endpoints: [{ address: podIp, port: containerPort, local: true }] } as const;
      for (const address of addresses) {
        if (familyOf(address) !== family) continue;
        const frontend = {
          family,
          address,
          protocol,
          port: hostPort,
          role: 'hostPort',
          inside,
          masquerade: false,
        } as const;
        frontends.set(frontendKey(frontend), frontend);
      }
    }
  }
  return { ...base, frontends: [...frontends.values()] };
}

/** hostIP when it names one address, or else all of the node's; or why it cannot be served. */
function hostAddresses(hostIP: string | undefined, node: NodeView): readonly IpAddress[] | string {
  if (!hostIP || !isIp(hostIP)) return node.nodePortAddresses;
  const address = parseIp(hostIP);
  if (address === '0.0.0.0' || address === '::') return node.nodePortAddresses;
  if (!isLoopback(address)) return [address];
  if (address === '::1') return 'hostIP ::1 cannot be served: the kernel delivers no answer of a pod there';
  // Where localhost is not among them, the kernel is not told to route it or IPVS does not send it on: see node-addresses.ts.
  if (node.nodePortAddresses.includes(LOCALHOST)) return [address];
  return `hostIP ${address} is not served on this node: NodePorts are not served at localhost, or the proxy is ipvs`;
}
