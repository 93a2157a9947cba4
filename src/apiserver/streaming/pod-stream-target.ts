/**
 * Where a pod's log, exec, attach or port-forward request goes, after the checks that the API server makes: the node's
 * address and the kubelet's URL form (k8s.io/kubernetes/pkg/registry/core/pod, LogLocation and streamLocation). Pure.
 */
import { internalAddresses } from '../../kube/node-addresses.ts';
import { statusError } from '../../kube/status.ts';
import type { Node, Pod } from '../../kube/types.ts';
import type { NodeTarget } from './node-proxy.ts';
import { kubeletLogQuery, parsePodLogOptions, queryBoolean } from './pod-log-options.ts';

export type PodStreamSubresource = 'log' | 'exec' | 'attach' | 'portforward';

const KUBELET_PORT = 10250;

/** kubectl picks this container; a server that does so too serves clients that do not know the annotation. */
const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';

/**
 * Throws StatusError: BadRequest or Invalid for a wrong query, NotFound for a node that is gone.
 * Kubernetes answers the log of a pod without a node with an empty body; here it is told as for exec.
 */
export function podStreamTarget(
  pod: Pod,
  node: Node | undefined,
  subresource: PodStreamSubresource,
  query: URLSearchParams,
): NodeTarget {
  const path = kubeletPath(pod, subresource, query);
  if (!pod.spec.nodeName) throw statusError('BadRequest', `pod ${pod.metadata.name} does not have a host assigned`);
  if (subresource !== 'log') requireLivePhase(pod, subresource);
  return { ...kubeletAddress(pod.spec.nodeName, node), path };
}

function kubeletPath(pod: Pod, subresource: PodStreamSubresource, query: URLSearchParams): string {
  switch (subresource) {
    case 'log': {
      const options = parsePodLogOptions(pod.metadata.name, query);
      return containerPath('containerLogs', pod, options.container, kubeletLogQuery(options));
    }
    case 'exec':
      return containerPath('exec', pod, query.get('container') ?? '', execQuery(query));
    case 'attach':
      return containerPath('attach', pod, query.get('container') ?? '', streamQuery(query));
    case 'portforward':
      return join(['portForward', pod.metadata.namespace, pod.metadata.name], portQuery(query));
  }
}

function containerPath(action: string, pod: Pod, container: string, query: URLSearchParams): string {
  return join([action, pod.metadata.namespace, pod.metadata.name, chooseContainer(pod, container)], query);
}

function join(segments: readonly string[], query: URLSearchParams): string {
  const path = segments.map((segment) => `/${encodeURIComponent(segment)}`).join('');
  return query.size > 0 ? `${path}?${query}` : path;
}

/** The container that a request means, in the words of Kubernetes' validateContainer. */
function chooseContainer(pod: Pod, asked: string): string {
  const { initContainers = [], containers, ephemeralContainers = [] } = pod.spec;
  const names = [...initContainers, ...containers, ...ephemeralContainers].map(({ name }) => name);
  if (asked) {
    if (names.includes(asked)) return asked;
    throw statusError('BadRequest', `container ${asked} is not valid for pod ${pod.metadata.name}`);
  }
  const annotated = pod.metadata.annotations?.[DEFAULT_CONTAINER];
  if (annotated && names.includes(annotated)) return annotated;
  if (containers.length === 1) return containers[0]!.name;
  const choice = containers.length > 0 ? `, choose one of: [${names.join(' ')}]` : '';
  throw statusError('BadRequest', `a container name must be specified for pod ${pod.metadata.name}${choice}`);
}

/** The stream flags under the kubelet's names: input, output, error, tty. */
function streamQuery(query: URLSearchParams): URLSearchParams {
  const tty = queryBoolean(query, 'tty');
  const flags = {
    input: queryBoolean(query, 'stdin'),
    output: queryBoolean(query, 'stdout'),
    // A terminal has one output: with tty, stderr is part of stdout.
    error: queryBoolean(query, 'stderr') && !tty,
    tty,
  };
  if (!flags.input && !flags.output && !flags.error)
    throw statusError('BadRequest', 'you must specify at least 1 of stdin, stdout, stderr');
  const result = new URLSearchParams();
  for (const [name, value] of Object.entries(flags)) if (value) result.set(name, '1');
  return result;
}

function execQuery(query: URLSearchParams): URLSearchParams {
  const command = query.getAll('command');
  if (command.length === 0) throw statusError('BadRequest', 'you must specify at least one command for the container');
  const result = streamQuery(query);
  for (const argument of command) result.append('command', argument);
  return result;
}

/** Ports come in the query only with the WebSocket protocol before SPDY tunnelling; SPDY names them per stream. */
function portQuery(query: URLSearchParams): URLSearchParams {
  const ports = query.getAll('ports').flatMap((value) => value.split(','));
  for (const port of ports) {
    if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535)
      throw statusError('BadRequest', `invalid port ${JSON.stringify(port)}: must be between 1 and 65535, inclusive`);
  }
  return new URLSearchParams(ports.length > 0 ? { port: ports.join(',') } : {});
}

/** Texts of kubectl, which asks before it calls; other clients learn it from the server. */
function requireLivePhase(pod: Pod, subresource: 'exec' | 'attach' | 'portforward'): void {
  const phase = pod.status?.phase ?? 'Pending';
  if (subresource === 'portforward') {
    if (phase !== 'Running')
      throw statusError('BadRequest', `unable to forward port because pod is not running. Current status=${phase}`);
  } else if (phase === 'Succeeded' || phase === 'Failed') {
    const verb = subresource === 'exec' ? 'exec into' : 'attach';
    throw statusError('BadRequest', `cannot ${verb} a container in a completed pod; current phase is ${phase}`);
  }
}

function kubeletAddress(nodeName: string, node: Node | undefined): { host: string; port: number } {
  if (!node)
    throw statusError('NotFound', `nodes ${JSON.stringify(nodeName)} not found`, { name: nodeName, kind: 'nodes' });
  const addresses = node.status?.addresses ?? [];
  const [host] = internalAddresses(node);
  if (!host) {
    const known = addresses.map(({ type, address }) => `{${type} ${address}}`).join(' ');
    throw statusError('InternalError', `no preferred addresses found; known addresses: [${known}]`);
  }
  return { host, port: node.status?.daemonEndpoints?.kubeletEndpoint?.Port || KUBELET_PORT };
}
