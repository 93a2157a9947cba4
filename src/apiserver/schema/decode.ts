/**
 * Decodes untyped JSON by a schema: unknown fields are dropped and reported, wrong types are refused in the words of
 * Kubernetes' decoder, nulls and empty optional values vanish, constant defaults are filled in. Pure: a new value comes back.
 */
import { canonicalQuantity } from './quantity.ts';
import { goType, type ObjectSchema, type Schema, shortName } from './schema.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** A value of a wrong type; the message has the form of Go's json.UnmarshalTypeError. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';
}

export interface Decoded {
  readonly value: Record<string, unknown>;
  /** `unknown field "spec.foo"`, in order of appearance. */
  readonly strictErrors: readonly string[];
}

interface Place {
  /** With indexes, for strict errors: spec.containers[0].foo. */
  readonly path: string;
  /** Without indexes and with the innermost type, as Go words it. */
  readonly goPath: string;
  readonly struct: string;
  readonly errors: string[];
}

/** How many strict errors are reported, as in Kubernetes (sigs.k8s.io/json). */
const MAX_STRICT_ERRORS = 100;

export function decode(schema: ObjectSchema, value: unknown): Decoded {
  const place: Place = { path: '', goPath: '', struct: shortName(schema), errors: [] };
  if (!isRecord(value)) throw wrongType(schema, value, place);
  return { value: decodeObject(schema, value, place), strictErrors: place.errors };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function jsonKind(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  if (value === null) return 'null';
  if (typeof value === 'boolean') return 'bool';
  return typeof value;
}

function wrongType(schema: Schema, value: unknown, place: Place, detail = ''): DecodeError {
  const target = place.goPath ? `Go struct field ${place.struct}.${place.goPath}` : 'Go value';
  return new DecodeError(`json: cannot unmarshal ${jsonKind(value)}${detail} into ${target} of type ${goType(schema)}`);
}

/** Undefined: the field is as if it had not been given. */
function decodeValue(schema: Schema, value: unknown, place: Place): unknown {
  if (value === null || value === undefined) return undefined;
  switch (schema.type) {
    case 'any':
      return value;
    case 'string':
      return decodeString(schema, value, place);
    case 'boolean':
      if (typeof value !== 'boolean') throw wrongType(schema, value, place);
      return value;
    case 'number':
      if (typeof value !== 'number') throw wrongType(schema, value, place);
      return value;
    case 'integer':
      return decodeInteger(schema, value, place);
    case 'quantity':
      if (typeof value !== 'string' && typeof value !== 'number') throw wrongType(schema, value, place);
      return canonicalQuantity(String(value));
    case 'intOrString':
      if (typeof value === 'string') return value;
      if (typeof value === 'number' && Number.isInteger(value) && Math.abs(value) < 2 ** 31) return value;
      throw wrongType(schema, value, place, typeof value === 'number' ? ` ${value}` : '');
    case 'map':
      return decodeMap(schema.values, value, place, schema);
    case 'list':
      if (!Array.isArray(value)) throw wrongType(schema, value, place);
      return value.map((item, i) => decodeItem(schema.items, item, { ...place, path: `${place.path}[${i}]` }));
    case 'object':
      if (!isRecord(value)) throw wrongType(schema, value, place);
      return decodeObject(schema, value, place);
  }
}

/** An item of a list: null becomes the type's zero value, as in Go. */
function decodeItem(schema: Schema, item: unknown, place: Place): unknown {
  if (item !== null) return decodeValue(schema, item, place);
  if (schema.type === 'object') return decodeObject(schema, {}, place);
  return schema.type === 'string' ? '' : 0;
}

function decodeString(schema: Extract<Schema, { type: 'string' }>, value: unknown, place: Place): unknown {
  if (typeof value !== 'string') throw wrongType(schema, value, place);
  if (value === '') return value;
  if (schema.format === 'date-time') return decodeTime(value, 0);
  if (schema.format === 'micro-time') return decodeTime(value, 6);
  if (
    schema.format === 'byte' &&
    !/^(?:[A-Za-z0-9+/\s]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\s*$/.test(value)
  ) {
    const at = /[^A-Za-z0-9+/\s]/.exec(value)?.index ?? value.length;
    throw new DecodeError(`illegal base64 data at input byte ${at}`);
  }
  return value;
}

const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d+))?(?:Z|[+-]\d\d:\d\d)$/;

