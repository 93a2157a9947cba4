/** A KubeClient over HTTPS with keep-alive: client certificate or bearer token, one connection per watch. */
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { createSecureContext } from 'node:tls';
import type {
  AnyObject,
  DeleteOptions,
  KubeClient,
  ListOptions,
  ObjectList,
  PatchOptions,
  WatchOptions,
} from './client.ts';
import { type ClusterAccess, readKubeconfig } from './kubeconfig.ts';
import { type ApiResource, apiPath, apiResources, apiVersionOf, type NamespacedName } from './names.ts';
import { isExpired, StatusError, statusError } from './status.ts';
import type { Draft, KindMap, KindName, KubeObject, Status, WatchEvent } from './types.ts';

const PATCH_TYPES = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
} as const;

/** Objects in a page of a list, as kubectl and client-go ask for. */
const LIST_PAGE = 500;

export interface HttpClientOptions {
  readonly access: ClusterAccess;
  /** Sent as User-Agent and as the field manager. */
  readonly userAgent: string;
  /** For one request and its answer, in milliseconds; watches have none. */
  readonly timeoutMs?: number;
  /** A watch that is silent for longer is broken off (bookmarks come each minute), in milliseconds. */
  readonly watchSilenceMs?: number;
}

/**
 * Connections for requests; what is asked beyond waits its turn. A handshake costs both sides more than most requests do, so
 * a crowd of requests is done sooner by few connections.
 */
const MAX_REQUEST_CONNECTIONS = 4;

interface Request {
  readonly method: string;
  readonly path: string;
  readonly query?: URLSearchParams;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

export class HttpClient implements KubeClient {
  readonly #options: HttpClientOptions;
  readonly #requests: Agent;
  readonly #watches: Agent;
  readonly #base: URL;

  constructor(options: HttpClientOptions) {
    this.#options = options;
    this.#base = new URL(options.access.server);
    const { ca, cert, key } = options.access;
    // One for all: without it each connection makes its own, of about 1 MB and 1 ms.
    const secureContext = createSecureContext({ ca, cert, key, minVersion: 'TLSv1.2' });
    this.#requests = new Agent({ secureContext, keepAlive: true, maxSockets: MAX_REQUEST_CONNECTIONS });
    this.#watches = new Agent({ secureContext });
  }

  /** From the current context of a kubeconfig file. */
  static fromKubeconfig(path: string, userAgent: string): HttpClient {
    return new HttpClient({ access: readKubeconfig(path), userAgent });
  }

  /** From the service account that Kubernetes mounts into a pod. */
  static inCluster(userAgent: string, env: NodeJS.ProcessEnv = process.env): HttpClient {
    const folder = '/var/run/secrets/kubernetes.io/serviceaccount';
    const host = env['KUBERNETES_SERVICE_HOST'] ?? 'kubernetes.default.svc';
    return new HttpClient({
      userAgent,
      access: {
        server: `https://${host.includes(':') ? `[${host}]` : host}:${env['KUBERNETES_SERVICE_PORT'] ?? '443'}`,
        ca: readFileSync(`${folder}/ca.crt`, 'utf8'),
        token: readFileSync(`${folder}/token`, 'utf8').trim(),
      },
    });
  }

  get<K extends KindName>(kind: K, at: NamespacedName): Promise<KindMap[K]> {
    return this.json({ method: 'GET', path: apiPath(apiResources[kind], at) });
  }

  /**
   * All objects, asked for in pages: the texts of ten thousand slices would be tens of megabytes at once. The pages are of one
   * version; where the server forgets it in between, it is asked for all in one.
   */
  async list<K extends KindName>(kind: K, options: ListOptions = {}): Promise<ObjectList<KindMap[K]>> {
    const items: KindMap[K][] = [];
    let page = await this.#page(kind, options, items);
    while (page.continue) {
      try {
        page = await this.#page(kind, options, items, page.continue);
      } catch (error) {
        if (!isExpired(error)) throw error;
        items.length = 0;
        page = await this.#page(kind, options, items, 'whole');
      }
    }
    return { items, resourceVersion: page.resourceVersion };
  }

  /** Adds the first page or the one of a token to the items, or everything. */
  async #page<K extends KindName>(kind: K, options: ListOptions, items: KindMap[K][], token?: 'whole' | (string & {})) {
    const place = apiResources[kind];
    const query = listQuery(options);
    if (token !== 'whole') query.set('limit', String(LIST_PAGE));
    if (token && token !== 'whole') query.set('continue', token);
    const path = apiPath(place, { namespace: options.namespace });
    const list = await this.json<List<KindMap[K]>>({ method: 'GET', path, query });
    for (const item of list.items) items.push(finished(named(item, place), options));
    return list.metadata;
  }

  create<K extends KindName>(kind: K, object: Draft<KindMap[K]>): Promise<KindMap[K]> {
    const place = apiResources[kind];
    const namespace = object.metadata.namespace ?? 'default';
    return this.json({
      method: 'POST',
      path: apiPath(place, { namespace }),
      body: named({ ...object } as Partial<KubeObject>, place),
    });
  }

