/** /openapi/v2 and /openapi/v3. Documents are made when first asked for and kept as bytes. */
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { sendBytes } from '../http/respond.ts';
import type { Kind } from '../resources/kind.ts';
import { definitionsOf } from './definitions.ts';
import { pathsOf } from './operations.ts';
import { encodeSwagger } from './protobuf.ts';

const INFO = { title: 'Kubernetes', version: 'v1.36.0' };
/** Clients ask for "…v2@v1.0+protobuf", which is no valid media type to answer with. */
const SWAGGER_PROTOBUF = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';

const documents = new Map<string, Buffer>();

function document(name: string, make: () => Buffer): Buffer {
  let bytes = documents.get(name);
  if (!bytes) {
    bytes = make();
    documents.set(name, bytes);
  }
  return bytes;
}

export async function answerOpenApi(
  kinds: readonly Kind[],
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<boolean> {
  if (path === '/openapi/v2') {
    await sendSwagger(kinds, request, response);
    return true;
  }
  const groups = Map.groupBy(kinds, (kind) => groupPath(kind));
  if (path === '/openapi/v3') {
    const paths = Object.fromEntries(
      [...groups].map(([group, members]) => {
        const hash = createHash('sha256')
          .update(groupDocument(group, members))
          .digest('hex')
          .slice(0, 32)
          .toUpperCase();
        return [group, { serverRelativeURL: `/openapi/v3/${group}?hash=${hash}` }];
      }),
    );
    await sendBytes(request, response, 200, Buffer.from(JSON.stringify({ paths })));
    return true;
  }
  const group = path.slice('/openapi/v3/'.length);
  const members = groups.get(group);
  if (!members) return false;
  await sendBytes(request, response, 200, groupDocument(group, members));
  return true;
}

const groupPath = ({ group, version }: Kind) => (group ? `apis/${group}/${version}` : `api/${version}`);

function groupDocument(group: string, members: readonly Kind[]): Buffer {
  return document(`v3 ${group}`, () =>
    Buffer.from(
      JSON.stringify({
        openapi: '3.0.0',
        info: INFO,
        paths: pathsOf(members, 3),
        components: { schemas: definitionsOf(members, 3) },
      }),
    ),
  );
}

async function sendSwagger(kinds: readonly Kind[], request: IncomingMessage, response: ServerResponse): Promise<void> {
  const wantsProtobuf = (request.headers.accept ?? '').includes('proto-openapi');
  const make = () => ({ swagger: '2.0', info: INFO, paths: pathsOf(kinds, 2), definitions: definitionsOf(kinds, 2) });
  const bytes = wantsProtobuf
    ? document('v2 protobuf', () => encodeSwagger(make()))
    : document('v2 json', () => Buffer.from(JSON.stringify(make())));
  await sendBytes(request, response, 200, bytes, wantsProtobuf ? SWAGGER_PROTOBUF : 'application/json');
}
