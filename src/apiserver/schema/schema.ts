/**
 * The structural schema of API types: a compact description from which decoding (unknown fields, wrong types, constant
 * defaults), strategic merge patches, OpenAPI and `kubectl explain` all follow. A type is written once, here in TypeScript.
 *
 * The flags mirror how Kubernetes' Go types encode, because clients see it: a plain field that is empty or zero is left out
 * (omitempty); `keep` marks the fields whose zero value is kept (Go pointers, or no omitempty).
 */

interface Common {
  readonly description?: string;
  /** Shown by explain, and "Required value" when absent. */
  readonly required?: boolean;
  /** Keeps an empty string, false, 0, [] or {}. */
  readonly keep?: boolean;
  /** Filled in when the field is absent and its parent is there. */
  readonly default?: unknown;
  /**
   * The field's number in Kubernetes' protobuf form, and before it those of the messages that it is embedded in there but
   * not in JSON. Written with `wire` and `embedded`; absent where a type has no protobuf form.
   */
  readonly wire?: readonly number[];
}

export interface StringSchema extends Common {
  readonly type: 'string';
  readonly format?: 'date-time' | 'micro-time' | 'byte';
  /** The only values that validation lets pass. */
  readonly enum?: readonly string[];
}
export interface IntegerSchema extends Common {
  readonly type: 'integer';
  readonly bits: 32 | 64;
}
export interface NumberSchema extends Common {
  readonly type: 'number';
}
export interface BooleanSchema extends Common {
  readonly type: 'boolean';
}
export interface QuantitySchema extends Common {
  readonly type: 'quantity';
}
export interface IntOrStringSchema extends Common {
  readonly type: 'intOrString';
}
/** Anything at all, kept as it is. */
export interface AnySchema extends Common {
  readonly type: 'any';
}
export interface MapSchema extends Common {
  readonly type: 'map';
  readonly values: Schema;
}
export interface ListSchema extends Common {
  readonly type: 'list';
  readonly items: Schema;
  /** Strategic merge patch merges items: by this key, or as a set when it is "". */
  readonly mergeKey?: string;
  /** Keys that identify an item (x-kubernetes-list-map-keys), when they are more than the merge key. */
  readonly mapKeys?: readonly string[];
  readonly retainKeys?: boolean;
}
export interface ObjectSchema extends Common {
  readonly type: 'object';
  /** The type's name in OpenAPI: "io.k8s.api.core.v1.Container". */
  readonly name: string;
  /** What the type itself is, whatever the field that uses it says. */
  readonly about?: string | undefined;
  readonly fields: Readonly<Record<string, Schema>>;
  /** The strategic merge patch may name the only keys to keep ($retainKeys). */
  readonly retainKeys?: boolean;
  /** Always present in answers, if only as {} (a Go struct that is no pointer). */
  readonly always?: boolean;
}

export type Schema =
  | StringSchema
  | IntegerSchema
  | NumberSchema
  | BooleanSchema
  | QuantitySchema
  | IntOrStringSchema
  | AnySchema
  | MapSchema
  | ListSchema
  | ObjectSchema;

type Options<S extends Schema> = Omit<Partial<S>, 'type'>;

export const string = (options: Options<StringSchema> = {}): StringSchema => ({ ...options, type: 'string' });
export const int32 = (options: Options<IntegerSchema> = {}): IntegerSchema => ({
  ...options,
  type: 'integer',
  bits: 32,
});
export const int64 = (options: Options<IntegerSchema> = {}): IntegerSchema => ({
  ...options,
  type: 'integer',
  bits: 64,
});
export const number = (options: Options<NumberSchema> = {}): NumberSchema => ({ ...options, type: 'number' });
export const boolean = (options: Options<BooleanSchema> = {}): BooleanSchema => ({ ...options, type: 'boolean' });
export const quantity = (options: Options<QuantitySchema> = {}): QuantitySchema => ({ ...options, type: 'quantity' });
export const intOrString = (options: Options<IntOrStringSchema> = {}): IntOrStringSchema => ({
  ...options,
  type: 'intOrString',
});
export const any = (options: Options<AnySchema> = {}): AnySchema => ({ ...options, type: 'any' });
export const time = (options: Options<StringSchema> = {}): StringSchema => string({ ...options, format: 'date-time' });
export const microTime = (options: Options<StringSchema> = {}): StringSchema =>
  string({ ...options, format: 'micro-time' });
/** Base64 text. */
export const bytes = (options: Options<StringSchema> = {}): StringSchema =>
  string({ ...options, format: 'byte', keep: true });
export const map = (values: Schema, options: Omit<Options<MapSchema>, 'values'> = {}): MapSchema => ({
  ...options,
  type: 'map',
  values,
});
export const list = (items: Schema, options: Omit<Options<ListSchema>, 'items'> = {}): ListSchema => ({
  ...options,
  type: 'list',
  items,
});
/** A named type. Fields of a type are in the order in which Kubernetes documents them, as far as it helps readers. */
export const object = (
  name: string,
  fields: Readonly<Record<string, Schema>>,
  options: Omit<Options<ObjectSchema>, 'fields' | 'name'> = {},
): ObjectSchema => ({ ...options, about: options.description, type: 'object', name, fields });

export const strings = (options: Omit<Options<ListSchema>, 'items'> = {}): ListSchema =>
  list(string({ keep: true }), options);
/** A map of text to text: labels, annotations. */
export const stringMap = (options: Omit<Options<MapSchema>, 'values'> = {}): MapSchema =>
  map(string({ keep: true }), options);
/** Resource amounts by name. */
export const quantities = (): MapSchema => map(quantity());

/** A use of a schema with other flags: `use(PodSpec, { required: true })`. */
export function use<S extends Schema>(schema: S, options: Options<S>): S {
  return { ...schema, ...options };
}

/** A field with its number in protobuf: `name: wire(1, string())`. The numbers are the API's contract and never change. */
export function wire<S extends Schema>(number: number, schema: S): S {
  return { ...schema, wire: [number] };
}

/**
 * Fields that are the parent's own in JSON and in protobuf those of a message in field `number` (an embedded struct in Go):
 * `...embedded(2, { hostPath: wire(1, HostPath) })`.
 */
export function embedded(number: number, fields: Readonly<Record<string, Schema>>): Record<string, Schema> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [name, { ...field, wire: [number, ...(field.wire ?? [])] }]),
  );
}

/** The short Go-like name of a type for messages: "[]v1.Container", "map[string]string", "*int32". */
export function goType(schema: Schema): string {
  switch (schema.type) {
    case 'string':
      return schema.format === 'date-time' ? 'v1.Time' : schema.format === 'byte' ? '[]uint8' : 'string';
    case 'integer':
      return schema.bits === 32 ? 'int32' : 'int64';
    case 'number':
      return 'float64';
    case 'boolean':
      return 'bool';
    case 'quantity':
      return 'resource.Quantity';
    case 'intOrString':
      return 'intstr.IntOrString';
    case 'any':
      return 'interface {}';
    case 'map':
      return `map[string]${goType(schema.values)}`;
    case 'list':
      return `[]${goType(schema.items)}`;
    case 'object':
      return schema.name.split('.').slice(-2).join('.');
  }
}

/** "Container" of "io.k8s.api.core.v1.Container". */
export function shortName(schema: ObjectSchema): string {
  return schema.name.slice(schema.name.lastIndexOf('.') + 1);
}
