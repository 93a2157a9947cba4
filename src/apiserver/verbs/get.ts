/** GET of one object. The cache is as new as the newest acknowledged write. */
import { type Answer, type Api, type ApiRequest, objectAnswer } from '../context.ts';
import { revisionOf } from './selection.ts';

export async function get(api: Api, request: ApiRequest): Promise<Answer> {
  await api.cache.waitFor(revisionOf(request) ?? 0);
  return objectAnswer(request.kind, api.storage.get(request.kind, request.namespace, request.name!));
}
