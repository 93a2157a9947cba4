/**
 * Patches of objects. Strategic merge is Kubernetes' own form: maps merge, lists merge by the key that the schema names (or
 * as sets), and directives inside the patch say what merging cannot:
 *   $patch: delete | replace | merge     on an object or as an item of a list
 *   $retainKeys                          the only fields an object keeps
 *   $setElementOrder/<list>              the order of the merged list
 *   $deleteFromPrimitiveList/<list>      values to remove from a set
 * Source: k8s.io/apimachinery/pkg/util/strategicpatch. All functions are pure.
 */
import { isDeepStrictEqual } from 'node:util';
import { isRecord } from './decode.ts';
import type { ListSchema, ObjectSchema, Schema } from './schema.ts';

export class StrategicPatchError extends Error {
  override readonly name = 'StrategicPatchError';
}

type Fields = Record<string, unknown>;

const ORDER = '$setElementOrder/';
const DELETE_VALUES = '$deleteFromPrimitiveList/';
const FORBIDDEN_KEYS = new Set(['__proto__', 'constructor', 'prototype']);

/** RFC 7386. */
export function jsonMergePatch(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch;
  const result: Fields = isRecord(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else setOwn(result, key, jsonMergePatch(Object.hasOwn(result, key) ? result[key] : undefined, value));
  }
  return result;
}

function setOwn(target: Fields, key: string, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

export function strategicMergePatch(schema: ObjectSchema, original: unknown, patch: Fields): Fields {
  return mergeObject(schema, isRecord(original) ? original : {}, patch);
}

function fieldOf(schema: Schema | undefined, key: string): Schema | undefined {
  if (schema?.type === 'object') return Object.hasOwn(schema.fields, key) ? schema.fields[key] : undefined;
  if (schema?.type === 'map') return schema.values;
  return undefined;
}

function mergeObject(schema: Schema | undefined, original: Fields, patch: Fields): Fields {
  const directive = patch['$patch'];
  if (directive === 'replace') return withoutDirectives(patch);
  if (directive === 'delete') return {};
  if (directive !== undefined && directive !== 'merge')
    throw new StrategicPatchError(`Unknown patch type: ${String(directive)}`);
  const result = retained(original, patch);
  for (const [key, value] of Object.entries(patch)) {
    if (key === '$patch' || key === '$retainKeys' || key.startsWith(ORDER) || key.startsWith(DELETE_VALUES)) continue;
    if (FORBIDDEN_KEYS.has(key)) continue;
    if (value === null) {
      delete result[key];
      continue;
    }
    const merged = mergeField(fieldOf(schema, key), result[key], value);
    if (merged === undefined) delete result[key];
    else result[key] = merged;
  }
  applyListDirectives(schema, result, patch);
  return result;
}

/** Directives for lists that the patch itself does not mention. */
function applyListDirectives(schema: Schema | undefined, result: Fields, patch: Fields): void {
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith(DELETE_VALUES)) {
      const name = key.slice(DELETE_VALUES.length);
      const removed = Array.isArray(value) ? value : [];
      if (Array.isArray(result[name]))
        result[name] = result[name].filter((item) => !removed.some((other) => isDeepStrictEqual(item, other)));
    } else if (key.startsWith(ORDER)) {
      const name = key.slice(ORDER.length);
      const field = fieldOf(schema, name);
      if (field?.type === 'list' && Array.isArray(result[name]))
        result[name] = ordered(field, result[name], Array.isArray(value) ? value : []);
    }
  }
}

function retained(original: Fields, patch: Fields): Fields {
  const keys = patch['$retainKeys'];
  if (keys === undefined) return { ...original };
  if (!Array.isArray(keys)) throw new StrategicPatchError('$retainKeys must be a list of field names');
  return Object.fromEntries(Object.entries(original).filter(([key]) => keys.includes(key)));
}

function mergeField(schema: Schema | undefined, original: unknown, patch: unknown): unknown {
  if (isRecord(patch)) {
    if (patch['$patch'] === 'delete') return undefined;
    return mergeObject(schema, isRecord(original) ? original : {}, patch);
  }
  if (!Array.isArray(patch)) return patch;
  if (schema?.type !== 'list' || schema.mergeKey === undefined) return withoutDirectives(patch);
  const before = Array.isArray(original) ? original : [];
  return schema.mergeKey === '' ? mergeSet(before, patch) : mergeList(schema, before, patch);
}

function mergeSet(original: readonly unknown[], patch: readonly unknown[]): unknown[] {
  const added = patch.filter((item) => !original.some((other) => isDeepStrictEqual(item, other)));
  return [...original, ...added];
}

function mergeList(schema: ListSchema, original: readonly unknown[], patch: readonly unknown[]): unknown[] {
  const key = schema.mergeKey!;
  if (patch.some((item) => isRecord(item) && item['$patch'] === 'replace')) {
    return patch.filter((item) => !(isRecord(item) && item['$patch'] === 'replace')).map(withoutDirectives);
  }
  let result = [...original];
  for (const item of patch) {
    if (!isRecord(item)) throw new StrategicPatchError(`an item of a list that merges by ${key} must be an object`);
    const value = item[key];
    if (value === undefined) {
      throw new StrategicPatchError(
        `map: ${JSON.stringify(item).slice(0, 200)} does not contain declared merge key: ${key}`,
      );
    }
    if (item['$patch'] === 'delete') {
      result = result.filter((other) => !(isRecord(other) && isDeepStrictEqual(other[key], value)));
      continue;
    }
    const at = result.findIndex((other) => isRecord(other) && isDeepStrictEqual(other[key], value));
    if (at < 0) result.push(mergeObject(schema.items, {}, item));
    else result[at] = mergeObject(schema.items, result[at] as Fields, item);
  }
  return result;
}

/** Items that the order names stand in that order; the others keep their place relative to what is before them. */
function ordered(schema: ListSchema, items: readonly unknown[], order: readonly unknown[]): unknown[] {
  const keyOf = (item: unknown) => (schema.mergeKey && isRecord(item) ? item[schema.mergeKey] : item);
  const wanted = order.map(keyOf);
  const rank = (item: unknown) => wanted.findIndex((value) => isDeepStrictEqual(value, keyOf(item)));
  const named = items.filter((item) => rank(item) >= 0).sort((a, b) => rank(a) - rank(b));
  const result: unknown[] = [];
  let next = 0;
  for (const item of items) {
    if (rank(item) < 0) result.push(item);
    else result.push(named[next++]!);
  }
  return result;
}

/** A part of a patch that is taken as it is, without its directives and nulls. */
function withoutDirectives(value: unknown): Fields {
  return strip(value) as Fields;
}

function strip(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((item) => !(isRecord(item) && item['$patch'] === 'delete')).map(strip);
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, item]) => !key.startsWith('$') && item !== null && !FORBIDDEN_KEYS.has(key))
      .map(([key, item]) => [key, strip(item)]),
  );
}
