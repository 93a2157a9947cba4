/**
 * Carries requests from the API server to a node's streaming server (the kubelet's API) over mutually authenticated TLS.
 *
 * It understands neither SPDY nor WebSocket: after the node has agreed to an upgrade, bytes pass untouched, so whatever
 * kubectl and the node agree on works, now and later. It does no authorization: the caller has done that.
 */
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import { isIP } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import { joinByteStreams } from '../../base/byte-tunnel.ts';
import { hostPort } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import { type StatusError, statusError } from '../../kube/status.ts';
import { nodeRefusal } from './node-refusal.ts';
import { type HeaderMap, requestHeaders, responseHeaders } from './proxy-headers.ts';
import { refuseUpgrade, relayRefusal, switchingProtocols } from './upgrade-answer.ts';

/** Where a request goes: an address or name that the node's certificate holds as SAN, and path with query. */
export interface NodeTarget {
  readonly host: string;
  readonly port: number;
  readonly path: string;
}

export interface NodeProxyOptions {
  /** PEM: the authority of the nodes' server certificates, and the client certificate that nodes accept. */
  readonly tls: { readonly ca: string | Buffer; readonly cert: string | Buffer; readonly key: string | Buffer };
  readonly log: Logger;
  /** How long connecting and the TLS handshake may take, in milliseconds; default 10 s. */
  readonly connectTimeoutMs?: number;
}

export class NodeProxy {
  readonly #options: NodeProxyOptions;
  /** Connections are not reused (streams live long), TLS sessions are. */
  readonly #agent: https.Agent;

  constructor(options: NodeProxyOptions) {
    this.#options = options;
    this.#agent = new https.Agent({ keepAlive: false, maxCachedSessions: 500, ...options.tls });
  }

  /** Forwards an ordinary request and streams the answer. A node's error text becomes a Status object. */
  request(target: NodeTarget, req: IncomingMessage, res: ServerResponse): void {
    const upstream = this.#open(target, req.method, requestHeaders(req.rawHeaders));
    res.once('close', () => upstream.destroy());
    upstream.once('error', (error) => this.#fail(target, error, (status) => answerStatus(res, status)));
    upstream.once('response', (answer) => void relayAnswer(answer, res));
    if (req.method === 'GET' || req.method === 'HEAD') upstream.end();
    else req.pipe(upstream);
  }

  /** Forwards a request that asks for another protocol, with what the client has already sent of it (head). */
  upgrade(target: NodeTarget, req: IncomingMessage, socket: Duplex, head: Buffer): void {
    const upstream = this.#open(target, req.method, {
      ...requestHeaders(req.rawHeaders),
      Connection: 'Upgrade',
      Upgrade: req.headers.upgrade ?? '',
    });
    const abandon = () => upstream.destroy();
    socket.on('error', abandon).once('close', abandon);
    upstream.on('error', (error) => this.#fail(target, error, (status) => refuseUpgrade(socket, status)));
    upstream.once('response', (answer) => void relayRefusal(answer, socket));
    upstream.once('upgrade', (answer, nodeSocket: Duplex, nodeHead) => {
      socket.off('close', abandon);
      socket.write(switchingProtocols(answer));
      if (nodeHead.length > 0) nodeSocket.unshift(nodeHead);
      if (head.length > 0) nodeSocket.write(head);
      const onError = (error: Error) => this.#options.log.debug({ path: target.path, error }, 'stream broke');
      void joinByteStreams(socket, nodeSocket, { onError });
    });
    upstream.end();
  }

  #open(target: NodeTarget, method: string | undefined, headers: HeaderMap): ClientRequest {
    const request = https.request({
      agent: this.#agent,
      host: target.host,
      port: target.port,
      path: target.path,
      method,
      // SNI carries names only (RFC 6066 section 3); the certificate is checked against the host in both cases.
      servername: isIP(target.host) ? '' : target.host,
      headers: { ...headers, Host: hostPort(target.host, target.port) },
    });
    request.once('socket', (socket) => {
      socket.setNoDelay(true);
      socket.setTimeout(this.#options.connectTimeoutMs ?? 10_000, () => request.destroy(new Error('i/o timeout')));
      socket.once('secureConnect', () => socket.setTimeout(0));
    });
    return request;
  }

  #fail(target: NodeTarget, error: Error, answer: (status: StatusError) => void): void {
    const { log } = this.#options;
    log.debug({ host: target.host, port: target.port, path: target.path, error }, 'no connection to the node');
    answer(
      statusError('InternalError', `error dialing backend: ${hostPort(target.host, target.port)}: ${error.message}`),
    );
  }
}

function answerStatus(res: ServerResponse, error: StatusError): void {
  if (res.headersSent) {
    res.destroy();
    return;
  }
  res.writeHead(error.code, { 'Content-Type': 'application/json' });
  res.end(JSON.stringify(error.status));
}

async function relayAnswer(answer: IncomingMessage, res: ServerResponse): Promise<void> {
  const refusal = await nodeRefusal(answer);
  if (refusal) {
    answerStatus(res, refusal);
    return;
  }
  res.writeHead(answer.statusCode ?? 502, responseHeaders(answer.rawHeaders));
  res.flushHeaders();
  pipeline(answer, res, () => {});
}
