/** PATCH: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386) and Kubernetes' strategic merge patch. */
import { messageOf } from '../../base/errors.ts';
import { type StatusError, statusError } from '../../kube/status.ts';
import { type Answer, type Api, type ApiRequest, objectAnswer } from '../context.ts';
import type { ApiObject, Existing } from '../resources/kind.ts';
import { isRecord } from '../schema/decode.ts';
import { jsonMergePatch, StrategicPatchError, strategicMergePatch } from '../schema/strategic-merge.ts';
import { invalid, invalidError, path } from '../validation/field.ts';
import { decodeChecked, mediaTypeOf, parseJson, parseYaml } from './body.ts';
import { replace } from './update.ts';

const ACCEPTED = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
];

type Patcher = (current: Existing) => unknown;

export async function patch(api: Api, request: ApiRequest): Promise<Answer> {
  const { kind } = request;
  const apply = await patcherOf(request);
  const stored = await replace(api, request, (current) => {
    const patched = apply(current);
    if (!isRecord(patched)) throw statusError('BadRequest', 'the patch does not leave an object');
    checkIdentity(patched, current);
    return decodeChecked(request, kind, patched, (message) => unusablePatch(patched, message)) as ApiObject;
  });
  return objectAnswer(kind, stored);
}

export async function patcherOf(request: ApiRequest): Promise<Patcher> {
  const type = mediaTypeOf(request);
  if (type === 'application/apply-patch+yaml' || type === 'application/apply-patch+cbor') {
    await request.body();
    throw statusError(
      'UnsupportedMediaType',
      `server-side apply (${type}) is not supported by this server yet - accepted media types include: ${ACCEPTED.join(', ')}`,
    );
  }
  if (!ACCEPTED.includes(type)) {
    throw statusError(
      'UnsupportedMediaType',
      `the body of the request was in an unknown format - accepted media types include: ${ACCEPTED.join(', ')}`,
    );
  }
  const bytes = await request.body();
  const body = bytes[0] === 0x7b || bytes[0] === 0x5b ? parseJson(bytes) : await parseYaml(bytes);
  if (type === 'application/json-patch+json') {
    await loadJsonPatch();
    return jsonPatcher(body);
  }
  if (!isRecord(body)) throw statusError('BadRequest', 'a merge patch must be an object');
  if (type === 'application/merge-patch+json') return (current) => jsonMergePatch(current, body);
  return (current) => {
    try {
      return strategicMergePatch(request.kind.schema, current, body);
    } catch (error) {
      if (error instanceof StrategicPatchError) throw statusError('BadRequest', error.message);
      throw error;
    }
  };
}

/** Many operations on a large object would let a small body cost much. */
const MAX_OPERATIONS = 10_000;

function jsonPatcher(body: unknown): Patcher {
  if (!Array.isArray(body))
    throw statusError('BadRequest', 'error decoding patch: a JSON patch must be an array of operations');
  if (body.length > MAX_OPERATIONS) {
    throw statusError(
      'RequestEntityTooLarge',
      `The allowed maximum operations in a JSON patch is ${MAX_OPERATIONS}, got ${body.length}`,
    );
  }
  return (current) => {
    try {
      return applyOperations(current, body);
    } catch (error) {
      throw invalidError({ group: '', kind: '' }, '', [
        invalid(path('patch'), JSON.stringify(body), messageOf(error).split('\n')[0]!),
      ]);
    }
  };
}

let jsonPatchModule: typeof import('fast-json-patch') | undefined;
/** Loads the library before it is needed synchronously. */
async function loadJsonPatch(): Promise<void> {
  jsonPatchModule ??= (await import('fast-json-patch')).default as unknown as typeof import('fast-json-patch');
}

function applyOperations(current: Existing, body: readonly unknown[]): unknown {
  if (!jsonPatchModule) throw new Error('the JSON patch library is not loaded');
  const copy = structuredClone(current);
  // validate: true, mutate: true, banPrototypeModifications: true
  return jsonPatchModule.applyPatch(copy, body as import('fast-json-patch').Operation[], true, true, true).newDocument;
}

/** A patch cannot move an object to another name or kind. */
function checkIdentity(patched: Record<string, unknown>, current: Existing): void {
  for (const field of ['apiVersion', 'kind'] as const) {
    if (patched[field] !== current[field])
      throw statusError('BadRequest', `the patch may not change ${field} (${String(current[field])})`);
  }
}

function unusablePatch(patched: unknown, message: string): StatusError {
  return invalidError({ group: '', kind: '' }, '', [
    invalid(path('patch'), JSON.stringify(patched).slice(0, 1000), message),
  ]);
}
