/**
 * A read-only container registry (OCI distribution-spec 1.1, pull) over image layouts: what every node's containerd is told
 * to pull from, for every registry name. An image that no layout holds is answered with 404, which kubectl shows as
 * ErrImagePull: nothing ever leaves the machine.
 */
import { createReadStream } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { blobSize, type Descriptor, type OciLayout } from './layout.ts';
import { type ImageReference, parseReference } from './reference.ts';

const ROUTE = /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/;

/** The server, not yet listening. The layouts are asked in order at each request, so added images are there at once. */
export function createRegistry(layouts: readonly OciLayout[]): Server {
  return createServer({ keepAliveTimeout: 5_000 }, (request, response) => answer(layouts, request, response));
}

function answer(layouts: readonly OciLayout[], request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'http://registry');
  if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(response, 405, 'UNSUPPORTED', 'read-only');
  if (url.pathname === '/v2/' || url.pathname === '/v2') return void response.end('{}');
  const [, repository, kind, id] = ROUTE.exec(decodeURI(url.pathname)) ?? [];
  // containerd names the registry that it asks a mirror for; others ask under this server's own name.
  const registry = url.searchParams.get('ns') ?? request.headers.host ?? 'docker.io';
  if (!repository || !id) return refuse(response, 404, 'NAME_UNKNOWN', `no such path: ${url.pathname}`);
  if (kind === 'manifests') return manifest(layouts, registry, repository, id, request, response);
  if (kind === 'blobs') return blob(layouts, id, 'application/octet-stream', request, response);
  const tags = layouts
    .flatMap((layout) => layout.list())
    .filter((image) => image.reference.repository === repository)
    .map((image) => image.reference.tag);
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ name: repository, tags }));
}

function manifest(
  layouts: readonly OciLayout[],
  registry: string,
  repository: string,
  id: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const found = resolve(layouts, registry, repository, id);
  if (!found) return refuse(response, 404, 'MANIFEST_UNKNOWN', `${registry}/${repository}:${id} is not loaded`);
  response.setHeader('docker-content-digest', found.digest);
  blob(layouts, found.digest, found.mediaType, request, response);
}

function resolve(
  layouts: readonly OciLayout[],
  registry: string,
  repository: string,
  id: string,
): Descriptor | undefined {
  let reference: ImageReference;
  try {
    reference = parseReference(`${registry}/${repository}${id.startsWith('sha256:') ? '@' : ':'}${id}`);
  } catch {
    return undefined;
  }
  for (const layout of layouts) {
    const found = layout.resolve(reference);
    if (found) return found;
  }
  return undefined;
}

function blob(
  layouts: readonly OciLayout[],
  digest: string,
  mediaType: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const layout = layouts.find((one) => one.hasBlob(digest));
  if (!layout) return refuse(response, 404, 'BLOB_UNKNOWN', `no blob ${digest}`);
  response.setHeader('content-type', mediaType);
  response.setHeader('content-length', blobSize(layout, digest));
  if (request.method === 'HEAD') return void response.end();
  createReadStream(layout.blobPath(digest))
    .on('error', () => response.destroy())
    .pipe(response);
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ errors: [{ code, message }] }));
}
