/** Opens upgraded connections to the container runtime's streaming server (CRI's Exec, Attach and PortForward URLs). */
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { Duplex } from 'node:stream';
import { type StatusError, type StatusReason, statusCodes, statusError } from '../../../kube/status.ts';

/** The runtime's streaming server is on this machine. */
const CONNECT_TIMEOUT_MS = 10_000;

export interface RuntimeConnection {
  /** The 101 answer: the protocol chosen is in X-Stream-Protocol-Version. */
  readonly answer: IncomingMessage;
  readonly socket: Duplex;
}

/**
 * Asks the runtime for SPDY/3.1 with one of the given stream protocols. Rejects with a StatusError: the runtime's own
 * code and text when it refuses, InternalError when there is no connection.
 */
export function connectRuntime(url: string, streamProtocols: readonly string[]): Promise<RuntimeConnection> {
  const { promise, resolve, reject } = Promise.withResolvers<RuntimeConnection>();
  const options: http.RequestOptions = {
    method: 'POST',
    agent: false,
    timeout: CONNECT_TIMEOUT_MS,
    headers: {
      Connection: 'Upgrade',
      Upgrade: 'SPDY/3.1',
      'Content-Length': '0',
      ...(streamProtocols.length > 0 ? { 'X-Stream-Protocol-Version': [...streamProtocols] } : {}),
    },
  };
  const request = url.startsWith('https:') ? https.request(url, options) : http.request(url, options);
  const fail = (error: Error) => reject(statusError('InternalError', `container runtime streaming: ${error.message}`));
  request.once('timeout', () => request.destroy(new Error('i/o timeout')));
  request.on('error', fail);
  request.once('response', (answer) => void refusal(answer).then(reject, fail));
  request.once('upgrade', (answer, socket, head) => {
    socket.setTimeout(0);
    // Who takes the socket over hears of its 'close'; an error before that must not end the process.
    socket.on('error', () => {});
    socket.setNoDelay(true);
    if (head.length > 0) socket.unshift(head);
    resolve({ answer, socket });
  });
  request.end();
  return promise;
}

async function refusal(answer: IncomingMessage): Promise<StatusError> {
  let text = '';
  for await (const chunk of answer) {
    text += chunk;
    if (text.length > 10_000) break;
  }
  const code = answer.statusCode ?? 500;
  const reason = (Object.keys(statusCodes) as StatusReason[]).find((key) => statusCodes[key] === code);
  return statusError(reason ?? 'InternalError', text.trim() || `the container runtime answered with status ${code}`);
}
