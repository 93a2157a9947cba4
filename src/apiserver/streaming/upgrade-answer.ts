/** Writes HTTP answers by hand on a socket that Node's http server has handed over with the 'upgrade' event. */
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { StatusError } from '../../kube/status.ts';
import { statusOfText, textRefusal } from './node-refusal.ts';
import { type HeaderMap, responseHeaders } from './proxy-headers.ts';

/** Answers an upgrade request with the error's Status object and closes the connection. */
export function refuseUpgrade(socket: Duplex, error: StatusError): void {
  if (socket.destroyed || socket.writableEnded) return;
  const body = JSON.stringify(error.status);
  const headers = { 'Content-Type': 'application/json', 'Content-Length': String(Buffer.byteLength(body)) };
  socket.end(`${answerHead(error.code, undefined, { ...headers, Connection: 'close' })}${body}`);
}

/**
 * Hands a node's refusal back as it is: status, headers and body. One case is put into a Status object: text that reads as
 * a YAML mapping ("attach: no such process"). client-go tries to decode every refusal as a Status, from YAML too, takes
 * such a text for an empty one, and kubectl prints "Error from server: " and nothing more.
 */
export async function relayRefusal(answer: IncomingMessage, socket: Duplex): Promise<void> {
  const code = answer.statusCode ?? 502;
  const text = await textRefusal(answer);
  if (text !== undefined && /^[^\n]*:\s/.test(text)) {
    refuseUpgrade(socket, statusOfText(code, text));
    return;
  }
  const headers = { ...responseHeaders(answer.rawHeaders), Connection: 'close' };
  socket.write(answerHead(code, answer.statusMessage, headers));
  if (text !== undefined) {
    socket.end(text);
    return;
  }
  answer.on('error', () => socket.destroy());
  answer.pipe(socket);
}

/** The 101 answer of a node, for the client. */
export function switchingProtocols(answer: IncomingMessage): string {
  return answerHead(101, answer.statusMessage, {
    ...responseHeaders(answer.rawHeaders),
    Connection: 'Upgrade',
    Upgrade: answer.headers.upgrade ?? '',
  });
}

function answerHead(code: number, reason: string | undefined, headers: HeaderMap): string {
  const lines = Object.entries(headers).flatMap(([name, values]) =>
    [values].flat().map((value) => `${name}: ${value}\r\n`),
  );
  return `HTTP/1.1 ${code} ${reason || STATUS_CODES[code] || 'Unknown'}\r\n${lines.join('')}\r\n`;
}
