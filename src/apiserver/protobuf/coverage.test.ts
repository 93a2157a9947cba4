import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kinds } from '../resources/index.ts';
import { type ObjectSchema, type Schema, shortName } from '../schema/schema.ts';
import { messageShape } from './messages.ts';

/** Fields that JSON has and protobuf has not. */
const JSON_ONLY = new Set(['NamespaceCondition.observedGeneration']);

function jsonFields(message: string): Set<string> {
  const names = new Set<string>();
  for (const { name, type, form } of messageShape(message)?.values() ?? []) {
    if (form !== 'inline') names.add(name);
    else if (typeof type === 'object') for (const inner of jsonFields(type.message)) names.add(inner);
  }
  return names;
}

function missing(schema: Schema, message: string, seen: Set<string>, isKind = false): string[] {
  if (schema.type === 'list') return missing(schema.items, message, seen);
  if (schema.type === 'map') return missing(schema.values, message, seen);
  if (schema.type !== 'object' || seen.has(schema.name)) return [];
  seen.add(schema.name);
  const known = jsonFields(message);
  return Object.entries(schema.fields).flatMap(([name, field]) => {
    if (isKind && (name === 'apiVersion' || name === 'kind')) return [];
    const here = known.has(name) || JSON_ONLY.has(`${message}.${name}`) ? [] : [`${schema.name}.${name}`];
    return [...here, ...missing(field, messageOf(field, message, name), seen)];
  });
}

/** The message of a field: as the table says, else by its type's name. */
function messageOf(field: Schema, parent: string, name: string): string {
  const shape = [...(messageShape(parent)?.values() ?? [])].find((one) => one.name === name);
  if (shape && typeof shape.type === 'object') return shape.type.message;
  let inner: Schema = field;
  while (inner.type === 'list' || inner.type === 'map') inner = inner.type === 'list' ? inner.items : inner.values;
  return inner.type === 'object' ? shortName(inner as ObjectSchema) : '';
}

/** The others are CustomResourceDefinitions in Kubernetes: their clients speak JSON, there is no protobuf form of them. */
const isBuiltIn = ({ group }: { group: string }) => group !== 'policy.networking.k8s.io';

test('every field of every kind has its number', () => {
  assert.deepEqual(
    kinds.filter(isBuiltIn).flatMap((kind) => missing(kind.schema, kind.kind, new Set(), true)),
    [],
  );
});
