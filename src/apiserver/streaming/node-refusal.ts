/** A node answers errors in plain text; API clients want a Status object. */
import type { IncomingMessage } from 'node:http';
import { StatusError, type StatusReason, statusCodes, statusError } from '../../kube/status.ts';

/** Error texts are one line; what is longer is no error text. */
const MAX_TEXT_BYTES = 50_000;

/** The Status of a node's error; undefined when the answer is none, or is a Status already: its body is then untouched. */
export async function nodeRefusal(answer: IncomingMessage): Promise<StatusError | undefined> {
  const text = await textRefusal(answer);
  return text === undefined ? undefined : statusOfText(answer.statusCode ?? 500, text);
}

/** The text of an answer that is an error in text; undefined for any other, whose body is then untouched. */
export async function textRefusal(answer: IncomingMessage): Promise<string | undefined> {
  const code = answer.statusCode ?? 500;
  if (code < 400 || answer.headers['content-type']?.startsWith('application/json')) return undefined;
  return await readText(answer);
}

/** The Status of an HTTP code and the node's text. */
export function statusOfText(code: number, text: string): StatusError {
  const message = text.trim() || `the node answered with status ${code}`;
  const reason = (Object.keys(statusCodes) as StatusReason[]).find((key) => statusCodes[key] === code);
  if (reason) return statusError(reason, reason === 'InternalError' ? `Internal error occurred: ${message}` : message);
  return new StatusError({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, code });
}

async function readText(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > MAX_TEXT_BYTES) break;
    }
  } catch {
    // The node broke off: what has arrived of its text is all there is to say.
  }
  return Buffer.concat(chunks).toString().slice(0, MAX_TEXT_BYTES);
}
