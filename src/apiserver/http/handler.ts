/**
 * The main path of a request: authenticate -> authorise -> discovery, health or a resource's verb -> encode. Nothing that a
 * client sends ends the process: whatever is thrown becomes a Status.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { statusError } from '../../kube/status.ts';
import { authenticate, type TokenAuthenticator } from '../auth/authenticate.ts';
import { type Attributes, forbidden, isAllowed } from '../auth/authorize.ts';
import type { User } from '../auth/user.ts';
import type { Api, ApiRequest } from '../context.ts';
import type { Discovery } from '../discovery.ts';
import { dispatch, isWatch, type SubresourceHandlers, verbOf } from '../dispatch.ts';
import type { Kind } from '../resources/kind.ts';
import { answerReview, reviewResources } from '../subresources/reviews.ts';
import { parseBody } from '../verbs/body.ts';
import { listsDefinitions, noDefinitions } from './custom-resources.ts';
import { parseResourcePath, type ResourcePath } from './paths.ts';
import { bodyReader } from './request-body.ts';
import { sendAnswer, sendBytes, sendError, statusOf } from './respond.ts';

/** Paths that are no resources: health, version, metrics, OpenAPI. Answers false when the path is not its own. */
export type PlainPaths = (path: string, request: IncomingMessage, response: ServerResponse) => Promise<boolean>;

/** Streams to a pod's node. */
export interface PodStreaming {
  request(call: StreamCall, request: IncomingMessage, response: ServerResponse): void;
  upgrade(call: StreamCall, request: IncomingMessage, socket: Duplex, head: Buffer): void;
  refuse(socket: Duplex, error: Error): void;
}

export interface StreamCall {
  readonly namespace: string;
  readonly name: string;
  readonly subresource: string;
  readonly query: URLSearchParams;
}

export interface HandlerOptions {
  readonly api: Api;
  readonly discovery: Discovery;
  readonly tokens: TokenAuthenticator;
  readonly plainPaths: PlainPaths;
  readonly streaming: () => Promise<PodStreaming>;
  readonly subresources: SubresourceHandlers;
  readonly onRequest: (verb: string, resource: string, code: number, seconds: number) => void;
  readonly signal: AbortSignal;
}

const STREAMING = new Set(['log', 'exec', 'attach', 'portforward']);

export class Handler {
  readonly #options: HandlerOptions;
  readonly #kinds = new Map<string, Kind>();

  constructor(options: HandlerOptions) {
    this.#options = options;
    for (const kind of options.api.kinds) this.#kinds.set(`${kind.group}/${kind.version}/${kind.plural}`, kind);
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const start = performance.now();
    const told = { verb: (request.method ?? '').toLowerCase(), resource: '' };
    response.once('close', () => {
      this.#options.onRequest(told.verb, told.resource, response.statusCode, (performance.now() - start) / 1000);
    });
    try {
      await this.#route(request, response, told);
    } catch (error) {
      const status = statusOf(error);
      if (status.code >= 500 && status.reason === 'InternalError')
        this.#options.api.log.error({ error, method: request.method, url: request.url }, 'a request failed');
      sendError(response, error);
      // What was not read of the body would be taken for the next request.
      if (!request.complete) request.resume();
    }
  }

