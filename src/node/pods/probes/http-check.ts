/** HTTP requests of probes and lifecycle hooks. Certificates are not checked, as in the kubelet. */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { hostPort } from '../../../base/ip.ts';
import type { corev1 } from '../../../kube/types.ts';
import { resolvePort } from './ports.ts';

/** Of a redirect chain, as Go's http.Client. */
const MAX_REDIRECTS = 10;
/** How much of a body is read for an event's message (the kubelet reads 10 KiB). */
const MAX_BODY = 10 * 1024;
const USER_AGENT = 'kube-probe/1.36';

export interface HttpResult {
  readonly statusCode: number;
  readonly body: string;
}

export interface HttpCheck {
  readonly url: URL;
  readonly headers: Record<string, string>;
}

/** The request of an httpGet action; `podIP` where the action names no host. */
export function httpCheck(action: corev1.HTTPGetAction, container: corev1.Container, podIP: string): HttpCheck {
  const scheme = (action.scheme ?? 'HTTP').toLowerCase();
  const host = hostPort(action.host || podIP, resolvePort(action.port, container));
  const path = action.path ?? '/';
  const url = new URL(`${scheme}://${host}${path.startsWith('/') ? path : `/${path}`}`);
  const headers: Record<string, string> = { 'User-Agent': USER_AGENT, Accept: '*/*', Connection: 'close' };
  for (const { name, value } of action.httpHeaders ?? []) {
    const known = Object.keys(headers).find((key) => key.toLowerCase() === name.toLowerCase());
    if (known) delete headers[known];
    if (value !== '') headers[name] = value;
  }
  return { url, headers };
}

/** Follows redirects to the same host; one that leads elsewhere is the answer. Rejects when there is none in time. */
export async function httpGet(check: HttpCheck, timeoutMs: number): Promise<HttpResult> {
  const signal = AbortSignal.timeout(timeoutMs);
  let { url } = check;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const response = await send(url, check.headers, signal);
    const { statusCode = 0 } = response;
    const location = statusCode >= 300 && statusCode < 400 ? response.headers.location : undefined;
    const target = location === undefined ? undefined : new URL(location, url);
    if (!target || target.hostname !== url.hostname) return { statusCode, body: await readBody(response) };
    response.destroy();
    url = target;
  }
  throw new Error(`stopped after ${MAX_REDIRECTS} redirects`);
}

function send(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const secure = url.protocol === 'https:';
    const request = secure
      ? httpsRequest(url, { headers, signal, agent: new HttpsAgent({ keepAlive: false }), rejectUnauthorized: false })
      : httpRequest(url, { headers, signal, agent: new HttpAgent({ keepAlive: false }) });
    const fail = (error: Error) =>
      reject(signal.aborted ? new Error(`Get "${url}": context deadline exceeded (Client.Timeout exceeded)`) : error);
    request.on('error', fail);
    request.on('response', resolve);
    request.end();
  });
}

async function readBody(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size >= MAX_BODY) break;
    }
  } catch {
    // The status has been told; a body that breaks off changes nothing.
  }
  response.destroy();
  return Buffer.concat(chunks).subarray(0, MAX_BODY).toString();
}
