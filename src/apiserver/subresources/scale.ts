/** GET, PUT and PATCH of {kind}/{name}/scale, as autoscaling/v1 Scale. */
import { statusError } from '../../kube/status.ts';
import { type Answer, type Api, type ApiRequest, copyOf, jsonAnswer } from '../context.ts';
import type { ApiObject, Existing, Kind } from '../resources/kind.ts';
import { isRecord } from '../schema/decode.ts';
import { invalid, invalidError, path } from '../validation/field.ts';
import { parseBody } from '../verbs/body.ts';
import { patcherOf } from '../verbs/patch.ts';
import { replace } from '../verbs/update.ts';

export async function scale(api: Api, request: ApiRequest): Promise<Answer> {
  const { kind } = request;
  if (request.method === 'GET')
    return jsonAnswer(scaleOf(kind, api.storage.get(kind, request.namespace, request.name!).object));
  const wanted = await scaleFrom(request);
  const stored = await replace(api, { ...request, subresource: undefined, warn: request.warn }, (current) => {
    const object = copyOf(current) as ApiObject;
    const { replicas, resourceVersion } = wanted(current);
    if (resourceVersion) object.metadata.resourceVersion = resourceVersion;
    kind.scale!.setReplicas(object, replicas);
    return object;
  });
  return jsonAnswer(scaleOf(kind, stored.object));
}

function scaleOf(kind: Kind, object: Existing): object {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const rules = kind.scale!;
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: rules.replicas(object as ApiObject) },
    status: { replicas: rules.statusReplicas(object as ApiObject), selector: rules.selector(object as ApiObject) },
  };
}

async function scaleFrom(request: ApiRequest) {
  if (request.method === 'PATCH') {
    // A Scale is small and flat: a strategic patch of it is a merge patch.
    if (request.headers['content-type']?.startsWith('application/strategic-merge-patch+json'))
      request = { ...request, headers: { ...request.headers, 'content-type': 'application/merge-patch+json' } };
    const apply = await patcherOf(request);
    return (current: Existing) => read(request, apply(scaleOf(request.kind, current) as Existing));
  }
  const body = await parseBody(request);
  return () => read(request, body);
}

function read(request: ApiRequest, value: unknown): { replicas: number; resourceVersion?: string | undefined } {
  if (!isRecord(value)) throw statusError('BadRequest', 'a Scale must be an object');
  const spec = isRecord(value['spec']) ? value['spec'] : {};
  const replicas = spec['replicas'] ?? 0;
  if (typeof replicas !== 'number' || !Number.isInteger(replicas))
    throw statusError(
      'BadRequest',
      'Scale in version "v1" cannot be handled as a Scale: spec.replicas must be an int32',
    );
  if (replicas < 0) {
    throw invalidError({ group: 'autoscaling', kind: 'Scale' }, request.name!, [
      invalid(path('spec.replicas'), replicas, 'must be greater than or equal to 0'),
    ]);
  }
  const metadata = isRecord(value['metadata']) ? value['metadata'] : {};
  return { replicas, resourceVersion: metadata['resourceVersion'] as string | undefined };
}