/** In UTC with so many digits of the second's fraction. */
function decodeTime(value: string, digits: number): string {
  const match = RFC3339.exec(value);
  const ms = match ? Date.parse(value) : Number.NaN;
  if (!match || Number.isNaN(ms)) {
    throw new DecodeError(
      `parsing time ${JSON.stringify(value)} as "2006-01-02T15:04:05Z07:00": cannot parse ${JSON.stringify(value)} as "2006"`,
    );
  }
  const seconds = new Date(ms).toISOString().slice(0, 19);
  return digits === 0 ? `${seconds}Z` : `${seconds}.${(match[1] ?? '').padEnd(digits, '0').slice(0, digits)}Z`;
}

function decodeInteger(schema: Extract<Schema, { type: 'integer' }>, value: unknown, place: Place): number {
  if (typeof value !== 'number') throw wrongType(schema, value, place);
  const limit = schema.bits === 32 ? 2 ** 31 : 2 ** 63;
  if (!Number.isInteger(value) || value >= limit || value < -limit) throw wrongType(schema, value, place, ` ${value}`);
  return value;
}

function decodeMap(values: Schema, value: unknown, place: Place, schema: Schema): Record<string, unknown> {
  if (!isRecord(value)) throw wrongType(schema, value, place);
  const result: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    const at: Place = { ...place, path: `${place.path}[${key}]` };
    const decoded = item === null && values.type === 'string' ? '' : decodeValue(values, item, at);
    if (decoded !== undefined) defineOwn(result, key, decoded);
  }
  return result;
}

/** Sets a property also when its name is "__proto__". */
export function defineOwn(target: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

function decodeObject(schema: ObjectSchema, value: Record<string, unknown>, place: Place): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const key in value) {
    const path = place.path ? `${place.path}.${key}` : key;
    const field = Object.hasOwn(schema.fields, key) ? schema.fields[key] : undefined;
    if (!field) {
      if (place.errors.length < MAX_STRICT_ERRORS) place.errors.push(`unknown field ${JSON.stringify(path)}`);
      continue;
    }
    const decoded = decodeValue(field, value[key], {
      path,
      goPath: place.goPath ? `${place.goPath}.${key}` : key,
      struct: shortName(schema),
      errors: place.errors,
    });
    if (decoded !== undefined && !(isEmpty(decoded) && omitsEmpty(field))) result[key] = decoded;
  }
  fillIn(schema, result);
  return result;
}

function isEmpty(value: unknown): boolean {
  if (value === '' || value === 0 || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return false;
}

function omitsEmpty(schema: Schema): boolean {
  return !schema.keep && !schema.required;
}

/** Constant defaults, and the structs that are always there. Changes the object, which the decoder has just made. */
function fillIn(schema: ObjectSchema, result: Record<string, unknown>): void {
  for (const key in schema.fields) {
    if (result[key] !== undefined) {
      const field = schema.fields[key]!;
      if (field.type === 'map' && !field.keep && Object.keys(result[key] as object).length === 0) delete result[key];
      continue;
    }
    const field = schema.fields[key]!;
    if (field.default !== undefined) result[key] = structuredClone(field.default);
    else if (field.type === 'object' && field.always) {
      const empty: Record<string, unknown> = {};
      fillIn(field, empty);
      result[key] = empty;
    }
  }
}

/** What a type looks like when nothing is given: its constant defaults and the structs that are always there. */
export function emptyObject(schema: ObjectSchema): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  fillIn(schema, result);
  return result;
}
