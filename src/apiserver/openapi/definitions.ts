/** From the structural schema to OpenAPI schemas, of version 2 (Swagger) or 3. */
import type { Kind } from '../resources/kind.ts';
import { int64, list, type ObjectSchema, object, type Schema, string } from '../schema/schema.ts';

export type OpenApiVersion = 2 | 3;

/** A JSON Schema object as OpenAPI has it. */
export interface JsonSchema {
  $ref?: string;
  description?: string;
  type?: string;
  format?: string;
  default?: unknown;
  required?: string[];
  items?: JsonSchema;
  properties?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema;
  allOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  [extension: `x-${string}`]: unknown;
}

export const ListMeta = object(
  'io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta',
  {
    resourceVersion: string(),
    continue: string(),
    remainingItemCount: int64(),
    selfLink: string(),
  },
  { description: 'Metadata of lists.' },
);

const QUANTITY = 'io.k8s.apimachinery.pkg.api.resource.Quantity';
const INT_OR_STRING = 'io.k8s.apimachinery.pkg.util.intstr.IntOrString';
const TIME = 'io.k8s.apimachinery.pkg.apis.meta.v1.Time';
const MICRO_TIME = 'io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime';

/** All named types of the kinds, by name in order. */
export function definitionsOf(kinds: readonly Kind[], version: OpenApiVersion): Record<string, JsonSchema> {
  const found = new Map<string, JsonSchema>();
  found.set(QUANTITY, version === 3 ? { oneOf: [{ type: 'string' }, { type: 'number' }] } : { type: 'string' });
  found.set(
    INT_OR_STRING,
    version === 3
      ? { format: 'int-or-string', oneOf: [{ type: 'integer' }, { type: 'string' }] }
      : { type: 'string', format: 'int-or-string' },
  );
  found.set(TIME, { type: 'string', format: 'date-time' });
  found.set(MICRO_TIME, { type: 'string', format: 'date-time' });
  for (const kind of kinds) {
    collect(kind.schema, version, found);
    collect(listSchemaOf(kind), version, found);
    const gvk = [{ group: kind.group, kind: kind.kind, version: kind.version }];
    found.get(kind.schema.name)!['x-kubernetes-group-version-kind'] = gvk;
    found.get(`${kind.schema.name}List`)!['x-kubernetes-group-version-kind'] = [
      { ...gvk[0]!, kind: `${kind.kind}List` },
    ];
  }
  return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function listSchemaOf(kind: Kind): ObjectSchema {
  return object(
    `${kind.schema.name}List`,
    {
      apiVersion: string(),
      kind: string(),
      metadata: ListMeta,
      items: list(kind.schema, { required: true }),
    },
    { description: `${kind.kind}List is a list of ${kind.kind}s.` },
  );
}

function collect(schema: Schema, version: OpenApiVersion, found: Map<string, JsonSchema>): void {
  switch (schema.type) {
    case 'list':
      return collect(schema.items, version, found);
    case 'map':
      return collect(schema.values, version, found);
    case 'object': {
      if (found.has(schema.name)) return;
      const definition: JsonSchema = { type: 'object' };
      found.set(schema.name, definition);
      if (schema.about) definition.description = schema.about;
      const entries = Object.entries(schema.fields);
      const required = entries.filter(([, field]) => field.required).map(([key]) => key);
      if (required.length > 0) definition.required = required;
      definition.properties = Object.fromEntries(entries.map(([key, field]) => [key, property(field, version)]));
      for (const [, field] of entries) collect(field, version, found);
    }
  }
}

function reference(name: string, version: OpenApiVersion): JsonSchema {
  return { $ref: version === 3 ? `#/components/schemas/${name}` : `#/definitions/${name}` };
}

/** A field: references carry their own description beside them, in version 3 through allOf. */
function property(schema: Schema, version: OpenApiVersion): JsonSchema {
  const shape = shapeOf(schema, version);
  const { $ref, ...rest } = shape;
  const isOwn = schema.type !== 'object' || schema.description !== schema.about;
  const described: JsonSchema = schema.description && isOwn ? { description: schema.description, ...rest } : rest;
  if (schema.default !== undefined) described.default = schema.default;
  if ($ref === undefined) return described;
  return version === 3 && Object.keys(described).length > 0
    ? { ...described, allOf: [{ $ref }] }
    : { ...described, $ref };
}

function shapeOf(schema: Schema, version: OpenApiVersion): JsonSchema {
  switch (schema.type) {
    case 'string':
      if (schema.format === 'date-time') return reference(TIME, version);
      if (schema.format === 'micro-time') return reference(MICRO_TIME, version);
      return schema.format ? { type: 'string', format: schema.format } : { type: 'string' };
    case 'integer':
      return { type: 'integer', format: schema.bits === 32 ? 'int32' : 'int64' };
    case 'number':
      return { type: 'number', format: 'double' };
    case 'boolean':
      return { type: 'boolean' };
    case 'quantity':
      return reference(QUANTITY, version);
    case 'intOrString':
      return reference(INT_OR_STRING, version);
    case 'any':
      return { 'x-kubernetes-preserve-unknown-fields': true };
    case 'map':
      return { type: 'object', additionalProperties: property(schema.values, version) };
    case 'list':
      return { type: 'array', items: property(schema.items, version), ...listExtensions(schema) };
    case 'object':
      return reference(schema.name, version);
  }
}

function listExtensions(schema: Extract<Schema, { type: 'list' }>): JsonSchema {
  const { mergeKey, mapKeys, retainKeys } = schema;
  const extensions: JsonSchema = {};
  if (mergeKey === undefined) {
    extensions['x-kubernetes-list-type'] = 'atomic';
    if (mapKeys) Object.assign(extensions, { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': mapKeys });
  } else if (mergeKey === '') {
    extensions['x-kubernetes-list-type'] = 'set';
    extensions['x-kubernetes-patch-strategy'] = 'merge';
  } else {
    extensions['x-kubernetes-list-type'] = 'map';
    extensions['x-kubernetes-list-map-keys'] = mapKeys ?? [mergeKey];
    extensions['x-kubernetes-patch-merge-key'] = mergeKey;
    extensions['x-kubernetes-patch-strategy'] = retainKeys ? 'merge,retainKeys' : 'merge';
  }
  return extensions;
}
