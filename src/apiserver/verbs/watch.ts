/**
 * GET of a collection with watch=true: a stream of events, one JSON line each.
 *
 * The queue of a watcher holds references to shared frames. What a client does not read in time fills its queue; beyond the
 * bound the stream ends, and the client lists or watches again from the last version it saw.
 */
import type { ServerResponse } from 'node:http';
import { apiVersionOf } from '../../kube/names.ts';
import { statusError } from '../../kube/status.ts';
import type { StoredObject, WatchType } from '../cache/stored-object.ts';
import type { Api, ApiRequest } from '../context.ts';
import { type Form, formOf } from '../http/negotiation.ts';
import { tableOptions } from '../http/respond.ts';
import { type IncludeObject, metadataOf, tableOf } from '../http/table.ts';
import type { Kind } from '../resources/kind.ts';
import { isTrue, numberParameter, queryOf, revisionOf } from './selection.ts';

/** Events that may wait for a slow client, besides those of the initial state. */
const MAX_QUEUE = 10_000;
const BOOKMARK_INTERVAL_MS = 60_000;
/** Without timeoutSeconds a watch lasts between one and two of these, so that clients do not all return at once. */
const MIN_TIMEOUT_MS = 1_800_000;

export async function watch(api: Api, request: ApiRequest, response: ServerResponse): Promise<void> {
  const { kind } = request;
  const query = queryOf(request);
  const sendInitial = initialEventsOf(request);
  const asked = revisionOf(request);
  const timeoutSeconds = numberParameter(request, 'timeoutSeconds');
  const form = formOf(request.headers.accept);
  const encoder = new EventEncoder(kind, form, form === 'table' ? tableOptions(request.query).includeObject : 'None');
  if (asked && sendInitial) await api.cache.waitFor(asked);
  if (request.signal.aborted) return;
  const cache = api.cache.of(kind);
  const bookmarks = isTrue(request, 'allowWatchBookmarks');
  const stream = new WatchStream(response, encoder);
  const now = api.cache.revision;
  if (sendInitial) {
    for (const stored of cache.list(query)) stream.pushInitial('ADDED', stored);
    if (isTrue(request, 'sendInitialEvents') && bookmarks) stream.pushBookmark(now, 'end of initial events');
  }
  const from = sendInitial ? now : (asked ?? now);
  if (from > now) await api.cache.waitFor(from);
  const stop = cache.watch(query, from, (type, stored) => stream.push(type, stored));
  if (!stop) {
    stream.fail(statusError('Expired', `too old resource version: ${from} (${now})`).status);
    return;
  }
  const lifetime = timeoutSeconds ? timeoutSeconds * 1000 : MIN_TIMEOUT_MS * (1 + Math.random());
  const timeout = setTimeout(() => stream.end(), Math.min(lifetime, 0x7fffffff));
  const ticker = bookmarks
    ? setInterval(() => stream.pushBookmark(api.cache.revision), BOOKMARK_INTERVAL_MS)
    : undefined;
  const onAbort = () => stream.end();
  request.signal.addEventListener('abort', onAbort, { once: true });
  await stream.closed;
  request.signal.removeEventListener('abort', onAbort);
  stop();
  clearTimeout(timeout);
  clearInterval(ticker);
}

/** Whether the stream begins with the present state. */
function initialEventsOf(request: ApiRequest): boolean {
  const { query } = request;
  const asked = revisionOf(request);
  if (!query.has('sendInitialEvents')) return asked === undefined || asked === 0;
  if (query.get('resourceVersionMatch') !== 'NotOlderThan') {
    throw statusError(
      'Invalid',
      'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan',
    );
  }
  return isTrue(request, 'sendInitialEvents');
}

/** Encodes events in the form of one watch. */
class EventEncoder {
  readonly #kind: Kind;
  readonly #form: Form;
  readonly #includeObject: IncludeObject;
  #columnsSent = false;

  constructor(kind: Kind, form: Form, includeObject: IncludeObject) {
    this.#kind = kind;
    this.#form = form;
    this.#includeObject = includeObject;
  }

  event(type: WatchType, stored: StoredObject): Buffer {
    if (this.#form === 'object') return stored.frame(type);
    const object = this.#form === 'metadata' ? metadataOf(stored) : this.#table(stored);
    return Buffer.from(`${JSON.stringify({ type, object })}\n`);
  }

  #table(stored: StoredObject): object {
    const metadata = { resourceVersion: stored.object.metadata.resourceVersion };
    const columns = this.#columnsSent ? 'without columns' : 'with columns';
    this.#columnsSent = true;
    return tableOf(this.#kind, [stored], metadata, columns, {
      includeObject: this.#includeObject,
      now: Date.now(),
    });
  }

  bookmark(revision: number, endOfInitial: boolean): Buffer {
    const annotations = endOfInitial ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {};
    const metadata = { resourceVersion: String(revision), creationTimestamp: null, ...annotations };
    const object =
      this.#form === 'table'
        ? { kind: 'Table', apiVersion: 'meta.k8s.io/v1', metadata, columnDefinitions: [], rows: [] }
        : this.#form === 'metadata'
          ? { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata }
          : { kind: this.#kind.kind, apiVersion: apiVersionOf(this.#kind), metadata };
    return Buffer.from(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
  }
}

class WatchStream {
  readonly closed: Promise<void>;
  readonly #response: ServerResponse;
  readonly #encoder: EventEncoder;
  /** Frames are made only when they are written. */
  #queue: (() => Buffer)[] = [];
  #initialCount = 0;
  #isBlocked = false;
  #isScheduled = false;
  #isEnded = false;

  constructor(response: ServerResponse, encoder: EventEncoder) {
    this.#response = response;
    this.#encoder = encoder;
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
    response.flushHeaders();
    response.on('drain', () => {
      this.#isBlocked = false;
      this.#pump();
    });
    this.closed = new Promise((resolve) => {
      response.once('close', resolve);
    });
  }

  pushInitial(type: WatchType, stored: StoredObject): void {
    this.#initialCount++;
    this.#enqueue(() => this.#encoder.event(type, stored));
  }

  push(type: WatchType, stored: StoredObject): void {
    this.#enqueue(() => this.#encoder.event(type, stored));
  }

  pushBookmark(revision: number, which?: 'end of initial events'): void {
    this.#enqueue(() => this.#encoder.bookmark(revision, which !== undefined));
  }

  /** Tells of an error as an event, and ends. */
  fail(status: object): void {
    this.#queue = [() => Buffer.from(`${JSON.stringify({ type: 'ERROR', object: status })}\n`)];
    this.end();
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#write();
    this.#response.end();
  }

  #enqueue(frame: () => Buffer): void {
    if (this.#isEnded) return;
    if (this.#queue.length > MAX_QUEUE + this.#initialCount) {
      this.#isEnded = true;
      this.#queue = [];
      this.#response.destroy();
      return;
    }
    this.#queue.push(frame);
    if (this.#isScheduled || this.#isBlocked) return;
    // Events of the same turn go out together.
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (!this.#isEnded && !this.#isBlocked && !this.#response.destroyed) this.#write();
  }

  #write(): void {
    if (this.#queue.length === 0) return;
    let written = 0;
    this.#response.cork();
    for (const frame of this.#queue) {
      written++;
      if (!this.#response.write(frame()) && !this.#isEnded) {
        this.#isBlocked = true;
        break;
      }
    }
    this.#response.uncork();
    this.#queue = this.#queue.slice(written);
  }
}
