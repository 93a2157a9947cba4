/**
 * DELETE of an object. It vanishes at once unless it has finalizers, wants grace (pods on a node), or is not empty
 * (namespaces); then it gets a deletionTimestamp, and goes with the update that removes the last obstacle.
 */
import { statusError } from '../../kube/status.ts';
import { StoredObject } from '../cache/stored-object.ts';
import { type Answer, type Api, type ApiRequest, copyOf, jsonAnswer, objectAnswer } from '../context.ts';
import type { ApiObject, Kind } from '../resources/kind.ts';
import { isRecord } from '../schema/decode.ts';
import { conflict, type Decision } from '../storage.ts';
import { qualifiedResource } from '../validation/field.ts';
import { isDryRun, parseBody } from './body.ts';
import { numberParameter } from './selection.ts';
import { mayVanishNow } from './update.ts';

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number | undefined;
  readonly propagationPolicy?: string | undefined;
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string } | undefined;
  readonly dryRun?: boolean;
}

const FOREGROUND = 'foregroundDeletion';
const ORPHAN = 'orphan';

export async function remove(api: Api, request: ApiRequest): Promise<Answer> {
  const { kind } = request;
  const options = await deleteOptionsOf(request);
  const { stored, outcome } = await deleteObject(api, kind, request.namespace, request.name!, options);
  if (outcome === 'removed' && !kind.returnsDeleted) return jsonAnswer(deletedStatus(kind, stored));
  return objectAnswer(kind, stored);
}

function deletedStatus(kind: Kind, stored: StoredObject): object {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: {
      name: stored.name,
      ...(kind.group ? { group: kind.group } : {}),
      kind: kind.plural,
      uid: stored.object.metadata.uid,
    },
  };
}

/** From the body (DeleteOptions) and, for what it does not say, from the query. */
export async function deleteOptionsOf(request: ApiRequest): Promise<DeleteOptions> {
  const body = (await request.body()).length > 0 ? await parseBody(request) : {};
  if (!isRecord(body)) throw statusError('BadRequest', 'the body of a DELETE must be DeleteOptions');
  const policy = body['propagationPolicy'] ?? request.query.get('propagationPolicy') ?? undefined;
  if (policy !== undefined && !['Orphan', 'Background', 'Foreground'].includes(String(policy))) {
    throw statusError(
      'Invalid',
      `DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: ${JSON.stringify(policy)}: supported values: "Background", "Foreground", "Orphan"`,
    );
  }
  const grace = body['gracePeriodSeconds'] ?? numberParameter(request, 'gracePeriodSeconds');
  if (grace !== undefined && grace !== null && !Number.isSafeInteger(grace))
    throw statusError('BadRequest', 'gracePeriodSeconds must be a whole number');
  const orphan = body['orphanDependents'] === true ? 'Orphan' : undefined;
  const preconditions = body['preconditions'];
  const dryRun = body['dryRun'];
  return {
    gracePeriodSeconds: (grace as number | null) ?? undefined,
    propagationPolicy: (policy as string | undefined) ?? orphan,
    preconditions: isRecord(preconditions) ? (preconditions as DeleteOptions['preconditions']) : undefined,
    dryRun: (Array.isArray(dryRun) && dryRun.includes('All')) || isDryRun(request),
  };
}

/** Also for collection deletions and evictions. Throws NotFound and Conflict. */
export async function deleteObject(
  api: Api,
  kind: Kind,
  namespace: string | undefined,
  name: string,
  options: DeleteOptions,
) {
  let dry: StoredObject | undefined;
  const written = await api.storage.update(kind, namespace, name, (current): Decision => {
    checkPreconditions(kind, current, options);
    const object = copyOf(current.object) as ApiObject;
    checkProtection(kind, object);
    const graceful = beginDeletion(api, kind, object, options);
    if (options.dryRun) {
      dry = new StoredObject(object, current.revision);
      return { keep: true };
    }
    if (mayVanishNow(kind, object)) return { remove: true };
    return graceful ? { put: object } : { keep: true };
  });
  if (written.outcome === 'removed')
    api.allocators.get(kind.plural)?.release(copyOf(written.stored.object) as ApiObject);
  return { stored: dry ?? written.stored, outcome: written.outcome };
}

function checkProtection(kind: Kind, object: ApiObject): void {
  const reason = kind.protectedFromDeletion?.(object);
  if (reason === undefined) return;
  const { name } = object.metadata;
  throw statusError('Forbidden', `${qualifiedResource(kind)} ${JSON.stringify(name)} is forbidden: ${reason}`, {
    name,
    kind: kind.plural,
  });
}

function checkPreconditions(kind: Kind, current: StoredObject, { preconditions }: DeleteOptions): void {
  const { uid, resourceVersion } = current.object.metadata;
  if (preconditions?.uid && preconditions.uid !== uid) {
    throw conflict(
      kind,
      current.name,
      `Precondition failed: UID in precondition: ${preconditions.uid}, UID in object meta: ${uid}`,
    );
  }
  if (preconditions?.resourceVersion && preconditions.resourceVersion !== resourceVersion) {
    throw conflict(
      kind,
      current.name,
      `Precondition failed: ResourceVersion in precondition: ${preconditions.resourceVersion}, ResourceVersion in object meta: ${resourceVersion}`,
    );
  }
}

/** Marks the object as deleting, or shortens the grace of one that is; says whether it changed. */
function beginDeletion(api: Api, kind: Kind, object: ApiObject, options: DeleteOptions): boolean {
  const { metadata } = object;
  const grace = kind.gracePeriodSeconds?.(object, options.gracePeriodSeconds) ?? 0;
  let changed = addFinalizer(metadata, options.propagationPolicy);
  const before = metadata.deletionGracePeriodSeconds;
  if (metadata.deletionTimestamp && (before === undefined || grace >= before)) return changed;
  const end = new Date(api.lookup.now().getTime() + grace * 1000);
  metadata.deletionTimestamp = `${end.toISOString().slice(0, 19)}Z`;
  metadata.deletionGracePeriodSeconds = grace;
  if (metadata.generation !== undefined && before === undefined) metadata.generation++;
  kind.beginDeletion?.(object);
  changed = true;
  return changed;
}

/** The garbage collector acts on these finalizers: dependents first, or dependents set free. */
function addFinalizer(metadata: ApiObject['metadata'], policy: string | undefined): boolean {
  const wanted = policy === 'Foreground' ? FOREGROUND : policy === 'Orphan' ? ORPHAN : undefined;
  if (!wanted || metadata.finalizers?.includes(wanted)) return false;
  metadata.finalizers = [...(metadata.finalizers ?? []), wanted];
  return true;
}
