/** DELETE of a collection: each matching object as if it were deleted alone; the answer lists them. */
import { isNotFound } from '../../kube/status.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import type { Answer, Api, ApiRequest } from '../context.ts';
import { deleteObject, deleteOptionsOf } from './delete.ts';
import { queryOf } from './selection.ts';

export async function deleteCollection(api: Api, request: ApiRequest): Promise<Answer> {
  const options = await deleteOptionsOf(request);
  const matching = [...api.cache.of(request.kind).list(queryOf(request))];
  const deleted = await Promise.all(
    matching.map(async (item): Promise<StoredObject | undefined> => {
      try {
        return (await deleteObject(api, request.kind, item.namespace, item.name, options)).stored;
      } catch (error) {
        if (isNotFound(error)) return undefined;
        throw error;
      }
    }),
  );
  const items = deleted.filter((item) => item !== undefined);
  return { type: 'list', kind: request.kind, list: { items, revision: api.cache.revision } };
}
