/**
 * Requests in Kubernetes' protobuf form, as typed Go clients send them (`kubectl create namespace`, controllers). Answers are
 * JSON, which those clients accept too.
 *
 * Envelope: "k8s\0", then runtime.Unknown { typeMeta (1) { apiVersion (1), kind (2) }, raw (2) }.
 */
import { statusError } from '../../kube/status.ts';
import { kinds } from '../resources/index.ts';
import { DecodeError, decode } from '../schema/decode.ts';
import { type ObjectSchema, shortName } from '../schema/schema.ts';
import { bodies } from './bodies.ts';
import { decodeMessage } from './message.ts';
import { bytesOf, ProtobufError, type WireValue, wireFields } from './wire.ts';

const MAGIC = Buffer.from('k8s\0');

/** Kinds without numbers have no protobuf form: elsewhere they are CustomResourceDefinitions. */
const hasWireForm = ({ fields: { apiVersion, kind, ...fields } }: ObjectSchema) =>
  Object.values(fields).every((field) => field.wire !== undefined);

const kindSchemas = new Map(
  kinds.filter(({ schema }) => hasWireForm(schema)).map(({ kind, schema }) => [kind, schema]),
);
const bodySchemas = new Map(bodies.map((schema) => [shortName(schema), schema]));

/**
 * The body as untyped JSON, in which fields that the server does not know have names all the same (message.ts). The version is
 * for the caller to check. Throws 415 for kinds that are not understood in this form, 400 for broken messages.
 */
export function parseProtobuf(bytes: Buffer): unknown {
  try {
    return decodeEnvelope(bytes);
  } catch (error) {
    if (!(error instanceof ProtobufError) && !(error instanceof DecodeError)) throw error;
    throw statusError('BadRequest', `the protobuf body cannot be decoded: ${error.message}`);
  }
}

function decodeEnvelope(bytes: Buffer): unknown {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw new ProtobufError('it does not begin with k8s');
  const envelope = messageOf(bytes.subarray(MAGIC.length));
  const typeMeta = messageOf(bytesOf(envelope.get(1) ?? EMPTY));
  const apiVersion = bytesOf(typeMeta.get(1) ?? EMPTY).toString();
  const kind = bytesOf(typeMeta.get(2) ?? EMPTY).toString();
  if (kind === '') throw new ProtobufError("'Kind' is missing");
  const raw = bytesOf(envelope.get(2) ?? EMPTY);
  const kindSchema = kindSchemas.get(kind);
  if (kindSchema) return { apiVersion, kind, ...decodeMessage(kindSchema, raw) };
  const bodySchema = bodySchemas.get(kind);
  if (bodySchema) return { apiVersion, kind, ...decode(bodySchema, decodeMessage(bodySchema, raw)).value };
  throw statusError(
    'UnsupportedMediaType',
    `the body of the request was in an unknown format (protobuf of ${kind}) - accepted media types include: application/json, application/yaml`,
  );
}

const EMPTY = Buffer.alloc(0);

function messageOf(bytes: Buffer): ReadonlyMap<number, WireValue> {
  return new Map(wireFields(bytes).map(({ number, value }) => [number, value]));
}
