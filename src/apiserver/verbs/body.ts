/** From a request's body to an object of a kind: media type, JSON or YAML, strict decoding, the names that must agree. */
import { messageOf } from '../../base/errors.ts';
import { apiVersionOf } from '../../kube/names.ts';
import { statusError } from '../../kube/status.ts';
import type { ApiRequest } from '../context.ts';
import { parseProtobuf } from '../protobuf/decode.ts';
import type { ApiObject, Kind } from '../resources/kind.ts';
import { DecodeError, decode, isRecord } from '../schema/decode.ts';
import { QuantityError } from '../schema/quantity.ts';
import { invalid, invalidError, path } from '../validation/field.ts';

export function mediaTypeOf(request: Pick<ApiRequest, 'headers'>): string {
  return (request.headers['content-type'] ?? 'application/json').split(';')[0]!.trim().toLowerCase();
}

/** The body as untyped JSON. Throws 415 for media types that are not understood and 400 for what cannot be parsed. */
export async function parseBody(
  request: Pick<ApiRequest, 'headers' | 'body'> & { readonly kind?: Kind },
): Promise<unknown> {
  const type = mediaTypeOf(request);
  const bytes = await request.body();
  switch (type) {
    case 'application/json':
      return parseJson(bytes);
    case 'application/yaml':
    case 'application/x-yaml':
    case 'text/yaml':
      return parseYaml(bytes);
    case 'application/vnd.kubernetes.protobuf':
      return parseProtobuf(bytes);
    default:
      throw statusError(
        'UnsupportedMediaType',
        `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml`,
      );
  }
}

/** Deeper nesting than any API object has; protects the recursive walks. */
const MAX_DEPTH = 200;

export function parseJson(bytes: Buffer): unknown {
  const text = bytes.toString('utf8');
  checkDepth(text);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const reason = text.trim() === '' ? 'unexpected end of JSON input' : messageOf(error);
    throw statusError('BadRequest', `couldn't get version/kind; json parse error: ${reason}`);
  }
}

function checkDepth(text: string): void {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (inString) {
      if (char === 0x5c) i++;
      else if (char === 0x22) inString = false;
    } else if (char === 0x22) inString = true;
    else if (char === 0x7b || char === 0x5b) {
      if (++depth > MAX_DEPTH)
        throw statusError('BadRequest', `json: the object is nested too deeply (at character ${i})`);
    } else if (char === 0x7d || char === 0x5d) depth--;
  }
}

export async function parseYaml(bytes: Buffer): Promise<unknown> {
  const { parse } = await import('yaml');
  let value: unknown;
  try {
    value = parse(bytes.toString('utf8'), { schema: 'yaml-1.1', maxAliasCount: 100 });
  } catch (error) {
    throw statusError('BadRequest', `couldn't get version/kind; yaml: ${messageOf(error)}`);
  }
  // What JSON cannot say (dates, NaN) becomes what JSON makes of it.
  return JSON.parse(JSON.stringify(value ?? null)) as unknown;
}

type FieldValidation = 'Strict' | 'Warn' | 'Ignore';

export function fieldValidationOf(request: Pick<ApiRequest, 'query'>): FieldValidation {
  const value = request.query.get('fieldValidation') || 'Warn';
  if (value !== 'Strict' && value !== 'Warn' && value !== 'Ignore') {
    throw invalidError({ group: 'meta.k8s.io', kind: 'CreateOptions' }, '', [
      invalid(path('fieldValidation'), value, 'supported values: "Ignore", "Strict", "Warn"'),
    ]);
  }
  return value;
}

/** Checks the group, version and kind, then decodes strictly. `onStrict` says what a strict error of the body becomes. */
export function decodeObject(request: ApiRequest, kind: Kind, value: unknown): ApiObject {
  if (!isRecord(value)) throw badObject(kind, 'json: cannot unmarshal the body into a Go value of an object');
  checkType(kind, value);
  return decodeChecked(request, kind, value, (message) => badObject(kind, message));
}

/** Without a check of apiVersion and kind: for patched objects. */
export function decodeChecked(
  request: ApiRequest,
  kind: Kind,
  value: Record<string, unknown>,
  strictError: (message: string) => Error,
): ApiObject {
  const mode = fieldValidationOf(request);
  const { value: object, strictErrors } = decodeOrThrow(kind, value);
  if (strictErrors.length > 0 && mode === 'Strict')
    throw strictError(`strict decoding error: ${strictErrors.join(', ')}`);
  if (mode === 'Warn') for (const error of strictErrors) request.warn(error);
  object['apiVersion'] = apiVersionOf(kind);
  object['kind'] = kind.kind;
  kind.applyDefaults?.(object as ApiObject);
  return object as ApiObject;
}

function decodeOrThrow(kind: Kind, value: Record<string, unknown>) {
  try {
    return decode(kind.schema, value);
  } catch (error) {
    if (error instanceof DecodeError || error instanceof QuantityError) throw badObject(kind, error.message);
    throw error;
  }
}

export function badObject(kind: Kind, message: string): Error {
  return statusError(
    'BadRequest',
    `${kind.kind} in version ${JSON.stringify(kind.version)} cannot be handled as a ${kind.kind}: ${message}`,
  );
}

function checkType(kind: Kind, value: Record<string, unknown>): void {
  const expected = apiVersionOf(kind);
  const { apiVersion, kind: kindName } = value;
  if (apiVersion === undefined && kindName === undefined) return;
  if (typeof kindName !== 'string' || kindName === '')
    throw statusError('BadRequest', `Object 'Kind' is missing in '${JSON.stringify(value).slice(0, 200)}'`);
  if (typeof apiVersion !== 'string' || apiVersion === '')
    throw statusError('BadRequest', `Object 'apiVersion' is missing in '${JSON.stringify(value).slice(0, 200)}'`);
  if (apiVersion !== expected || kindName !== kind.kind) {
    throw statusError(
      'BadRequest',
      apiVersion === expected
        ? `no kind ${JSON.stringify(kindName)} is registered for ${apiVersion} ${kind.plural}: the kind in the data (${kindName}) does not match the expected kind (${kind.kind})`
        : `the API version in the data (${apiVersion}) does not match the expected API version (${expected})`,
    );
  }
}

/** Fills in the namespace of the URL; a different one in the object is refused. */
export function agreeOnNamespace(request: ApiRequest, object: ApiObject): void {
  if (!request.kind.namespaced) return;
  const { metadata } = object;
  if (!metadata.namespace) metadata.namespace = request.namespace;
  else if (metadata.namespace !== request.namespace) {
    throw statusError(
      'BadRequest',
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  }
}

/** dryRun=All is the only kind of dry run. */
export function isDryRun(request: Pick<ApiRequest, 'query'>): boolean {
  const values = request.query.getAll('dryRun').filter((value) => value !== '');
  if (values.some((value) => value !== 'All')) {
    throw invalidError({ group: 'meta.k8s.io', kind: 'CreateOptions' }, '', [
      invalid(path('dryRun'), values, 'supported values: "All"'),
    ]);
  }
  return values.length > 0;
}
