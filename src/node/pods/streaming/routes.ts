/** The kubelet's URLs (k8s.io/kubernetes/pkg/kubelet/server). Pure. */
import { statusError } from '../../../kube/status.ts';
import type { AttachOptions, ContainerRef, ExecOptions, PortForwardOptions, StreamOptions } from './pod-streams.ts';

export type Route =
  | { readonly action: 'healthz' | 'pods' | 'metrics' }
  | { readonly action: 'containerLogs'; readonly container: ContainerRef; readonly query: URLSearchParams }
  | { readonly action: 'exec'; readonly options: ExecOptions }
  | { readonly action: 'attach'; readonly options: AttachOptions }
  | { readonly action: 'portForward'; readonly options: PortForwardOptions };

/** Throws a StatusError: NotFound for an unknown path, BadRequest for a wrong query. */
export function parseRoute(url: string): Route {
  const { pathname, searchParams: query } = new URL(url, 'https://kubelet');
  const [action, ...names] = pathname.slice(1).split('/').map(decodeSegment);
  if (names.length === 0 || (names.length === 1 && names[0] === '')) {
    if (action === 'healthz' || action === 'pods' || action === 'metrics') return { action };
  }
  if (names.every((name) => name !== '')) {
    switch (action) {
      case 'containerLogs':
        if (names.length === 3) return { action, container: containerOf(names), query };
        break;
      case 'exec':
        if (isContainerPath(names)) return { action, options: execOptions(containerOf(names), query) };
        break;
      case 'attach':
        if (isContainerPath(names)) return { action, options: { ...containerOf(names), ...streamsOf(query) } };
        break;
      case 'portForward':
        if (names.length === 2 || names.length === 3) return { action, options: portForwardOptions(names, query) };
    }
  }
  throw statusError('NotFound', '404 page not found');
}

function decodeSegment(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw statusError('BadRequest', `invalid URL escape in ${JSON.stringify(text)}`);
  }
}

/** /namespace/pod/container or /namespace/pod/uid/container. */
const isContainerPath = (names: readonly string[]): boolean => names.length === 3 || names.length === 4;

function containerOf(names: readonly string[]): ContainerRef {
  const [namespace, pod] = names as [string, string];
  const container = names.at(-1)!;
  return names.length === 4 ? { namespace, pod, uid: names[2]!, container } : { namespace, pod, container };
}

/** The kubelet's names: input, output, error, tty, each 1 when wanted. */
function streamsOf(query: URLSearchParams): StreamOptions {
  const wanted = (name: string) => query.get(name) === '1' || query.get(name)?.toLowerCase() === 'true';
  const tty = wanted('tty');
  const streams = { stdin: wanted('input'), stdout: wanted('output'), stderr: wanted('error') && !tty, tty };
  if (!streams.stdin && !streams.stdout && !streams.stderr)
    throw statusError('BadRequest', 'you must specify at least 1 of stdin, stdout, stderr');
  return streams;
}

function execOptions(container: ContainerRef, query: URLSearchParams): ExecOptions {
  const command = query.getAll('command');
  if (command.length === 0) throw statusError('BadRequest', 'you must specify a command');
  return { ...container, ...streamsOf(query), command };
}

function portForwardOptions(names: readonly string[], query: URLSearchParams): PortForwardOptions {
  const [namespace, pod, uid] = names as [string, string, string | undefined];
  const ports = query
    .getAll('port')
    .flatMap((list) => list.split(','))
    .map(portOf);
  return uid === undefined ? { namespace, pod, ports } : { namespace, pod, uid, ports };
}

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65535)
    throw statusError('BadRequest', `unable to parse ${JSON.stringify(text)} as a port`);
  return port;
}
