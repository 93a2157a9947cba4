/** Which headers pass through a proxy. Pure. */

/** Headers as name -> value or values, in the spelling of the first occurrence. */
export type HeaderMap = Record<string, string | string[]>;

/** RFC 9110 section 7.6.1: these belong to one connection, not to the message. */
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** What proves or claims who the user is: a node must not see it, it could act in the user's name. */
const isCredential = (name: string): boolean =>
  name === 'authorization' ||
  name === 'cookie' ||
  name.startsWith('impersonate-') ||
  name.startsWith('x-remote-') ||
  name === 'x-forwarded-client-cert';

/** Browsers cannot set Authorization on a WebSocket: Kubernetes takes the token as a subprotocol of this prefix. */
const BEARER_PROTOCOL = 'base64url.bearer.authorization.k8s.io.';

/** The headers of a client's request as they go to the node. Without Host: that one is the node's. */
export function requestHeaders(rawHeaders: readonly string[]): HeaderMap {
  return collect(rawHeaders, (name, value) => {
    if (name === 'host' || isCredential(name)) return undefined;
    return name === 'sec-websocket-protocol' ? withoutBearer(value) : value;
  });
}

/** The headers of the node's answer as they go to the client. */
export function responseHeaders(rawHeaders: readonly string[]): HeaderMap {
  return collect(rawHeaders, (_name, value) => value);
}

function withoutBearer(protocols: string): string | undefined {
  const kept = protocols
    .split(',')
    .map((protocol) => protocol.trim())
    .filter((protocol) => !protocol.startsWith(BEARER_PROTOCOL));
  return kept.join(', ') || undefined;
}

function collect(
  rawHeaders: readonly string[],
  pass: (name: string, value: string) => string | undefined,
): Record<string, string | string[]> {
  const dropped = connectionOptions(rawHeaders);
  const spelling = new Map<string, string>();
  const result: HeaderMap = {};
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    if (hopByHop.has(name) || dropped.has(name)) continue;
    const value = pass(name, rawHeaders[i + 1]!);
    if (value === undefined) continue;
    const key = spelling.get(name) ?? rawHeaders[i]!;
    spelling.set(name, key);
    const before = result[key];
    result[key] = before === undefined ? value : [before, value].flat();
  }
  return result;
}

/** The names that the message's own Connection headers declare as hop-by-hop. */
function connectionOptions(rawHeaders: readonly string[]): Set<string> {
  const names = new Set<string>();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (rawHeaders[i]!.toLowerCase() !== 'connection') continue;
    for (const option of rawHeaders[i + 1]!.split(',')) names.add(option.trim().toLowerCase());
  }
  return names;
}
