/** exec, attach and port-forward: picks the client's protocol and joins it with the runtime's connection. */
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { type ServerOptions, type WebSocket, WebSocketServer } from 'ws';
import { joinByteStreams } from '../../../base/byte-tunnel.ts';
import type { Logger } from '../../../base/log.ts';
import { type StatusError, statusError } from '../../../kube/status.ts';
import { type ChannelProtocol, chooseProtocol, offeredProtocols, portForwardProtocols } from './channel-protocol.ts';
import type { PodStreams } from './pod-streams.ts';
import { PORT_FORWARD_PROTOCOL, TUNNEL_PROTOCOL, tunnelPortForward } from './port-forward-tunnel.ts';
import { bridgePortForward } from './port-forward-websocket.ts';
import { RemoteCommandBridge, RUNTIME_STREAM_PROTOCOL } from './remote-command-websocket.ts';
import type { Route } from './routes.ts';
import { connectRuntime } from './runtime-connection.ts';

type StreamRoute = Extract<Route, { action: 'exec' | 'attach' | 'portForward' }>;

/** A request that asks for another protocol, with its raw connection. */
export interface UpgradeRequest {
  readonly req: IncomingMessage;
  readonly socket: Duplex;
  /** What the client has sent after its request. */
  readonly head: Buffer;
}

/** A client may take this long to answer the closing of a WebSocket, in milliseconds: it may sit behind a pager. */
const CLOSE_TIMEOUT_MS = 300_000;
/** The largest message of a client; kubectl sends 32 KiB. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

export class UpgradeHandler {
  readonly #streams: PodStreams;
  readonly #log: Logger;

  constructor(streams: PodStreams, log: Logger) {
    this.#streams = streams;
    this.#log = log;
  }

  /** Serves the request or throws a StatusError, before a byte was written. */
  async serve(route: Route, upgrade: UpgradeRequest): Promise<void> {
    if (route.action !== 'exec' && route.action !== 'attach' && route.action !== 'portForward')
      throw statusError('BadRequest', `${route.action} does not upgrade its connection`);
    const wanted = upgrade.req.headers.upgrade?.toLowerCase() ?? '';
    if (wanted === 'websocket') await this.#serveWebSocket(route, upgrade);
    else if (wanted === 'spdy/3.1') await this.#tunnelSpdy(route, upgrade);
    else throw statusError('BadRequest', `unable to upgrade: unknown protocol ${JSON.stringify(wanted)}`);
  }

  #runtimeUrl(route: StreamRoute): Promise<string> {
    switch (route.action) {
      case 'exec':
        return this.#streams.execUrl(route.options);
      case 'attach':
        return this.#streams.attachUrl(route.options);
      case 'portForward':
        return this.#streams.portForwardUrl(route.options);
    }
  }

  /** An SPDY client speaks with the runtime itself. */
  async #tunnelSpdy(route: StreamRoute, { req, socket, head }: UpgradeRequest): Promise<void> {
    const offered = req.headersDistinct['x-stream-protocol-version'] ?? [];
    const runtime = await connectRuntime(await this.#runtimeUrl(route), offered);
    const chosen = runtime.answer.headers['x-stream-protocol-version'];
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n' +
        `${chosen === undefined ? '' : `X-Stream-Protocol-Version: ${chosen}\r\n`}\r\n`,
    );
    if (head.length > 0) runtime.socket.write(head);
    const onError = (error: Error) => this.#log.debug({ action: route.action, error }, 'stream broke');
    void joinByteStreams(socket, runtime.socket, { onError });
  }

  async #serveWebSocket(route: StreamRoute, upgrade: UpgradeRequest): Promise<void> {
    const offered = offeredProtocols(upgrade.req.headers['sec-websocket-protocol']);
    if (route.action !== 'portForward') {
      const protocol = requireProtocol(chooseProtocol(offered), offered);
      const runtime = await connectRuntime(await this.#runtimeUrl(route), [RUNTIME_STREAM_PROTOCOL]);
      const accept = (client: WebSocket) => new RemoteCommandBridge(client, runtime.socket, protocol, route.options);
      this.#accept(upgrade, protocol.name, runtime.socket, accept);
      return;
    }
    const tunnelled = offered.includes(TUNNEL_PROTOCOL);
    const protocol = tunnelled ? undefined : requireProtocol(chooseProtocol(offered, portForwardProtocols), offered);
    if (protocol && route.options.ports.length === 0)
      throw statusError('BadRequest', `query parameter "port" is required`);
    const runtime = await connectRuntime(await this.#runtimeUrl(route), [PORT_FORWARD_PROTOCOL]);
    this.#accept(upgrade, protocol?.name ?? TUNNEL_PROTOCOL, runtime.socket, (client) =>
      protocol
        ? bridgePortForward(client, runtime.socket, protocol, route.options.ports)
        : tunnelPortForward(client, runtime.socket),
    );
  }

  /** Completes the handshake with the subprotocol; the runtime is let go when the client's request is no good. */
  #accept(
    { req, socket, head }: UpgradeRequest,
    name: string,
    runtime: Duplex,
    use: (client: WebSocket) => void,
  ): void {
    const abandon = () => runtime.destroy();
    socket.once('close', abandon);
    if (socket.destroyed) abandon();
    // "SPDY/3.1+…" is no token of RFC 9110, which ws insists on: the subprotocol is negotiated here.
    delete req.headers['sec-websocket-protocol'];
    webSocketServer(name).handleUpgrade(req, socket, head, (client) => {
      socket.off('close', abandon);
      use(client);
    });
  }
}

/** Accepts one client and names it the subprotocol; an empty name: none. */
function webSocketServer(protocol: string): WebSocketServer {
  const options: ServerOptions & { readonly closeTimeout: number } = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    closeTimeout: CLOSE_TIMEOUT_MS,
  };
  const server = new WebSocketServer(options);
  if (protocol) server.on('headers', (headers) => headers.push(`Sec-WebSocket-Protocol: ${protocol}`));
  return server;
}

function requireProtocol(protocol: ChannelProtocol | undefined, offered: readonly string[]): ChannelProtocol {
  if (protocol) return protocol;
  throw statusError('BadRequest', `unable to upgrade: none of the subprotocols is known: ${offered.join(', ')}`);
}

/** Answers in plain text, as the kubelet does, and closes the connection. */
export function refuseUpgrade(socket: Duplex, error: StatusError): void {
  if (socket.destroyed || socket.writableEnded) return;
  const body = `${error.message}\n`;
  socket.end(
    `HTTP/1.1 ${error.code} ${STATUS_CODES[error.code] ?? 'Error'}\r\nConnection: close\r\n` +
      `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
