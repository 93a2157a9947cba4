/**
 * A stand-in for containerd's streaming server, on another SPDY implementation (spdy-transport): what passes here does
 * not rest on our own frames alone. One URL, one behaviour. Like containerd it sends without waiting for windows.
 */
import { once } from 'node:events';
import http from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

/** The part of spdy-transport that is used here; the package has no types. */
interface SpdyStream extends Duplex {
  readonly headers: Headers;
  respond(status: number, headers: object): void;
}
interface SpdyWindow {
  readonly send: { setMax(bytes: number): void; update(bytes: number): void };
}
type Headers = Readonly<Record<string, string>>;
type HeadersCallback = (error: Error | null, headers?: Headers) => void;
interface SpdyParser {
  parseKVs(block: unknown, callback: HeadersCallback): void;
}
interface SpdyConnection extends NodeJS.EventEmitter {
  readonly _spdyState: { readonly window: SpdyWindow; readonly streamWindow: SpdyWindow; readonly parser: SpdyParser };
  start(version: number): void;
}
const transport = createRequire(import.meta.url)('spdy-transport') as {
  connection: { create(socket: Duplex, options: object): SpdyConnection };
};

/** A window in bytes that no test fills. */
const UNLIMITED = 1 << 30;

export type RuntimeStreams = ReadonlyMap<string, SpdyStream>;

/** What an exec does: gets the streams by type once all are there, and ends them. */
export type Behaviour = (streams: RuntimeStreams, socket: Duplex) => void;

export interface FakeRuntime extends AsyncDisposable {
  /** A URL that waits for that many streams and then behaves so. */
  url(streams: number, behaviour: Behaviour): string;
  /** A URL that refuses. */
  refusal(code: number, text: string): string;
}

export async function startFakeRuntime(): Promise<FakeRuntime> {
  const routes = new Map<string, { streams: number; behaviour: Behaviour }>();
  const refusals = new Map<string, { code: number; text: string }>();
  const server = http.createServer((req, res) => res.writeHead(404).end(req.url));
  const sockets = new Set<Duplex>();
  server.on('upgrade', (req, socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    const refused = refusals.get(req.url!);
    if (refused) {
      socket.end(`HTTP/1.1 ${refused.code} No\r\nContent-Length: ${refused.text.length}\r\n\r\n${refused.text}`);
      return;
    }
    const route = routes.get(req.url!)!;
    const version = req.headersDistinct['x-stream-protocol-version']?.[0];
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${version}\r\n\r\n`,
    );
    serveSpdy(socket, route.streams, route.behaviour);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url(streams, behaviour) {
      const path = `/exec/${routes.size}`;
      routes.set(path, { streams, behaviour });
      return base + path;
    },
    refusal(code, text) {
      const path = `/refusal/${refusals.size}`;
      refusals.set(path, { code, text });
      return base + path;
    },
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function serveSpdy(socket: Duplex, expected: number, behaviour: Behaviour): void {
  const connection = transport.connection.create(socket, { protocol: 'spdy', isServer: true, windowSize: UNLIMITED });
  const streams = new Map<string, SpdyStream>();
  connection.on('error', () => {});
  tolerateMissingMethod(connection._spdyState.parser);
  connection._spdyState.window.send.update(UNLIMITED);
  connection._spdyState.streamWindow.send.setMax(UNLIMITED);
  connection.start(3.1);
  connection.on('stream', (stream: SpdyStream) => {
    stream.on('error', () => {});
    stream.respond(200, {});
    streams.set(stream.headers['streamtype']!, stream);
    if (streams.size === expected) behaviour(streams, socket);
  });
}

/** Kubernetes' streams carry no HTTP request, hence no :method and :path, which spdy-transport insists on. */
function tolerateMissingMethod(parser: SpdyParser): void {
  const parse = parser.parseKVs.bind(parser);
  parser.parseKVs = (block, callback) =>
    parse(block, (error, headers) => callback(error, { ':method': 'POST', ':path': '/', ...headers }));
}
