/** GET of a collection with watch=true: a stream of events, one JSON line each (watch-stream.ts). */
import type { ServerResponse } from 'node:http';
import { statusError } from '../../kube/status.ts';
import type { Api, ApiRequest } from '../context.ts';
import { formOf } from '../http/negotiation.ts';
import { tableOptions } from '../http/respond.ts';
import { isTrue, numberParameter, queryOf, revisionOf } from './selection.ts';
import { EventEncoder, WatchStream } from './watch-stream.ts';

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
