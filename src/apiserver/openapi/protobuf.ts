/**
 * OpenAPI v2 in protobuf, as kubectl before 1.27 asks for it. Only the wire format and the few messages of gnostic's
 * OpenAPIv2.proto that a Document of definitions and operations needs; field numbers from that file.
 */
import type { JsonSchema } from './definitions.ts';

const WIRE_BYTES = 2;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** A length-delimited field: text or a message. */
function field(number: number, content: string | Buffer | undefined): Buffer {
  if (content === undefined) return Buffer.alloc(0);
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return Buffer.concat([varint((number << 3) | WIRE_BYTES), varint(bytes.length), bytes]);
}

const message = (...fields: readonly Buffer[]): Buffer => Buffer.concat(fields);

/** Any: its YAML text (JSON is YAML). */
const any = (value: unknown): Buffer => message(field(2, JSON.stringify(value)));
const named = (name: string, value: Buffer): Buffer => message(field(1, name), field(2, value));

function extensions(number: number, of: object): Buffer {
  const entries = Object.entries(of).filter(([key]) => key.startsWith('x-'));
  return Buffer.concat(entries.map(([key, value]) => field(number, named(key, any(value)))));
}

function schema(of: JsonSchema): Buffer {
  return message(
    field(1, of.$ref),
    field(2, of.format),
    field(4, of.description),
    of.default === undefined ? Buffer.alloc(0) : field(5, any(of.default)),
    ...(of.required ?? []).map((name) => field(19, name)),
    of.additionalProperties ? field(21, message(field(1, schema(of.additionalProperties)))) : Buffer.alloc(0),
    of.type ? field(22, message(field(1, of.type))) : Buffer.alloc(0),
    of.items ? field(23, message(field(1, schema(of.items)))) : Buffer.alloc(0),
    of.properties ? field(25, properties(of.properties)) : Buffer.alloc(0),
    extensions(31, of),
  );
}

/** Properties and Definitions: repeated NamedSchema in field 1. */
function properties(of: Readonly<Record<string, JsonSchema>>): Buffer {
  return Buffer.concat(Object.entries(of).map(([name, value]) => field(1, named(name, schema(value)))));
}

interface Swagger {
  readonly info: { readonly title: string; readonly version: string };
  readonly paths: Readonly<Record<string, object>>;
  readonly definitions: Readonly<Record<string, JsonSchema>>;
}

/** Methods of PathItem by their field number. */
const METHODS = { get: 2, put: 3, post: 4, delete: 5, patch: 8 } as const;

export function encodeSwagger({ info, paths, definitions }: Swagger): Buffer {
  const items = Object.entries(paths).map(([path, item]) => field(2, named(path, pathItem(item))));
  return message(
    field(1, '2.0'),
    field(2, message(field(1, info.title), field(2, info.version))),
    field(8, Buffer.concat(items)),
    field(9, properties(definitions)),
  );
}

function pathItem(item: object): Buffer {
  const operations = item as Record<string, Record<string, unknown>>;
  return Buffer.concat(
    Object.entries(METHODS).map(([method, number]) => {
      const operation = operations[method];
      return operation ? field(number, operationMessage(operation)) : Buffer.alloc(0);
    }),
  );
}

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly description: string;
  readonly type: string;
}

function operationMessage(operation: Record<string, unknown>): Buffer {
  const response = message(field(1, 'OK'));
  return message(
    field(3, String(operation['description'])),
    field(5, String(operation['operationId'])),
    ...(operation['produces'] as string[]).map((type) => field(6, type)),
    ...(operation['consumes'] as string[]).map((type) => field(7, type)),
    ...(operation['parameters'] as Parameter[]).map((parameter) => field(8, parametersItem(parameter))),
    // Responses.response_code (1) -> NamedResponseValue -> ResponseValue.response (1)
    field(9, field(1, named('200', message(field(1, response))))),
    extensions(13, operation),
  );
}

/** ParametersItem.parameter (1) -> Parameter.non_body_parameter (2) -> query_parameter_sub_schema (3). */
function parametersItem(parameter: Parameter): Buffer {
  const query = message(
    field(2, parameter.in),
    field(3, parameter.description),
    field(4, parameter.name),
    field(6, parameter.type),
  );
  return field(1, field(2, field(3, query)));
}
