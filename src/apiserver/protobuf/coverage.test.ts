import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kinds } from '../resources/index.ts';
import type { ObjectSchema, Schema } from '../schema/schema.ts';
import { bodies } from './bodies.ts';

/** The others are CustomResourceDefinitions in Kubernetes: their clients speak JSON, there is no protobuf form of them. */
const builtIn = kinds.filter(({ group }) => group !== 'policy.networking.k8s.io').map(({ schema }) => schema);

/** Every type inside, once; under the name that OpenAPI has for it. */
function typesOf(roots: readonly ObjectSchema[]): Map<string, ObjectSchema> {
  const types = new Map<string, ObjectSchema>();
  const visit = (schema: Schema): void => {
    if (schema.type === 'list') visit(schema.items);
    if (schema.type === 'map') visit(schema.values);
    if (schema.type !== 'object' || types.has(schema.name)) return;
    types.set(schema.name, schema);
    for (const field of Object.values(schema.fields)) visit(field);
  };
  roots.forEach(visit);
  return types;
}

/** apiVersion and kind are in the envelope. */
function numbered(schema: ObjectSchema): [string, Schema][] {
  const { apiVersion, kind, ...rest } = schema.fields;
  return Object.entries('metadata' in rest && apiVersion && kind ? rest : schema.fields);
}

const types = typesOf([...builtIn, ...bodies]);

test('every field of every kind has its number', () => {
  const without = [...types.values()].flatMap((schema) =>
    numbered(schema).flatMap(([name, { wire = [] }]) =>
      wire.length > 0 && wire.every((number) => number > 0) ? [] : [`${schema.name}.${name}`],
    ),
  );
  assert.deepEqual(without, []);
  assert.ok(types.size > 150);
});

test('no two fields of a type have the same number', () => {
  for (const schema of types.values()) {
    const paths = numbered(schema).map(([, { wire = [] }]) => wire.join('.'));
    // The number of an embedded message is no field's own.
    const own = paths.flatMap((path) => path.split('.').map((_, i, parts) => parts.slice(0, i + 1).join('.')));
    const outer = new Set(own.filter((path) => !paths.includes(path)));
    assert.equal(new Set(paths).size, paths.length, schema.name);
    for (const path of paths) assert.ok(!outer.has(path) && !paths.some((other) => other.startsWith(`${path}.`)), path);
  }
});

test('two types of the same name have the same numbers', () => {
  const first = new Map<string, string>();
  const visit = (schema: Schema): void => {
    if (schema.type === 'list') visit(schema.items);
    if (schema.type === 'map') visit(schema.values);
    if (schema.type !== 'object') return;
    const numbers = JSON.stringify(Object.entries(schema.fields).map(([name, { wire }]) => [name, wire]));
    assert.equal(numbers, first.get(schema.name) ?? numbers, schema.name);
    first.set(schema.name, numbers);
    for (const field of Object.values(schema.fields)) visit(field);
  };
  [...builtIn, ...bodies].forEach(visit);
});