  async #route(
    request: IncomingMessage,
    response: ServerResponse,
    told: { verb: string; resource: string },
  ): Promise<void> {
    const url = parseUrl(request.url ?? '/');
    const user = authenticate(request, this.#options.tokens);
    const path = parseResourcePath(url.pathname);
    if (!path) return this.#plain(url, user, request, response);
    const review = reviewResources.find(
      (other) => other.group === path.group && other.version === path.version && other.plural === path.plural,
    );
    const apiRequest = this.#apiRequest(request, response, url, user, path);
    told.verb = verbOf(apiRequest);
    told.resource = path.plural;
    this.#authorize(user, attributesOf(apiRequest, path, url.pathname));
    if (review) {
      if (request.method !== 'POST') throw methodNotAllowed();
      const body = answerReview(review, user, await parseBody(apiRequest));
      return sendAnswer(request, response, { type: 'json', code: 201, body }, url.searchParams);
    }
    if (listsDefinitions(path, told.verb)) {
      const body = noDefinitions(this.#options.api.cache.revision);
      return sendAnswer(request, response, { type: 'json', code: 200, body }, url.searchParams);
    }
    if (!apiRequest.kind) throw unknownResource();
    if (isStream(apiRequest)) {
      const streaming = await this.#options.streaming();
      streaming.request(streamCall(apiRequest), request, response);
      return;
    }
    const answer = await dispatch(this.#options.api, apiRequest, response, this.#options.subresources);
    if (answer) await sendAnswer(request, response, answer, url.searchParams);
  }

  /** The 'upgrade' event: exec, attach and port-forward, which end at the pod's node. */
  async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    try {
      const url = parseUrl(request.url ?? '/');
      const user = authenticate(request, this.#options.tokens);
      const path = parseResourcePath(url.pathname);
      const kind = path && this.#kindOf(path);
      if (!path || !kind || kind.plural !== 'pods' || path.name === undefined || !STREAMING.has(path.subresource ?? ''))
        throw statusError('BadRequest', 'this path cannot be upgraded to another protocol');
      const verb = request.method === 'POST' ? 'create' : 'get';
      this.#authorize(user, { verb, resource: path, path: url.pathname });
      const call = {
        namespace: path.namespace ?? '',
        name: path.name,
        subresource: path.subresource!,
        query: url.searchParams,
      };
      (await this.#options.streaming()).upgrade(call, request, socket, head);
    } catch (error) {
      await this.#refuse(socket, error);
    }
  }

  async #refuse(socket: Duplex, error: unknown): Promise<void> {
    try {
      (await this.#options.streaming()).refuse(socket, statusOf(error));
    } catch {
      socket.destroy();
    }
  }

  async #plain(url: URL, user: User, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const verb = (request.method ?? 'GET').toLowerCase();
    this.#authorize(user, { verb, path: url.pathname });
    const found = this.#options.discovery.answer(url.pathname, request.headers.accept);
    if (found) {
      if (verb !== 'get' && verb !== 'head') throw methodNotAllowed();
      return sendBytes(request, response, 200, Buffer.from(JSON.stringify(found.body)), found.contentType);
    }
    if (!(await this.#options.plainPaths(url.pathname, request, response))) throw unknownResource();
  }

  #authorize(user: User, attributes: Attributes): void {
    if (!isAllowed(user, attributes)) throw forbidden(user, attributes);
  }

  #kindOf(path: ResourcePath): Kind | undefined {
    return this.#kinds.get(`${path.group}/${path.version}/${path.plural}`);
  }

  #apiRequest(request: IncomingMessage, response: ServerResponse, url: URL, user: User, path: ResourcePath) {
    const kind = this.#kindOf(path) as Kind;
    const signal = AbortSignal.any([this.#options.signal, closedSignal(response)]);
    // A cluster-wide kind has no namespace, whatever the path says; a namespace is the name of itself.
    const namespace = kind && !kind.namespaced ? undefined : path.namespace;
    const warnings: string[] = [];
    const apiRequest: ApiRequest = {
      method: request.method ?? 'GET',
      kind,
      namespace,
      name: path.name,
      subresource: path.subresource,
      query: url.searchParams,
      headers: request.headers,
      user,
      signal,
      body: bodyReader(request),
      warn(text) {
        if (response.headersSent || warnings.includes(text)) return;
        warnings.push(text);
        response.setHeader('warning', warnings.map(warningHeader));
      },
    };
    return apiRequest;
  }
}

/** The reason is made once: an abort without one builds an exception with a stack for each request. */
const CLOSED = new DOMException('the request is over', 'AbortError');

function closedSignal(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  response.once('close', () => controller.abort(CLOSED));
  return controller.signal;
}

/** RFC 7234 section 5.5, code 299; control characters cannot stand in a header. */
function warningHeader(text: string): string {
  const clean = [...text]
    .filter((char) => char >= ' ' && char <= '~')
    .join('')
    .slice(0, 1000);
  return `299 - "${clean.replace(/["\\]/g, '\\$&')}"`;
}

function parseUrl(target: string): URL {
  try {
    const url = new URL(target.startsWith('/') ? `http://host${target.replace(/^\/+/, '/')}` : target);
    decodeURIComponent(url.pathname);
    return url;
  } catch (error) {
    throw statusError('BadRequest', `the path of the request cannot be understood`, {
      causes: [{ message: String(error) }],
    });
  }
}

function attributesOf(request: ApiRequest, path: ResourcePath, pathname: string): Attributes {
  return { verb: verbOf(request), resource: { ...path, name: path.name }, path: pathname };
}

function isStream(request: ApiRequest): boolean {
  return (
    request.kind.plural === 'pods' &&
    request.name !== undefined &&
    STREAMING.has(request.subresource ?? '') &&
    !isWatch(request)
  );
}

function streamCall(request: ApiRequest): StreamCall {
  return {
    namespace: request.namespace ?? '',
    name: request.name!,
    subresource: request.subresource!,
    query: request.query,
  };
}

const unknownResource = () => statusError('NotFound', 'the server could not find the requested resource', {});
const methodNotAllowed = () =>
  statusError('MethodNotAllowed', 'the server does not allow this method on the requested resource');
