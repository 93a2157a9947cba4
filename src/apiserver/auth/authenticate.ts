/** Who a request comes from: the client certificate's subject, or a bearer token. */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { statusError } from '../../kube/status.ts';
import { ANONYMOUS, type User } from './user.ts';

export interface TokenAuthenticator {
  /** Undefined: not a valid token. */
  authenticate(token: string): User | undefined;
}

/** Certificates do not change during a connection: looked at once. */
const bySocket = new WeakMap<TLSSocket, User | undefined>();

/** Throws Unauthorized when credentials were given that do not hold. */
export function authenticate(request: IncomingMessage, tokens: TokenAuthenticator): User {
  const authorization = request.headers.authorization;
  if (authorization !== undefined) {
    const token = /^Bearer\s+(\S+)$/i.exec(authorization)?.[1];
    const user = token === undefined ? undefined : tokens.authenticate(token);
    if (!user) throw unauthorized();
    return user;
  }
  const socket = request.socket as TLSSocket;
  if (!bySocket.has(socket)) bySocket.set(socket, certificateUser(socket));
  return bySocket.get(socket) ?? ANONYMOUS;
}

function certificateUser(socket: TLSSocket): User | undefined {
  const certificate = socket.getPeerCertificate();
  const subject = certificate?.subject as { CN?: string | string[]; O?: string | string[] } | undefined;
  if (!subject) return undefined;
  if (!socket.authorized) throw unauthorized();
  const [name] = [subject.CN ?? []].flat();
  if (!name) return undefined;
  return { name, groups: [...[subject.O ?? []].flat(), 'system:authenticated'] };
}

const unauthorized = () => statusError('Unauthorized', 'Unauthorized');
