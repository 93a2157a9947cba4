/** Reads a request's body within a bound. */
import type { IncomingMessage } from 'node:http';
import { statusError } from '../../kube/status.ts';

/** As in Kubernetes (--max-request-bytes of etcd times two). */
export const MAX_BODY_BYTES = 3 * 1024 * 1024;

export function bodyReader(request: IncomingMessage): () => Promise<Buffer> {
  let result: Promise<Buffer> | undefined;
  return () => {
    result ??= read(request);
    return result;
  };
}

async function read(request: IncomingMessage): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw tooLarge();
  if (request.headers['content-encoding'] !== undefined && request.headers['content-encoding'] !== 'identity')
    throw statusError(
      'UnsupportedMediaType',
      `content-encoding ${request.headers['content-encoding']} is not supported`,
    );
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw tooLarge();
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

const tooLarge = () => statusError('RequestEntityTooLarge', `Request entity too large: limit is ${MAX_BODY_BYTES}`);
