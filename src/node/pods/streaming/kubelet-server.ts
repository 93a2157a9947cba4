/** The kubelet's HTTPS server: routes, client certificates, and what they lead to. See README.md. */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { TLSSocket } from 'node:tls';
import { messageOf } from '../../../base/errors.ts';
import type { Logger } from '../../../base/log.ts';
import type { Startable } from '../../../base/startable.ts';
import { StatusError, statusError } from '../../../kube/status.ts';
import { refuseClient } from './client-identity.ts';
import { parseLogQuery } from './log-query.ts';
import { readLog } from './log-reader.ts';
import type { ContainerRef, PodStreams } from './pod-streams.ts';
import { parseRoute, type Route } from './routes.ts';
import { refuseUpgrade, UpgradeHandler } from './upgrade-handler.ts';

/** An address to bind, or a listening socket that somebody else has bound (in another network namespace). */
export type ListenAt = { readonly host: string; readonly port: number } | { readonly fd: number };

export interface KubeletServerOptions {
  readonly listen: readonly ListenAt[];
  /** PEM: the authority of client certificates, and the node's server certificate. */
  readonly tls: { readonly ca: string | Buffer; readonly cert: string | Buffer; readonly key: string | Buffer };
  readonly streams: PodStreams;
  /** The pods of this node, for /pods. */
  readonly pods?: () => readonly unknown[];
  /** Prometheus' text format, for /metrics. */
  readonly metrics?: () => Promise<string> | string;
  readonly log: Logger;
}

export class KubeletServer implements Startable {
  readonly #options: KubeletServerOptions;
  readonly #upgrades: UpgradeHandler;
  readonly #servers: https.Server[] = [];
  readonly #sockets = new Set<Duplex>();
  readonly #stopped = Promise.withResolvers<void>();

  constructor(options: KubeletServerOptions) {
    this.#options = options;
    this.#upgrades = new UpgradeHandler(options.streams, options.log);
  }

  /** What is listened on, once started. */
  get addresses(): readonly AddressInfo[] {
    return this.#servers.map((server) => server.address() as AddressInfo);
  }

  /** Resolves when all listeners and connections are closed after the signal has aborted. */
  get stopped(): Promise<void> {
    return this.#stopped.promise;
  }

  /** Listens on all addresses, or rejects and listens on none. */
  async start(signal: AbortSignal): Promise<void> {
    try {
      for (const at of this.#options.listen) await this.#listen(at);
    } catch (error) {
      this.#stop();
      throw error;
    }
    if (signal.aborted) this.#stop();
    else signal.addEventListener('abort', () => this.#stop(), { once: true });
  }

  async #listen(at: ListenAt): Promise<void> {
    const { ca, cert, key } = this.#options.tls;
    // Clients without a good certificate get an answer that says so; a failed handshake would not.
    const server = https.createServer({ ca, cert, key, requestCert: true, rejectUnauthorized: false, noDelay: true });
    server.on('request', (req, res) => void this.#serve(req, res));
    server.on('upgrade', (req, socket, head) => void this.#upgrade(req, socket, head));
    server.on('connection', (socket) => this.#track(socket));
    this.#servers.push(server);
    server.listen(at);
    await once(server, 'listening');
    server.on('error', (error) => this.#options.log.error({ error }, 'kubelet server'));
  }

  #track(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #stop(): void {
    const closed = this.#servers.map((server) => server.listening && once(server, 'close'));
    for (const server of this.#servers) server.close();
    for (const socket of this.#sockets) socket.destroy();
    Promise.all(closed).then(() => this.#stopped.resolve(), this.#stopped.reject);
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    try {
      await this.#answer(authorizedRoute(req), res);
    } catch (error) {
      const status = this.#statusOf(error, req);
      if (res.headersSent) res.destroy();
      else answerText(res, status.code, `${status.message}\n`);
    }
  }

  async #answer(route: Route, res: ServerResponse): Promise<void> {
    const { pods, metrics } = this.#options;
    switch (route.action) {
      case 'healthz':
        return answerText(res, 200, 'ok');
      case 'pods':
        return answerJson(res, { kind: 'PodList', apiVersion: 'v1', metadata: {}, items: pods?.() ?? [] });
      case 'metrics':
        return answerText(res, 200, (await metrics?.()) ?? '', 'text/plain; version=0.0.4; charset=utf-8');
      case 'containerLogs':
        return await this.#answerLog(route.container, route.query, res);
      case 'exec':
      case 'attach':
      case 'portForward':
        throw statusError('BadRequest', 'unable to upgrade: missing upgrade headers in request');
    }
  }

  async #answerLog(container: ContainerRef, search: URLSearchParams, res: ServerResponse): Promise<void> {
    const query = parseLogQuery(search, Date.now());
    const locate = () => this.#options.streams.logFile({ ...container, previous: query.previous });
    // Errors of the pod and the file come before the first byte: the head is written once both are known to be there.
    await locate();
    const ended = new AbortController();
    res.once('close', () => ended.abort());
    const log = readLog(locate, query, ended.signal);
    const first = query.follow ? undefined : await log.next();
    res.writeHead(200, { 'Content-Type': 'text/plain' });
    res.flushHeaders();
    if (first?.done) {
      res.end();
      return;
    }
    await pipeline(startingWith(first?.value, log), res).catch((error: NodeJS.ErrnoException) => {
      // The client has gone: nobody waits for the rest.
      if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
    });
  }

  async #upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', (error) => this.#options.log.debug({ error }, 'client connection'));
    try {
      await this.#upgrades.serve(authorizedRoute(req), { req, socket, head });
    } catch (error) {
      refuseUpgrade(socket, this.#statusOf(error, req));
    }
  }

  #statusOf(error: unknown, req: IncomingMessage): StatusError {
    if (error instanceof StatusError) return error;
    this.#options.log.error({ url: req.url, error }, 'kubelet server: request failed');
    return statusError('InternalError', messageOf(error));
  }
}

function authorizedRoute(req: IncomingMessage): Route {
  const refusal = refuseClient(req.socket as TLSSocket);
  if (refusal) throw refusal;
  return parseRoute(req.url ?? '/');
}

async function* startingWith(first: Buffer | undefined, rest: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  if (first?.length) yield first;
  for await (const chunk of rest) if (chunk.length > 0) yield chunk;
}

function answerText(res: ServerResponse, code: number, text: string, type = 'text/plain; charset=utf-8'): void {
  res.writeHead(code, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(text) });
  res.end(text);
}

function answerJson(res: ServerResponse, value: unknown): void {
  const text = JSON.stringify(value);
  res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
  res.end(text);
}
