/**
 * Requests in Kubernetes' protobuf form, for the few small kinds that typed Go clients send so: reviews, evictions, token
 * requests, bindings, delete options. Answers are always JSON, which those clients accept too. Objects that are stored are
 * not among them: their clients get 415 and must speak JSON.
 *
 * Envelope: "k8s\0", then runtime.Unknown { typeMeta (1) { apiVersion (1), kind (2) }, raw (2) }.
 * Field numbers: the generated.proto files of k8s.io/api.
 */
import { statusError } from '../../kube/status.ts';

const MAGIC = Buffer.from('k8s\0');

type Shape = { readonly [field: number]: readonly [name: string, type: 'text' | 'texts' | 'number' | 'flag' | Shape] };

const metadata: Shape = {
  1: ['name', 'text'],
  2: ['generateName', 'text'],
  3: ['namespace', 'text'],
  5: ['uid', 'text'],
};
const deleteOptions: Shape = {
  1: ['gracePeriodSeconds', 'number'],
  2: ['preconditions', { 1: ['uid', 'text'], 2: ['resourceVersion', 'text'] }],
  3: ['orphanDependents', 'flag'],
  4: ['propagationPolicy', 'text'],
  5: ['dryRun', 'texts'],
};
const objectReference: Shape = {
  1: ['kind', 'text'],
  2: ['namespace', 'text'],
  3: ['name', 'text'],
  4: ['uid', 'text'],
};

const shapes: Readonly<Record<string, Shape>> = {
  DeleteOptions: deleteOptions,
  Eviction: { 1: ['metadata', metadata], 2: ['deleteOptions', deleteOptions] },
  Binding: { 1: ['metadata', metadata], 2: ['target', objectReference] },
  SelfSubjectReview: { 1: ['metadata', metadata] },
  SelfSubjectAccessReview: {
    1: ['metadata', metadata],
    2: [
      'spec',
      {
        1: [
          'resourceAttributes',
          {
            1: ['namespace', 'text'],
            2: ['verb', 'text'],
            3: ['group', 'text'],
            4: ['version', 'text'],
            5: ['resource', 'text'],
            6: ['subresource', 'text'],
            7: ['name', 'text'],
          },
        ],
        2: ['nonResourceAttributes', { 1: ['path', 'text'], 2: ['verb', 'text'] }],
      },
    ],
  },
  TokenRequest: {
    1: ['metadata', metadata],
    2: [
      'spec',
      {
        1: ['audiences', 'texts'],
        3: [
          'boundObjectRef',
          { 1: ['kind', 'text'], 2: ['apiVersion', 'text'], 3: ['name', 'text'], 4: ['uid', 'text'] },
        ],
        4: ['expirationSeconds', 'number'],
      },
    ],
  },
};

interface Field {
  readonly number: number;
  /** A number for varints, bytes for what is length-delimited. */
  readonly value: number | Buffer;
}

/** Throws 415 for kinds that are not understood in this form, 400 for broken messages. */
export function parseProtobuf(bytes: Buffer): unknown {
  if (!bytes.subarray(0, 4).equals(MAGIC)) throw broken();
  const unknown = new Map(fieldsOf(bytes.subarray(4)).map(({ number, value }) => [number, value]));
  const type = unknown.get(1);
  const raw = unknown.get(2) ?? Buffer.alloc(0);
  if (!(type instanceof Buffer) || !(raw instanceof Buffer)) throw broken();
  const [apiVersion, kind] = [1, 2].map((number) => fieldsOf(type).find((field) => field.number === number)?.value);
  const shape = shapes[String(kind)];
  if (!shape) {
    throw statusError(
      'UnsupportedMediaType',
      `the body of the request was in an unknown format (protobuf of ${String(kind)}) - accepted media types include: application/json, application/yaml`,
    );
  }
  return { apiVersion: String(apiVersion), kind: String(kind), ...decode(shape, raw) };
}

const broken = () => statusError('BadRequest', 'the protobuf body cannot be decoded');

function decode(shape: Shape, bytes: Buffer): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const { number, value } of fieldsOf(bytes)) {
    const known = shape[number];
    if (!known) continue;
    const [name, type] = known;
    if (type === 'number' || type === 'flag') {
      if (typeof value !== 'number') throw broken();
      result[name] = type === 'flag' ? value !== 0 : value;
    } else if (!(value instanceof Buffer)) throw broken();
    else if (type === 'text') result[name] = value.toString();
    else if (type === 'texts') result[name] = [...((result[name] as string[] | undefined) ?? []), value.toString()];
    else result[name] = decode(type, value);
  }
  return result;
}

function fieldsOf(bytes: Buffer): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw broken();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(BigInt.asIntN(64, value));
    }
    throw broken();
  };
  while (at < bytes.length) {
    const key = varint();
    const [number, wire] = [key >>> 3, key & 7];
    if (wire === 0) fields.push({ number, value: varint() });
    else if (wire === 1 || wire === 5) at += wire === 1 ? 8 : 4;
    else if (wire === 2) {
      const length = varint();
      if (length < 0 || at + length > bytes.length) throw broken();
      fields.push({ number, value: bytes.subarray(at, at + length) });
      at += length;
    } else throw broken();
  }
  return fields;
}
