/** Writes answers: in the form that the client accepts, compressed when large, errors as Status. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { apiVersionOf } from '../../kube/names.ts';
import { StatusError, statusError } from '../../kube/status.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import type { Answer, ListAnswer } from '../context.ts';
import type { Kind } from '../resources/kind.ts';
import { type Form, formOf } from './negotiation.ts';
import { type IncludeObject, metadataOf, tableOf } from './table.ts';

const compress = promisify(gzip);

/** Smaller answers cost more to compress than to send (Kubernetes' own threshold). */
const COMPRESS_FROM_BYTES = 128 * 1024;

export async function sendAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
  query: URLSearchParams,
): Promise<void> {
  const code = answer.type === 'list' ? 200 : answer.code;
  if (answer.type === 'json') return sendBytes(request, response, code, Buffer.from(JSON.stringify(answer.body)));
  const form = formOf(request.headers.accept);
  const bytes =
    answer.type === 'object'
      ? encodeObject(answer.kind, answer.stored, form, query)
      : encodeList(answer.kind, answer.list, form, query);
  return sendBytes(request, response, code, bytes);
}

function encodeObject(kind: Kind, stored: StoredObject, form: Form, query: URLSearchParams): Buffer {
  switch (form) {
    case 'object':
      return stored.json();
    case 'metadata':
      return Buffer.from(JSON.stringify(metadataOf(stored)));
    case 'table': {
      const metadata = { resourceVersion: stored.object.metadata.resourceVersion };
      return Buffer.from(JSON.stringify(tableOf(kind, [stored], metadata, 'with columns', tableOptions(query))));
    }
  }
}

export function tableOptions(query: URLSearchParams): { includeObject: IncludeObject; now: number } {
  const include = query.get('includeObject') || 'Metadata';
  if (include !== 'None' && include !== 'Metadata' && include !== 'Object')
    throw statusError('BadRequest', `unrecognized includeObject value: ${JSON.stringify(include)}`);
  return { includeObject: include, now: Date.now() };
}

function listMetadata(list: ListAnswer): object {
  return {
    resourceVersion: String(list.revision),
    ...(list.continue ? { continue: list.continue } : {}),
    ...(list.remaining === undefined ? {} : { remainingItemCount: list.remaining }),
  };
}

const COMMA = Buffer.from(',');

function encodeList(kind: Kind, list: ListAnswer, form: Form, query: URLSearchParams): Buffer {
  const metadata = listMetadata(list);
  if (form === 'table')
    return Buffer.from(JSON.stringify(tableOf(kind, list.items, metadata, 'with columns', tableOptions(query))));
  if (form === 'metadata') {
    const items = list.items.map(metadataOf);
    const body = { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1', metadata, items };
    return Buffer.from(JSON.stringify(body));
  }
  const head = { kind: `${kind.kind}List`, apiVersion: apiVersionOf(kind), metadata };
  const parts: Buffer[] = [Buffer.from(`${JSON.stringify(head).slice(0, -1)},"items":[`)];
  list.items.forEach((stored, i) => {
    if (i > 0) parts.push(COMMA);
    parts.push(stored.json());
  });
  parts.push(Buffer.from(']}\n'));
  return Buffer.concat(parts);
}

export async function sendBytes(
  request: IncomingMessage,
  response: ServerResponse,
  code: number,
  bytes: Buffer,
  contentType = 'application/json',
): Promise<void> {
  const accepts = String(request.headers['accept-encoding'] ?? '').includes('gzip');
  const compressed = accepts && bytes.length >= COMPRESS_FROM_BYTES;
  const body = compressed ? await compress(bytes, { level: 1 }) : bytes;
  response.writeHead(code, {
    'content-type': contentType,
    'content-length': body.length,
    'cache-control': 'no-cache, private',
    ...(compressed ? { 'content-encoding': 'gzip', vary: 'Accept-Encoding' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

/** Whatever was thrown, as a Status. What is no StatusError is the server's own fault. */
export function statusOf(error: unknown): StatusError {
  if (error instanceof StatusError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return statusError('InternalError', `Internal error occurred: ${message}`, {
    causes: [{ reason: 'InternalError', message, field: '' }],
  });
}

export function sendError(response: ServerResponse, error: unknown): void {
  const { status, code } = statusOf(error);
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const body = Buffer.from(JSON.stringify(status));
  const retry = status.details?.retryAfterSeconds;
  response.writeHead(code, {
    'content-type': 'application/json',
    'content-length': body.length,
    'cache-control': 'no-cache, private',
    ...(retry ? { 'retry-after': String(retry) } : {}),
  });
  response.end(body);
}
