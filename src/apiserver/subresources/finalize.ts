/** PUT and PATCH namespaces/{name}/finalize: the only way to change spec.finalizers; the last one removed removes the namespace. */
import { statusError } from '../../kube/status.ts';
import { type Answer, type Api, type ApiRequest, copyOf, objectAnswer } from '../context.ts';
import type { ApiObject, Existing } from '../resources/kind.ts';
import { isRecord } from '../schema/decode.ts';
import { decodeObject, parseBody } from '../verbs/body.ts';
import { patcherOf } from '../verbs/patch.ts';
import { replace } from '../verbs/update.ts';

export async function finalizeNamespace(api: Api, request: ApiRequest): Promise<Answer> {
  const wanted = await finalizersOf(request);
  const stored = await replace(api, request, (current) => {
    const object = copyOf(current) as ApiObject;
    const { finalizers, resourceVersion } = wanted(current);
    if (resourceVersion) object.metadata.resourceVersion = resourceVersion;
    object.spec = { ...(object.spec as object), finalizers };
    if (finalizers.length === 0) object.spec = {};
    return object;
  });
  return objectAnswer(request.kind, stored);
}

async function finalizersOf(request: ApiRequest) {
  if (request.method === 'PATCH') {
    const apply = await patcherOf(request);
    return (current: Existing) => read(apply(current));
  }
  const object = decodeObject(request, request.kind, await parseBody(request));
  return () => read(object);
}

function read(object: unknown): { finalizers: string[]; resourceVersion?: string | undefined } {
  const spec = isRecord(object) && isRecord(object['spec']) ? object['spec'] : {};
  const finalizers = spec['finalizers'] ?? [];
  if (!Array.isArray(finalizers) || !finalizers.every((item): item is string => typeof item === 'string'))
    throw statusError('BadRequest', 'spec.finalizers must be a list of names');
  const metadata = isRecord(object) && isRecord(object['metadata']) ? object['metadata'] : {};
  return { finalizers, resourceVersion: metadata['resourceVersion'] as string | undefined };
}
