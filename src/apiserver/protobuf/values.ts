/** The values of fields: scalars, and the messages that are scalars in JSON (Time, Quantity, IntOrString, FieldsV1). */
import type { Schema } from '../schema/schema.ts';
import { bytesOf, ProtobufError, varintOf, type WireValue, wireFields } from './wire.ts';

type ScalarSchema = Exclude<Schema, { type: 'object' | 'list' | 'map' }>;

/** Undefined: as if the field had not been sent. */
export function decodeScalar(schema: ScalarSchema, value: WireValue): unknown {
  switch (schema.type) {
    case 'string':
      return decodeText(schema.format, bytesOf(value));
    case 'integer':
      return Number(varintOf(value));
    case 'boolean':
      return varintOf(value) !== 0n;
    case 'number':
      return decodeDouble(value);
    case 'quantity':
      return decodeQuantity(bytesOf(value));
    case 'intOrString':
      return decodeIntOrString(bytesOf(value));
    case 'any':
      return decodeRawJson(bytesOf(value));
  }
}

function decodeText(format: Extract<Schema, { type: 'string' }>['format'], bytes: Buffer): string | undefined {
  switch (format) {
    case undefined:
      return bytes.toString();
    case 'byte':
      return bytes.toString('base64');
    case 'date-time':
    case 'micro-time':
      return decodeTime(bytes);
  }
}

function decodeDouble(value: WireValue): number {
  if (typeof value === 'bigint' || Buffer.isBuffer(value) || value.fixed.length !== 8)
    throw new ProtobufError('a field has the wrong wire type');
  return value.fixed.readDoubleLE();
}

/** The last value of every field. */
function messageOf(bytes: Buffer): ReadonlyMap<number, WireValue> {
  return new Map(wireFields(bytes).map(({ number, value }) => [number, value]));
}

const MICROSECONDS = 1_000_000n;

/** Time and MicroTime: { seconds (1), nanos (2) }; nothing at all is Go's zero time, which JSON leaves out. */
function decodeTime(bytes: Buffer): string | undefined {
  const fields = messageOf(bytes);
  if (fields.size === 0) return undefined;
  const seconds = varintOf(fields.get(1) ?? 0n);
  const nanos = varintOf(fields.get(2) ?? 0n);
  // Nanoseconds may be negative or more than a second, as Go's time.Unix takes them.
  const micros = seconds * MICROSECONDS + floorDivide(nanos, 1000n);
  const date = new Date(Number(floorDivide(micros, MICROSECONDS)) * 1000);
  if (Number.isNaN(date.getTime())) throw new ProtobufError('a time is out of range');
  const text = date.toISOString().slice(0, -'.000Z'.length);
  const fraction = micros - floorDivide(micros, MICROSECONDS) * MICROSECONDS;
  return fraction === 0n ? `${text}Z` : `${text}.${String(fraction).padStart(6, '0')}Z`;
}

/** BigInt's division rounds towards zero. */
function floorDivide(value: bigint, by: bigint): bigint {
  return value < 0n && value % by !== 0n ? value / by - 1n : value / by;
}

/** Quantity: { string (1) }. */
function decodeQuantity(bytes: Buffer): string {
  const text = messageOf(bytes).get(1);
  return text === undefined ? '0' : bytesOf(text).toString();
}

/** IntOrString: { type (1): 0 a number, 1 a text; intVal (2); strVal (3) }. */
function decodeIntOrString(bytes: Buffer): number | string {
  const fields = messageOf(bytes);
  if (varintOf(fields.get(1) ?? 0n) === 1n) return bytesOf(fields.get(3) ?? Buffer.alloc(0)).toString();
  return Number(varintOf(fields.get(2) ?? 0n));
}

/** FieldsV1: { raw (1) }, JSON inside. */
function decodeRawJson(bytes: Buffer): unknown {
  const raw = messageOf(bytes).get(1);
  if (raw === undefined || bytesOf(raw).length === 0) return undefined;
  try {
    return JSON.parse(bytesOf(raw).toString()) as unknown;
  } catch {
    throw new ProtobufError('JSON inside it is broken');
  }
}
