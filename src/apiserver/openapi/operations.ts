/** The paths of OpenAPI documents: which operations a kind has, with the parameters and extensions that clients look for. */
import { apiVersionOf } from '../../kube/names.ts';
import { subresourcesOf } from '../discovery.ts';
import type { Kind } from '../resources/kind.ts';
import type { OpenApiVersion } from './definitions.ts';

export const PATCH_TYPES = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
] as const;

type Operation = Record<string, unknown>;

export function pathsOf(kinds: readonly Kind[], version: OpenApiVersion): Record<string, object> {
  const paths: Record<string, object> = {};
  for (const kind of kinds) {
    const prefix = kind.group ? `/apis/${kind.group}/${kind.version}` : `/api/${kind.version}`;
    const collection = kind.namespaced ? `${prefix}/namespaces/{namespace}/${kind.plural}` : `${prefix}/${kind.plural}`;
    if (kind.namespaced) paths[`${prefix}/${kind.plural}`] = { get: operation(kind, 'list', version) };
    paths[collection] = {
      get: operation(kind, 'list', version),
      post: operation(kind, 'post', version),
      delete: operation(kind, 'deletecollection', version),
    };
    paths[`${collection}/{name}`] = {
      get: operation(kind, 'get', version),
      put: operation(kind, 'put', version),
      patch: operation(kind, 'patch', version),
      delete: operation(kind, 'delete', version),
    };
    if (subresourcesOf(kind).some((sub) => sub.name === 'status')) {
      paths[`${collection}/{name}/status`] = {
        get: operation(kind, 'get', version),
        put: operation(kind, 'put', version),
        patch: operation(kind, 'patch', version),
      };
    }
  }
  return paths;
}

const WRITING = new Set(['post', 'put', 'patch']);

function operation(kind: Kind, action: string, version: OpenApiVersion): Operation {
  const { group, version: apiVersion, kind: name } = kind;
  const ref = version === 3 ? '#/components/schemas/' : '#/definitions/';
  const schema = { $ref: `${ref}${kind.schema.name}${action === 'list' ? 'List' : ''}` };
  const parameters = WRITING.has(action) ? writeParameters(version) : [];
  const content = { 'application/json': { schema } };
  return {
    description: `${action} ${kind.plural} of ${apiVersionOf(kind)}`,
    operationId: `${action}${group.replace(/\W/g, '')}${apiVersion}${name}`,
    ...(version === 2 ? { consumes: action === 'patch' ? PATCH_TYPES : ['*/*'], produces: ['application/json'] } : {}),
    parameters,
    ...(version === 3 && WRITING.has(action) ? { requestBody: requestBody(kind, action) } : {}),
    responses: { 200: { description: 'OK', ...(version === 3 ? { content } : { schema }) } },
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': { group, version: apiVersion, kind: name },
  };
}

function requestBody(kind: Kind, action: string): object {
  const types: readonly string[] = action === 'patch' ? PATCH_TYPES : ['application/json', 'application/yaml'];
  const schema = action === 'patch' ? { type: 'object' } : { $ref: `#/components/schemas/${kind.schema.name}` };
  return { content: Object.fromEntries(types.map((type) => [type, { schema }])), required: true };
}

/** kubectl sends these only to servers that announce them. */
function writeParameters(version: OpenApiVersion): object[] {
  const parameter = (name: string, description: string) => ({
    name,
    in: 'query',
    description,
    ...(version === 3 ? { schema: { type: 'string', uniqueItems: true } } : { type: 'string', uniqueItems: true }),
  });
  return [
    parameter('dryRun', 'When All, everything is checked and nothing is stored.'),
    parameter('fieldManager', 'The name of who makes these changes.'),
    parameter('fieldValidation', 'What unknown fields lead to: Ignore, Warn or Strict.'),
  ];
}
