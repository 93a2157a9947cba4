/**
 * Decodes a message by the schema of its type: the fields' numbers stand there (`wire` in schema/schema.ts). What comes out is
 * the untyped JSON that the same client would have sent, but for one thing: Go writes empty text, 0 and false of fields that
 * are no pointers; decoding by the schema leaves those out afterwards, as it does with JSON.
 *
 * A number that the schema does not have becomes a field of the name `protobuf field 27`: it meets whatever an unknown field
 * meets in JSON (a warning, a refusal with fieldValidation=Strict, silence), rather than being lost unseen. Unless it says
 * nothing: clients that are newer than the schema write the empty values of fields that nobody has set.
 */
import { defineOwn, isRecord } from '../schema/decode.ts';
import type { ObjectSchema, Schema } from '../schema/schema.ts';
import { decodeScalar } from './values.ts';
import { bytesOf, ProtobufError, packedVarints, type WireValue, wireFields } from './wire.ts';

/** What a number stands for: a field, or an embedded message whose fields are the parent's own in JSON. */
type Shape = Map<number, { readonly name: string; readonly schema: Schema } | Shape>;

type Fields = ObjectSchema['fields'];
type Message = Record<string, unknown>;

/** By the fields, which all uses of a schema share. */
const shapes = new WeakMap<Fields, Shape>();

function shapeOf(fields: Fields): Shape {
  let shape = shapes.get(fields);
  if (!shape) {
    shape = new Map();
    for (const [name, schema] of Object.entries(fields)) if (schema.wire) place(shape, schema.wire, name, schema);
    shapes.set(fields, shape);
  }
  return shape;
}

function place(shape: Shape, [number, ...inner]: readonly number[], name: string, schema: Schema): void {
  if (number === undefined) return;
  if (inner.length === 0) {
    shape.set(number, { name, schema });
    return;
  }
  const before = shape.get(number);
  const within: Shape = before instanceof Map ? before : new Map();
  shape.set(number, within);
  place(within, inner, name, schema);
}

/** Throws ProtobufError. */
export function decodeMessage(schema: ObjectSchema, bytes: Buffer): Message {
  return decodeInto({}, shapeOf(schema.fields), bytes);
}

/** Fills in the message and returns it. What comes twice is merged, as protocol buffers want it. */
function decodeInto(message: Message, shape: Shape, bytes: Buffer): Message {
  for (const { number, value } of wireFields(bytes)) {
    const known = shape.get(number);
    if (known instanceof Map) decodeInto(message, known, bytesOf(value));
    else if (known) put(message, known.name, known.schema, value);
    else if (!isUnset(value, 0)) message[`protobuf field ${number}`] = null;
  }
  return message;
}

function put(message: Message, name: string, schema: Schema, value: WireValue): void {
  switch (schema.type) {
    case 'list': {
      message[name] ??= [];
      const items = message[name] as unknown[];
      const isPacked = schema.items.type === 'integer' && Buffer.isBuffer(value);
      for (const item of isPacked ? packedVarints(bytesOf(value)) : [value])
        items.push(decodeValue(schema.items, item, undefined));
      return;
    }
    case 'map': {
      message[name] ??= {};
      putEntry(message[name] as Message, schema.values, bytesOf(value));
      return;
    }
    default: {
      const decoded = decodeValue(schema, value, message[name]);
      if (decoded !== undefined) message[name] = decoded;
    }
  }
}

/** An entry of a map: { key (1), value (2) }. */
function putEntry(entries: Message, schema: Schema, bytes: Buffer): void {
  const fields = new Map(wireFields(bytes).map(({ number, value }) => [number, value]));
  const key = bytesOf(fields.get(1) ?? EMPTY).toString();
  defineOwn(entries, key, decodeValue(schema, fields.get(2) ?? EMPTY, undefined));
}

const EMPTY = Buffer.alloc(0);

function decodeValue(schema: Schema, value: WireValue, before: unknown): unknown {
  switch (schema.type) {
    case 'object':
      return decodeInto(isRecord(before) ? before : {}, shapeOf(schema.fields), bytesOf(value));
    case 'list':
    case 'map':
      throw new ProtobufError('lists of lists do not exist in protobuf');
    default:
      return decodeScalar(schema, value);
  }
}

/** Deeper than any API object; protects the recursion. */
const MAX_DEPTH = 100;

/** Whether an unknown field is Go's zero value: 0, nothing, or a message of nothing but that. */
function isUnset(value: WireValue, depth: number): boolean {
  if (typeof value === 'bigint') return value === 0n;
  if (!Buffer.isBuffer(value)) return value.fixed.every((byte) => byte === 0);
  if (depth > MAX_DEPTH) return false;
  try {
    return wireFields(value).every((field) => isUnset(field.value, depth + 1));
  } catch (error) {
    if (error instanceof ProtobufError) return false;
    throw error;
  }
}
