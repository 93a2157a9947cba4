/** Who may use the node's streaming server: API servers and administrators, by their client certificate. */
import type { TLSSocket } from 'node:tls';
import { type StatusError, statusError } from '../../../kube/status.ts';

/** The client that kubeadm and real API servers present to kubelets. */
const KUBELET_CLIENT = 'kube-apiserver-kubelet-client';
const groups = ['system:masters', 'system:apiserver'];

/** Undefined when the connection's client is allowed; otherwise Unauthorized or Forbidden. */
export function refuseClient(socket: TLSSocket): StatusError | undefined {
  if (!socket.authorized) return statusError('Unauthorized', 'Unauthorized');
  const { subject } = socket.getPeerCertificate();
  return mayStream({ user: textsOf(subject?.CN)[0] ?? '', groups: textsOf(subject?.O) });
}

/** The decision itself. Pure. */
export function mayStream(client: {
  readonly user: string;
  readonly groups: readonly string[];
}): StatusError | undefined {
  if (client.user === KUBELET_CLIENT || client.groups.some((group) => groups.includes(group))) return undefined;
  return statusError('Forbidden', `Forbidden (user=${client.user}, resource=nodes, subresource=proxy)`);
}

const textsOf = (value: string | readonly string[] | undefined): string[] =>
  value === undefined ? [] : [value].flat().map(String);
