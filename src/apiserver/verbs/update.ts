/** PUT of an object or of its status, and what PATCH shares with it: carry over, validate, allocate, compare and store. */
import { isDeepStrictEqual } from 'node:util';
import { statusError } from '../../kube/status.ts';
import { StoredObject } from '../cache/stored-object.ts';
import { type Answer, type Api, type ApiRequest, copyOf, objectAnswer } from '../context.ts';
import type { ApiObject, Existing, Kind } from '../resources/kind.ts';
import { conflict, type Decision, MODIFIED } from '../storage.ts';
import { type FieldErrors, invalid, invalidError, path } from '../validation/field.ts';
import { validateMeta, validateMetaUpdate, validateSchema } from '../validation/meta.ts';
import { agreeOnNamespace, decodeObject, isDryRun, parseBody } from './body.ts';
import { createObject } from './create.ts';

export async function update(api: Api, request: ApiRequest): Promise<Answer> {
  const { kind } = request;
  const name = request.name!;
  const object = decodeObject(request, kind, await parseBody(request));
  agreeOnNamespace(request, object);
  if (!object.metadata.name) object.metadata.name = name;
  else if (object.metadata.name !== name) {
    throw statusError(
      'BadRequest',
      `the name of the object (${object.metadata.name}) does not match the name on the URL (${name})`,
    );
  }
  if (kind.createsOnUpdate && !request.subresource && !api.storage.find(kind, request.namespace, name)) {
    delete (object.metadata as { resourceVersion?: string }).resourceVersion;
    const options = { dryRun: isDryRun(request), warn: (text: string) => request.warn(text) };
    return objectAnswer(kind, await createObject(api, kind, object, options), 201);
  }
  if (kind.needsVersionOnUpdate && !object.metadata.resourceVersion) {
    throw invalidError(kind, name, [invalid(path('metadata.resourceVersion'), 0, 'must be specified for an update')]);
  }
  const stored = await replace(api, request, () => structuredClone(object));
  return objectAnswer(kind, stored);
}

/**
 * Replaces an object (or its status) by what `make` makes of the newest version, which it must not change. Used by PUT,
 * PATCH and Scale. `make` is called again when somebody else was faster, unless the result names a resourceVersion.
 */
export async function replace(
  api: Api,
  request: Pick<ApiRequest, 'kind' | 'namespace' | 'name' | 'subresource' | 'query' | 'warn'>,
  make: (current: Existing) => ApiObject,
): Promise<StoredObject> {
  const { kind, namespace, subresource } = request;
  const dryRun = isDryRun(request);
  let dry: StoredObject | undefined;
  const written = await api.storage.update(kind, namespace, request.name!, (current): Decision => {
    const object = make(current.object);
    checkPreconditions(kind, object, current);
    carryOver(kind, object, current.object, subresource);
    checkUpdate(kind, object, current.object, subresource);
    for (const warning of kind.warnings?.(object) ?? []) request.warn(warning);
    // An object whose deletion only waited for its finalizers goes with the last of them.
    const vanishes = mayVanishNow(kind, object);
    if (!vanishes && isDeepStrictEqual(withoutVersion(object), withoutVersion(current.object))) return { keep: true };
    const allocator = subresource ? undefined : api.allocators.get(kind.plural);
    const reservation = allocator?.allocate(object, copyOf(current.object) as ApiObject);
    if (dryRun) {
      reservation?.rollback();
      dry = new StoredObject(object, current.revision);
      return { keep: true };
    }
    if (vanishes) return { remove: true, last: object };
    return {
      put: object,
      onCommit: () => reservation?.commit(),
      onRollback: () => reservation?.rollback(),
    };
  });
  if (written.outcome === 'removed')
    api.allocators.get(kind.plural)?.release(copyOf(written.stored.object) as ApiObject);
  return dry ?? written.stored;
}

export function withoutVersion(object: Existing): unknown {
  const { resourceVersion: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/** Whether a deleting object has nothing left to wait for. */
export function mayVanishNow(kind: Kind, object: ApiObject): boolean {
  const { deletionTimestamp, finalizers, deletionGracePeriodSeconds } = object.metadata;
  if (!deletionTimestamp || (finalizers ?? []).length > 0) return false;
  return (deletionGracePeriodSeconds ?? 0) === 0 && (kind.mayVanish?.(object) ?? true);
}

function checkPreconditions(kind: Kind, object: ApiObject, current: StoredObject): void {
  const { resourceVersion, uid, name } = object.metadata;
  if (resourceVersion && resourceVersion !== String(current.revision)) throw conflict(kind, name, MODIFIED);
  if (uid && uid !== current.object.metadata.uid) {
    throw conflict(
      kind,
      name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${current.object.metadata.uid}`,
    );
  }
}

const SERVER_SET = [
  'uid',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'generation',
  'generateName',
  'selfLink',
] as const;

/** What a client may not change here stays as it is. */
function carryOver(kind: Kind, object: ApiObject, old: Existing, subresource: string | undefined): void {
  const metadata = object.metadata as unknown as Record<string, unknown>;
  const before = old.metadata as unknown as Record<string, unknown>;
  for (const field of SERVER_SET) {
    if (before[field] === undefined) delete metadata[field];
    else metadata[field] = before[field];
  }
  delete metadata['managedFields'];
  metadata['resourceVersion'] = before['resourceVersion'];
  if (subresource === 'status') {
    for (const field of Object.keys(kind.schema.fields)) {
      if (field === 'metadata' || field === 'status' || field === 'apiVersion' || field === 'kind') continue;
      restore(object, old, field);
    }
    return;
  }
  if (subresource !== undefined) return;
  if (kind.status) restore(object, old, 'status');
  kind.prepareForUpdate?.(object, copyOf(old) as ApiObject);
  if (kind.countsGenerations && desiredChanged(kind, object, old))
    object.metadata.generation = (old.metadata.generation ?? 0) + 1;
}

function restore(object: ApiObject, old: Existing, field: string): void {
  if (old[field] === undefined) delete object[field];
  else object[field] = structuredClone(old[field]);
}

function desiredChanged(kind: Kind, object: ApiObject, old: Existing): boolean {
  return Object.keys(kind.schema.fields).some(
    (field) => field !== 'metadata' && field !== 'status' && !isDeepStrictEqual(object[field], old[field]),
  );
}

function checkUpdate(kind: Kind, object: ApiObject, old: Existing, subresource: string | undefined): void {
  const before = copyOf(old) as ApiObject;
  const errors: FieldErrors[] = [
    validateMeta(object.metadata, kind),
    validateMetaUpdate(object.metadata, old.metadata),
    validateSchema(kind.schema, object),
  ];
  if (subresource === 'status') errors.push(kind.status?.validate?.(object, before) ?? []);
  else {
    errors.push(kind.validate?.(object, path('')) ?? []);
    errors.push(kind.validateUpdate?.(object, before, path('')) ?? []);
  }
  const all = errors.flat();
  if (all.length > 0) throw invalidError(kind, object.metadata.name, all);
}
