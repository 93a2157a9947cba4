/**
 * The API server put together: store -> cache -> storage -> verbs -> HTTPS. `startApiServer` is its one entry; see README.md
 * for the main path of a request.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Duplex } from 'node:stream';
import { type Clock, systemClock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { StatusError } from '../kube/status.ts';
import type { Node, Pod } from '../kube/types.ts';
import type { RevisionedStore } from '../store/contract.ts';
import { serviceAllocator } from './allocation/service-allocator.ts';
import { ServiceAccountTokens } from './auth/tokens.ts';
import { bootstrap } from './bootstrap.ts';
import { WatchCache } from './cache/watch-cache.ts';
import type { Api } from './context.ts';
import { Discovery } from './discovery.ts';
import { expireEvents } from './event-expiry.ts';
import { Handler, type PodStreaming, type StreamCall } from './http/handler.ts';
import { plainPaths } from './http/plain-paths.ts';
import { sendError, statusOf } from './http/respond.ts';
import { Metrics } from './metrics.ts';
import { randomSuffix } from './random.ts';
import { kinds } from './resources/index.ts';
import type { Kind, Lookup } from './resources/kind.ts';
import { notFound, Storage } from './storage.ts';
import { reviewResources } from './subresources/reviews.ts';
import { tokenRequest } from './subresources/token.ts';

/** PEM texts: who is trusted, and what this side shows. */
export interface TlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export type Listener = { readonly fd: number } | { readonly host: string; readonly port: number };

export interface ApiServerOptions {
  /** Closed by its owner, after the server stopped. */
  readonly store: RevisionedStore;
  readonly tls: TlsFiles;
  /** PKCS#8 PEM of the P-256 key that signs service account tokens. */
  readonly serviceAccountKey: string;
  readonly listeners: readonly Listener[];
  /** Where the Service "kubernetes" leads; one address of each family at most. */
  readonly advertiseAddresses: readonly string[];
  readonly advertisePort: number;
  /** The blocks of Service addresses, one of each family at most; the first is the primary family. */
  readonly serviceCidrs: readonly string[];
  /** Both inclusive; default 30000-32767. */
  readonly nodePortRange?: readonly [first: number, last: number];
  /** What this server shows to nodes, and whom it trusts there. */
  readonly kubeletTls: TlsFiles;
  readonly clusterDomain?: string;
  readonly log: Logger;
  readonly clock?: Clock;
}

export interface ApiServer {
  /** The ports that were bound, in the order of `listeners`; 0 for a listener that has none. */
  readonly ports: readonly number[];
  /** Ends watches and connections. The store stays open. */
  stop(): Promise<void>;
}

export async function startApiServer(options: ApiServerOptions, signal: AbortSignal): Promise<ApiServer> {
  signal.throwIfAborted();
  const { store, log } = options;
  const clock = options.clock ?? systemClock;
  const cache = new WatchCache(store, kinds, log);
  await cache.start();
  const lookup = lookupOf(cache, clock);
  const services = serviceAllocator({
    serviceCidrs: options.serviceCidrs,
    nodePortRange: options.nodePortRange ?? [30_000, 32_767],
  });
  for (const stored of cache.of({ group: '', plural: 'services' }).list({ labels: [], fields: [] }))
    services.adopt(stored.object);
  const storage = new Storage(store, cache);
  const api: Api = {
    kinds,
    cache,
    storage,
    lookup,
    allocators: new Map([['services', services.allocator]]),
    clock,
    log,
  };
  await bootstrap(api, options);
  const tokens = new ServiceAccountTokens({
    signingKey: options.serviceAccountKey,
    clusterDomain: options.clusterDomain ?? 'cluster.local',
    lookup,
  });
  const metrics = new Metrics();
  const stopping = new AbortController();
  const handler = new Handler({
    api,
    discovery: new Discovery(kinds, reviewResources),
    tokens,
    plainPaths: plainPaths({
      kinds,
      metrics: async () => ({ contentType: 'text/plain; version=0.0.4', text: metrics.render(gauges(cache)) }),
      openIdConfiguration: () => tokens.openIdConfiguration(),
      jwks: () => tokens.jwks(),
    }),
    streaming: lazily(() => podStreaming(api, options)),
    subresources: { 'serviceaccounts/token': { POST: tokenRequest(tokens) } },
    onRequest: (verb, resource, code, seconds) => metrics.observe(verb, resource, code, seconds),
    signal: stopping.signal,
  });
  const servers = options.listeners.map(() => httpsServer(options.tls, handler, log));
  let ports: number[];
  try {
    ports = await Promise.all(options.listeners.map((listener, i) => listen(servers[i]!, listener)));
  } catch (error) {
    for (const server of servers) server.close();
    cache.stop();
    throw error;
  }
  void expireEvents(api, clock, stopping.signal);
  const stop = once(async () => {
    stopping.abort();
    await Promise.all(servers.map(close));
    cache.stop();
  });
  signal.addEventListener('abort', () => void stop(), { once: true });
  if (signal.aborted) await stop();
  log.info({ ports, revision: store.revision }, 'the API server is ready');
  return { ports, stop };
}

