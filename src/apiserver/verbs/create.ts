/** POST to a collection: decode -> namespace -> admission -> metadata -> validation -> allocation -> store. */
import { randomUUID } from 'node:crypto';
import { statusError } from '../../kube/status.ts';
import { StoredObject } from '../cache/stored-object.ts';
import { type Answer, type Api, type ApiRequest, objectAnswer } from '../context.ts';
import type { ApiObject, Kind } from '../resources/kind.ts';
import { emptyObject } from '../schema/decode.ts';
import { alreadyExists } from '../storage.ts';
import { invalidError, path, qualifiedResource } from '../validation/field.ts';
import { validateMeta, validateSchema } from '../validation/meta.ts';
import { agreeOnNamespace, decodeObject, isDryRun, parseBody } from './body.ts';

/** How many generated names are tried before the client is told to try again. */
const NAME_ATTEMPTS = 8;
/** The longest name minus the generated suffix. */
const MAX_GENERATED_BASE = 58;

export async function create(api: Api, request: ApiRequest): Promise<Answer> {
  const { kind } = request;
  const object = decodeObject(request, kind, await parseBody(request));
  agreeOnNamespace(request, object);
  const stored = await createObject(api, kind, object, {
    dryRun: isDryRun(request),
    warn: (text) => request.warn(text),
  });
  return objectAnswer(kind, stored, 201);
}

export interface CreateOptions {
  readonly dryRun?: boolean;
  readonly warn?: (text: string) => void;
}

/** Creates a decoded object, which it changes. Also for the server's own objects. */
export async function createObject(
  api: Api,
  kind: Kind,
  object: ApiObject,
  options: CreateOptions = {},
): Promise<StoredObject> {
  if (kind.namespaced) requireNamespace(api, kind, object);
  for (const warning of kind.warnings?.(object) ?? []) options.warn?.(warning);
  kind.admit?.(object, api.lookup);
  const { generateName } = object.metadata;
  const generates = !object.metadata.name && generateName;
  for (let attempt = 1; ; attempt++) {
    if (generates) object.metadata.name = `${generateName.slice(0, MAX_GENERATED_BASE)}${api.lookup.randomSuffix()}`;
    try {
      return await createNamed(api, kind, prepare(api, kind, structuredClone(object)), options);
    } catch (error) {
      if (!generates || attempt === NAME_ATTEMPTS || !isTaken(error)) throw error;
    }
  }
}

const isTaken = (error: unknown) => error instanceof Error && 'reason' in error && error.reason === 'AlreadyExists';

function requireNamespace(api: Api, kind: Kind, object: ApiObject): void {
  const { namespace, name, generateName } = object.metadata;
  const found = namespace === undefined ? undefined : api.lookup.get('namespaces', undefined, namespace);
  if (!found) {
    throw statusError('NotFound', `namespaces ${JSON.stringify(namespace)} not found`, {
      name: namespace,
      kind: 'namespaces',
    });
  }
  if (!found.metadata.deletionTimestamp) return;
  const what = name || generateName || '';
  throw statusError(
    'Forbidden',
    `${qualifiedResource(kind)} ${JSON.stringify(what)} is forbidden: unable to create new content in namespace ${namespace} because it is being terminated`,
    {
      name: what,
      ...(kind.group ? { group: kind.group } : {}),
      kind: kind.plural,
      causes: [
        {
          reason: 'NamespaceTerminating',
          message: `namespace ${namespace} is being terminated`,
          field: 'metadata.namespace',
        },
      ],
    },
  );
}

/** Sets what only the server may set. */
function prepare(api: Api, kind: Kind, object: ApiObject): ApiObject {
  const { metadata } = object;
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata.selfLink;
  delete metadata.managedFields;
  delete metadata.generation;
  if (metadata.resourceVersion) {
    throw statusError('BadRequest', 'resourceVersion should not be set on objects to be created');
  }
  metadata.uid = randomUUID();
  metadata.creationTimestamp = `${api.lookup.now().toISOString().slice(0, 19)}Z`;
  if (kind.countsGenerations) metadata.generation = 1;
  if (kind.status && !kind.keepsStatusOnCreate) resetStatus(kind, object);
  kind.prepareForCreate?.(object);
  return object;
}

/** The status that the schema gives an object without one. */
function resetStatus(kind: Kind, object: ApiObject): void {
  const status = kind.schema.fields['status'];
  if (status?.type === 'object' && status.always) object.status = emptyObject(status);
  else delete object.status;
}

async function createNamed(api: Api, kind: Kind, object: ApiObject, options: CreateOptions): Promise<StoredObject> {
  const errors = [
    ...validateMeta(object.metadata, kind),
    ...validateSchema(kind.schema, object),
    ...(kind.validate?.(object, path('')) ?? []),
  ];
  if (errors.length > 0) throw invalidError(kind, object.metadata.name, errors);
  if (api.storage.find(kind, object.metadata.namespace, object.metadata.name))
    throw alreadyExists(kind, object.metadata.name);
  const reservation = api.allocators.get(kind.plural)?.allocate(object, undefined);
  if (options.dryRun) {
    reservation?.rollback();
    return new StoredObject(object, 0);
  }
  try {
    const stored = await api.storage.create(kind, object);
    reservation?.commit();
    return stored;
  } catch (error) {
    reservation?.rollback();
    throw error;
  }
}
