/** From an authorised request for a resource to its verb. */
import type { ServerResponse } from 'node:http';
import { statusError } from '../kube/status.ts';
import type { Answer, Api, ApiRequest } from './context.ts';
import { subresourcesOf } from './discovery.ts';
import { bindPod } from './subresources/binding.ts';
import { evictPod } from './subresources/eviction.ts';
import { finalizeNamespace } from './subresources/finalize.ts';
import { scale } from './subresources/scale.ts';
import { create } from './verbs/create.ts';
import { remove } from './verbs/delete.ts';
import { deleteCollection } from './verbs/deletecollection.ts';
import { get } from './verbs/get.ts';
import { list } from './verbs/list.ts';
import { patch } from './verbs/patch.ts';
import { isTrue } from './verbs/selection.ts';
import { update } from './verbs/update.ts';
import { watch } from './verbs/watch.ts';

type Handler = (api: Api, request: ApiRequest) => Promise<Answer>;

const collectionVerbs: Readonly<Record<string, Handler>> = {
  GET: list,
  HEAD: list,
  POST: create,
  DELETE: deleteCollection,
};
const objectVerbs: Readonly<Record<string, Handler>> = {
  GET: get,
  HEAD: get,
  PUT: update,
  PATCH: patch,
  DELETE: remove,
};
const statusVerbs: Readonly<Record<string, Handler>> = { GET: get, PUT: update, PATCH: patch };

const subresourceVerbs: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
  status: statusVerbs,
  scale: { GET: scale, PUT: scale, PATCH: scale },
  'pods/binding': { POST: bindPod },
  'pods/eviction': { POST: evictPod },
  'namespaces/finalize': { PUT: finalizeNamespace, PATCH: finalizeNamespace },
};

/** Handlers of subresources that need more of the server than the verbs do. */
export type SubresourceHandlers = Readonly<Record<string, Readonly<Record<string, Handler>>>>;

export function isWatch(request: Pick<ApiRequest, 'method' | 'query' | 'subresource'>): boolean {
  return request.method === 'GET' && !request.subresource && isTrue(request, 'watch');
}

/** The verb in the words of authorisation. */
export function verbOf(request: Pick<ApiRequest, 'method' | 'query' | 'subresource' | 'name'>): string {
  switch (request.method) {
    case 'POST':
      return 'create';
    case 'PUT':
      return 'update';
    case 'PATCH':
      return 'patch';
    case 'DELETE':
      return request.name === undefined ? 'deletecollection' : 'delete';
    default:
      if (isWatch(request)) return 'watch';
      return request.name === undefined ? 'list' : 'get';
  }
}

/** Undefined: the answer is a stream that has been written already. */
export async function dispatch(
  api: Api,
  request: ApiRequest,
  response: ServerResponse,
  extra: SubresourceHandlers,
): Promise<Answer | undefined> {
  if (isWatch(request)) {
    await watch(api, request, response);
    return undefined;
  }
  const handler = handlersOf(request, extra)[request.method];
  if (!handler)
    throw statusError('MethodNotAllowed', 'the server does not allow this method on the requested resource');
  return handler(api, request);
}

function handlersOf(request: ApiRequest, extra: SubresourceHandlers): Readonly<Record<string, Handler>> {
  const { kind, name, subresource } = request;
  if (subresource !== undefined) {
    const known = subresourcesOf(kind).some((sub) => sub.name === subresource);
    const full = `${kind.plural}/${subresource}`;
    const handlers = extra[full] ?? subresourceVerbs[full] ?? subresourceVerbs[subresource];
    if (known && handlers) return handlers;
    throw statusError('NotFound', 'the server could not find the requested resource', {});
  }
  if (name !== undefined) return objectVerbs;
  // Objects inside a namespace are created, and deleted together, only inside one.
  const needsNamespace = kind.namespaced && request.namespace === undefined;
  return needsNamespace && request.method !== 'GET' && request.method !== 'HEAD' ? {} : collectionVerbs;
}
