/**
 * Requests in Kubernetes' protobuf form, as typed Go clients send them (`kubectl create namespace`, controllers). Answers are
 * JSON, which those clients accept too.
 *
 * Envelope: "k8s\0", then runtime.Unknown { typeMeta (1) { apiVersion (1), kind (2) }, raw (2) }.
 *
 * The result is the untyped JSON that the same client would have sent, but for one thing: Go writes empty text, 0 and false of
 * fields that are no pointers; decoding by the kind's schema leaves those out afterwards, as it does with JSON.
 */
import { statusError } from '../../kube/status.ts';
import { type FieldShape, type FieldType, messageShape } from './messages.ts';
import { ProtobufError, type WireField, wireFields } from './wire.ts';

const MAGIC = Buffer.from('k8s\0');
/** Deeper than any API object; protects the recursion. */
const MAX_DEPTH = 100;

/** Throws 415 for kinds that are not understood in this form, 400 for broken messages. */
export function parseProtobuf(bytes: Buffer): unknown {
  try {
    return decodeEnvelope(bytes);
  } catch (error) {
    if (!(error instanceof ProtobufError)) throw error;
    throw statusError('BadRequest', `the protobuf body cannot be decoded: ${error.message}`);
  }
}

function decodeEnvelope(bytes: Buffer): unknown {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw new ProtobufError('it does not begin with k8s');
  const envelope = new Map(wireFields(bytes.subarray(MAGIC.length)).map(({ number, value }) => [number, value]));
  const typeMeta = new Map(wireFields(bytesOf(envelope.get(1))).map(({ number, value }) => [number, value]));
  const apiVersion = bytesOf(typeMeta.get(1)).toString();
  const kind = bytesOf(typeMeta.get(2)).toString();
  if (!messageShape(kind)) {
    throw statusError(
      'UnsupportedMediaType',
      `the body of the request was in an unknown format (protobuf of ${kind}) - accepted media types include: application/json, application/yaml`,
    );
  }
  return { apiVersion, kind, ...decodeMessage(kind, bytesOf(envelope.get(2) ?? Buffer.alloc(0)), 0) };
}

function decodeMessage(name: string, bytes: Buffer, depth: number): Record<string, unknown> {
  if (depth > MAX_DEPTH) throw new ProtobufError('it is nested too deeply');
  const shape = messageShape(name);
  const result: Record<string, unknown> = {};
  for (const field of wireFields(bytes)) {
    const known = shape?.get(field.number);
    if (known) put(result, known, field, depth);
  }
  return result;
}

function put(result: Record<string, unknown>, shape: FieldShape, field: WireField, depth: number): void {
  const value = (one: WireField) => decodeValue(shape.type, one, depth + 1);
  switch (shape.form) {
    case 'inline':
      Object.assign(result, value(field));
      return;
    case 'repeated':
      result[shape.name] = [...((result[shape.name] as unknown[] | undefined) ?? []), value(field)];
      return;
    case 'map': {
      const entry = wireFields(bytesOf(field.value));
      const key = entry.find((one) => one.number === 1)?.value;
      const content = entry.find((one) => one.number === 2) ?? { number: 2, value: Buffer.alloc(0) };
      const before = (result[shape.name] as Record<string, unknown> | undefined) ?? {};
      const name = key === undefined ? '' : bytesOf(key).toString();
      result[shape.name] = Object.fromEntries([...Object.entries(before), [name, value(content)]]);
      return;
    }
    case 'single': {
      const decoded = value(field);
      if (decoded !== undefined) result[shape.name] = decoded;
    }
  }
}

function decodeValue(type: FieldType, { value }: WireField, depth: number): unknown {
  if (typeof type === 'object') return decodeMessage(type.message, bytesOf(value), depth);
  switch (type) {
    case 's':
      return bytesOf(value).toString();
    case 'i':
      return Number(varintOf(value));
    case 'b':
      return varintOf(value) !== 0n;
    case 'y':
      return bytesOf(value).toString('base64');
    case 'd':
      return bytesOf(value).readDoubleLE();
    case 'time':
      return decodeTime(bytesOf(value));
    case 'quantity':
      return textField(bytesOf(value), 1);
    case 'intOrString':
      return decodeIntOrString(bytesOf(value));
    case 'json':
      return decodeJson(bytesOf(value));
  }
}

/** Time and MicroTime: { seconds (1), nanos (2) }; nothing at all is Go's zero time, which JSON leaves out. */
function decodeTime(bytes: Buffer): string | undefined {
  const fields = new Map(wireFields(bytes).map(({ number, value }) => [number, value]));
  if (fields.size === 0) return undefined;
  const seconds = Number(varintOf(fields.get(1) ?? 0n));
  const nanos = Number(varintOf(fields.get(2) ?? 0n));
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) throw new ProtobufError('a time is out of range');
  const text = date.toISOString().slice(0, -'.000Z'.length);
  return nanos === 0 ? `${text}Z` : `${text}.${String(Math.floor(nanos / 1000)).padStart(6, '0')}Z`;
}

/** IntOrString: { type (1): 0 a number, 1 a text; intVal (2); strVal (3) }. */
function decodeIntOrString(bytes: Buffer): number | string {
  const fields = new Map(wireFields(bytes).map(({ number, value }) => [number, value]));
  if (varintOf(fields.get(1) ?? 0n) === 1n) return bytesOf(fields.get(3) ?? Buffer.alloc(0)).toString();
  return Number(varintOf(fields.get(2) ?? 0n));
}

/** FieldsV1 and RawExtension: { raw (1) }, JSON inside. */
function decodeJson(bytes: Buffer): unknown {
  const text = textField(bytes, 1);
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    throw new ProtobufError('JSON inside it is broken');
  }
}

function textField(bytes: Buffer, number: number): string {
  const value = wireFields(bytes).find((field) => field.number === number)?.value;
  return value === undefined ? '' : bytesOf(value).toString();
}

function bytesOf(value: bigint | Buffer | undefined): Buffer {
  if (Buffer.isBuffer(value)) return value;
  throw new ProtobufError('a field has the wrong type');
}

function varintOf(value: bigint | Buffer): bigint {
  if (typeof value === 'bigint') return value;
  throw new ProtobufError('a field has the wrong type');
}
