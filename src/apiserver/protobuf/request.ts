/**
 * Requests in Kubernetes' protobuf form: objects of a kind by its schema, and the few small kinds that are never stored.
 * Answers are always JSON, which those clients accept too.
 *
 * Envelope: "k8s\0", then runtime.Unknown { typeMeta (1) { apiVersion (1), kind (2) }, raw (2) }.
 */
import { statusError } from '../../kube/status.ts';
import type { Kind } from '../resources/kind.ts';
import { decodeMessage } from './decode.ts';
import { bytesOf, lastOf, numberOf, readFields, WireError } from './wire.ts';

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
  Scale: {
    1: ['metadata', { ...metadata, 6: ['resourceVersion', 'text'] }],
    2: ['spec', { 1: ['replicas', 'number'] }],
  },
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

/** Throws 415 for kinds that are not understood in this form, 400 for broken messages. `kind` is what the path is about. */
export function parseProtobuf(bytes: Buffer, kind: Kind | undefined): unknown {
  try {
    return parse(bytes, kind);
  } catch (error) {
    if (error instanceof WireError)
      throw statusError('BadRequest', `the protobuf body cannot be decoded: ${error.message}`);
    throw error;
  }
}

function parse(bytes: Buffer, kind: Kind | undefined): unknown {
  if (!bytes.subarray(0, 4).equals(MAGIC)) throw new WireError('it does not begin with k8s\\0');
  const unknown = readFields(bytes.subarray(4));
  const type = readFields(bytesOf(lastOf(unknown, 1)));
  const raw = bytesOf(lastOf(unknown, 2));
  const apiVersion = bytesOf(lastOf(type, 1)).toString();
  const kindName = bytesOf(lastOf(type, 2)).toString();
  if (kind && kindName === kind.kind) return { ...decodeMessage(kind.schema, raw), apiVersion, kind: kindName };
  const shape = shapes[kindName];
  if (shape) return { apiVersion, kind: kindName, ...decodeShape(shape, raw) };
  throw statusError(
    'UnsupportedMediaType',
    `the body of the request was in an unknown format (protobuf of ${kindName}) - accepted media types include: application/json, application/yaml`,
  );
}

function decodeShape(shape: Shape, bytes: Buffer): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const { number, value } of readFields(bytes)) {
    const known = shape[number];
    if (!known) continue;
    const [name, type] = known;
    if (type === 'number') result[name] = numberOf(value);
    else if (type === 'flag') result[name] = numberOf(value) !== 0;
    else if (type === 'text') result[name] = bytesOf(value).toString();
    else if (type === 'texts')
      result[name] = [...((result[name] as string[] | undefined) ?? []), bytesOf(value).toString()];
    else result[name] = decodeShape(type, bytesOf(value));
  }
  return result;
}