function lookupOf(cache: WatchCache, clock: Clock): Lookup {
  const byPlural = new Map<string, Kind>(kinds.map((kind) => [kind.plural, kind]));
  return {
    get: (plural, namespace, name) => {
      const kind = byPlural.get(plural);
      return kind && cache.of(kind).get(kind.namespaced ? namespace : undefined, name)?.object;
    },
    now: () => new Date(clock.now()),
    randomSuffix,
  };
}

/** A client that sends its headers slower than this is cut off. */
const HEADERS_TIMEOUT_MS = 30_000;
const REQUEST_TIMEOUT_MS = 60_000;

function httpsServer(tls: TlsFiles, handler: Handler, log: Logger): Server {
  const server = createServer({
    ca: tls.ca,
    cert: tls.cert,
    key: tls.key,
    // Clients without a certificate may come with a token; what they may do is decided later.
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.2',
    ALPNProtocols: ['http/1.1'],
    headersTimeout: HEADERS_TIMEOUT_MS,
    // From the first byte of a request to the last of its body; answers (watches) may take as long as they like.
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: 120_000,
    noDelay: true,
  });
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    response.on('error', () => {});
    handler.handle(request, response).catch((error: unknown) => {
      log.error({ error }, 'a request failed beyond its handler');
      sendError(response, error);
    });
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    void handler.upgrade(request, socket, head);
  });
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    else socket.destroy();
  });
  return server;
}

function listen(server: Server, listener: Listener): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen('fd' in listener ? { fd: listener.fd } : { host: listener.host, port: listener.port }, () => {
      server.off('error', reject);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
    // Watches were told to end; give their last bytes a moment, then cut.
    setTimeout(() => server.closeAllConnections(), 100).unref();
  });
}

function once<T>(action: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => {
    result ??= action();
    return result;
  };
}

const lazily = once;

function gauges(cache: WatchCache) {
  const all = [...cache.all()];
  return {
    objects: new Map(all.map((kind) => [kind.kind.plural, kind.size])),
    watchers: new Map(all.map((kind) => [kind.kind.plural, kind.watcherCount])),
    revision: cache.revision,
  };
}

/** Logs, exec, attach and port-forward go to the agent of the pod's node. Loaded when first used. */
async function podStreaming(api: Api, options: ApiServerOptions): Promise<PodStreaming> {
  const [{ NodeProxy }, { podStreamTarget }, { refuseUpgrade }] = await Promise.all([
    import('./streaming/node-proxy.ts'),
    import('./streaming/pod-stream-target.ts'),
    import('./streaming/upgrade-answer.ts'),
  ]);
  const proxy = new NodeProxy({ tls: options.kubeletTls, log: options.log });
  const pods = kinds.find((kind) => kind.plural === 'pods')!;
  const target = ({ namespace, name, subresource, query }: StreamCall) => {
    const pod = api.lookup.get('pods', namespace, name) as unknown as Pod | undefined;
    if (!pod) throw notFound(pods, name);
    const node = pod.spec.nodeName
      ? (api.lookup.get('nodes', undefined, pod.spec.nodeName) as unknown as Node | undefined)
      : undefined;
    return podStreamTarget(pod, node, subresource as Parameters<typeof podStreamTarget>[2], query);
  };
  return {
    request: (call, request, response) => proxy.request(target(call), request, response),
    upgrade: (call, request, socket, head) => proxy.upgrade(target(call), request, socket, head),
    refuse: (socket, error) => refuseUpgrade(socket, error instanceof StatusError ? error : statusOf(error)),
  };
}