  update<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    return this.json({ method: 'PUT', path: apiPath(apiResources[kind], object.metadata), body: object });
  }

  updateStatus<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    return this.updateSubresource(kind, object, 'status');
  }

  updateSubresource<K extends KindName>(kind: K, object: KindMap[K], subresource: string): Promise<KindMap[K]> {
    return this.json({ method: 'PUT', path: apiPath(apiResources[kind], object.metadata, subresource), body: object });
  }

  patch<K extends KindName>(
    kind: K,
    at: NamespacedName,
    patch: object,
    options: PatchOptions = {},
  ): Promise<KindMap[K]> {
    return this.json({
      method: 'PATCH',
      path: apiPath(apiResources[kind], at, options.subresource),
      body: patch,
      contentType: PATCH_TYPES[options.type ?? 'merge'],
    });
  }

  async delete(kind: KindName, at: NamespacedName, options: DeleteOptions = {}): Promise<void> {
    const body = { kind: 'DeleteOptions', apiVersion: 'v1', ...options };
    await this.json({ method: 'DELETE', path: apiPath(apiResources[kind], at), body });
  }

  async bind(pod: NamespacedName & { readonly uid?: string }, nodeName: string): Promise<void> {
    const body = {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name: pod.name, namespace: pod.namespace, ...(pod.uid ? { uid: pod.uid } : {}) },
      target: { apiVersion: 'v1', kind: 'Node', name: nodeName },
    };
    await this.json({ method: 'POST', path: apiPath(apiResources.Pod, pod, 'binding'), body });
  }

  async *watch<K extends KindName>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<KindMap[K]>> {
    const place = apiResources[kind];
    const query = listQuery(options);
    query.set('watch', 'true');
    query.set('allowWatchBookmarks', 'true');
    query.set('resourceVersion', options.resourceVersion);
    const path = apiPath(place, { namespace: options.namespace });
    const response = await this.#send({ method: 'GET', path, query, signal: options.signal }, this.#watches);
    response.setTimeout(this.#options.watchSilenceMs ?? 120_000, () =>
      response.destroy(new Error(`the watch of ${kind} went silent`)),
    );
    for await (const line of lines(response)) {
      const event = JSON.parse(line) as WatchEvent<KindMap[K]> | { type: 'ERROR'; object: Status };
      if (event.type === 'ERROR') throw new StatusError(event.object);
      if (event.type === 'BOOKMARK') yield event;
      else yield { ...event, object: finished(named(event.object, place), options) };
    }
  }

  /** One request to any path of the API; the answer's JSON. */
  async json<T>(request: Request): Promise<T> {
    const timeout = AbortSignal.timeout(request.timeoutMs ?? this.#options.timeoutMs ?? 30_000);
    const signal = request.signal ? AbortSignal.any([request.signal, timeout]) : timeout;
    const response = await this.#send({ ...request, signal });
    return JSON.parse(await bodyOf(response)) as T;
  }

  /** One request to any path of the API; the answer's text. */
  async text(request: Request): Promise<string> {
    return bodyOf(await this.#send(request));
  }

  /** Closes idle connections. */
  close(): void {
    this.#requests.destroy();
    this.#watches.destroy();
  }

  #send(
    { method, path, query, body, contentType, signal }: Request,
    agent: Agent = this.#requests,
  ): Promise<IncomingMessage> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const { token } = this.#options.access;
    return new Promise((resolve, reject) => {
      const outgoing = httpsRequest({
        agent,
        host: this.#base.hostname.replace(/^\[(.*)\]$/, '$1'),
        port: this.#base.port || 443,
        method,
        path: query?.size ? `${path}?${query}` : path,
        signal,
        headers: {
          accept: 'application/json',
          'user-agent': this.#options.userAgent,
          ...(token ? { authorization: `Bearer ${token}` } : {}),
          ...(payload ? { 'content-type': contentType ?? 'application/json', 'content-length': payload.length } : {}),
        },
      });
      outgoing.on('error', reject);
      outgoing.on('response', (response) => {
        if (response.statusCode! < 400) resolve(response);
        else bodyOf(response).then((text) => reject(failure(response.statusCode!, text)), reject);
      });
      outgoing.end(payload);
    });
  }
}

interface List<T> {
  readonly items: T[];
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
}

function finished<T>(object: T, { transform }: ListOptions): T {
  return transform ? (transform(object as AnyObject) as T) : object;
}

function listQuery(options: ListOptions): URLSearchParams {
  const query = new URLSearchParams();
  if (options.labelSelector) query.set('labelSelector', options.labelSelector);
  if (options.fieldSelector) query.set('fieldSelector', options.fieldSelector);
  return query;
}

/** Items of lists come without apiVersion and kind from a real server. */
function named<T extends Partial<KubeObject>>(object: T, place: ApiResource): T {
  object.apiVersion ??= apiVersionOf(place);
  object.kind ??= place.kind;
  return object;
}

function failure(code: number, text: string): Error {
  try {
    const status = JSON.parse(text) as Status;
    if (status.kind === 'Status') return new StatusError({ code, ...status });
  } catch {
    // not a Status: a proxy's page or a broken answer
  }
  return statusError('InternalError', `the server answered ${code}: ${text.slice(0, 300)}`);
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** Splits a byte stream into lines; a multi-byte character may lie across chunks. */
async function* lines(stream: AsyncIterable<Buffer>): AsyncIterable<string> {
  let rest: Buffer[] = [];
  for await (const chunk of stream) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield Buffer.concat([...rest, chunk.subarray(start, end)]).toString();
      rest = [];
      start = end + 1;
    }
    if (start < chunk.length) rest.push(chunk.subarray(start));
  }
}
