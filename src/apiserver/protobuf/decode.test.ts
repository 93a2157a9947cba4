import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StatusError } from '../../kube/status.ts';
import { kinds } from '../resources/index.ts';
import { DecodeError, decode } from '../schema/decode.ts';
import { QuantityError } from '../schema/quantity.ts';
import { parseProtobuf } from './decode.ts';

/** A field: varints from numbers, length-delimited from everything else. */
function field(number: number, value: number | string | Buffer): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint((number << 3) | 0), varint(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
}

const join = (...parts: Buffer[]) => Buffer.concat(parts);

function envelope(apiVersion: string, kind: string, raw: Buffer): Buffer {
  return join(
    Buffer.from('k8s\0'),
    field(1, join(field(1, apiVersion), field(2, kind))),
    field(2, raw),
    field(3, ''),
    field(4, ''),
  );
}

test('what kubectl create namespace sends', () => {
  const metadata = join(field(1, 'elsewhere'), field(2, ''), field(3, ''), field(8, Buffer.alloc(0)));
  const decoded = parseProtobuf(
    envelope('v1', 'Namespace', join(field(1, metadata), field(2, ''), field(3, field(1, '')))),
  );
  assert.deepEqual(decoded, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'elsewhere', generateName: '', namespace: '' },
    spec: {},
    status: { phase: '' },
  });
});

test('maps, lists, inlined messages, quantities, int-or-string, times, negative numbers', () => {
  const entry = (key: string, value: string | Buffer) => join(field(1, key), field(2, value));
  const probe = join(
    field(1, field(2, join(field(1, '/'), field(2, join(field(1, 1), field(3, 'http')))))),
    field(2, 5),
  );
  const volume = join(field(1, 'data'), field(2, field(2, field(1, 'Memory'))));
  const limits = entry('cpu', field(1, '500m'));
  const container = join(field(1, 'c'), field(3, 'sh'), field(3, '-c'), field(8, field(1, limits)), field(10, probe));
  const spec = join(field(1, volume), field(2, container), field(25, -5));
  const metadata = join(
    field(1, 'p'),
    field(8, join(field(1, 1_700_000_000))),
    field(11, entry('a', 'b')),
    field(11, entry('c', 'd')),
  );
  const decoded = parseProtobuf(envelope('v1', 'Pod', join(field(1, metadata), field(2, spec)))) as Record<
    string,
    unknown
  >;
  assert.deepEqual(decoded['metadata'], {
    name: 'p',
    creationTimestamp: '2023-11-14T22:13:20Z',
    labels: { a: 'b', c: 'd' },
  });
  assert.deepEqual(decoded['spec'], {
    volumes: [{ name: 'data', emptyDir: { medium: 'Memory' } }],
    containers: [
      {
        name: 'c',
        command: ['sh', '-c'],
        resources: { limits: { cpu: '500m' } },
        livenessProbe: { httpGet: { path: '/', port: 'http' }, initialDelaySeconds: 5 },
      },
    ],
    priority: -5,
  });
});

const podOf = (...spec: Buffer[]) =>
  envelope('v1', 'Pod', join(field(1, field(1, 'p')), field(2, join(field(2, field(1, 'c')), ...spec))));
const podSchema = kinds.find(({ kind }) => kind === 'Pod')!.schema;

test('a set field that the schema does not have is an unknown field, as in JSON', () => {
  const body = podOf(field(2, join(field(1, 'd'), field(150, 'text'))), field(1000, 7));
  assert.deepEqual(decode(podSchema, parseProtobuf(body)).strictErrors, [
    'unknown field "spec.containers[1].protobuf field 150"',
    'unknown field "spec.protobuf field 1000"',
  ]);
});

test('an unknown field without a value is none: newer clients write those', () => {
  const nothing = join(field(1, ''), field(2, 0), field(3, field(1, field(1, ''))));
  const body = podOf(field(1000, ''), field(1001, 0), field(1002, nothing), field(1003, field(1, nothing)));
  assert.deepEqual(decode(podSchema, parseProtobuf(body)).strictErrors, []);
});

test('keys of maps are only keys, whatever they are called', () => {
  const entry = (key: string, value: string) => join(field(1, key), field(2, value));
  const data = join(field(2, entry('__proto__', 'a')), field(2, entry('constructor', 'b')), field(2, field(2, 'c')));
  const decoded = parseProtobuf(envelope('v1', 'ConfigMap', data)) as { data: Record<string, unknown> };
  assert.deepEqual(Object.entries(decoded.data), [
    ['__proto__', 'a'],
    ['constructor', 'b'],
    ['', 'c'],
  ]);
  assert.equal(Object.getPrototypeOf(decoded.data), Object.prototype);
  assert.equal(({} as Record<string, unknown>)['a'], undefined);
});

test('a message that comes in parts is one; packed numbers are a list', () => {
  const decoded = parseProtobuf(
    podOf(field(14, field(2, 1000)), field(14, join(field(4, 5), field(4, Buffer.from([6, 0x80, 1]))))),
  ) as { spec: Record<string, unknown> };
  assert.deepEqual(decoded.spec['securityContext'], { runAsUser: 1000, supplementalGroups: [5, 6, 128] });
});

test('times with and without fractions, before 1970, and out of range', () => {
  const leaseOf = (time: Buffer) =>
    parseProtobuf(envelope('coordination.k8s.io/v1', 'Lease', field(2, field(4, time)))) as {
      spec: Record<string, unknown>;
    };
  const renewed = (seconds: number, nanos: number) =>
    leaseOf(join(field(1, seconds), field(2, nanos))).spec['renewTime'];
  assert.equal(renewed(1_700_000_000, 123_456_789), '2023-11-14T22:13:20.123456Z');
  assert.equal(renewed(0, 0), '1970-01-01T00:00:00Z');
  assert.equal(renewed(-1, 0), '1969-12-31T23:59:59Z');
  assert.equal(renewed(1, -1000), '1970-01-01T00:00:00.999999Z');
  assert.deepEqual(leaseOf(Buffer.alloc(0)).spec, {});
  assert.throws(() => renewed(2 ** 60, 0), /time is out of range/);
});

test('the kinds that are only JSON, and unknown ones, are refused with 415; without a kind 400', () => {
  for (const kind of ['ClusterNetworkPolicy', 'Role', '__proto__', 'toString'])
    assert.throws(
      () => parseProtobuf(envelope('v1', kind, Buffer.alloc(0))),
      (error: StatusError) => error.code === 415,
    );
  assert.throws(() => parseProtobuf(envelope('v1', '', Buffer.alloc(0))), /'Kind' is missing/);
  assert.throws(() => parseProtobuf(Buffer.from('k8s\0')), /'Kind' is missing/);
});

test('many items take no longer than their bytes', () => {
  const many = Buffer.concat(Array.from({ length: 200_000 }, () => field(3, '')));
  const decoded = parseProtobuf(podOf(field(2, many))) as { spec: { containers: { command: string[] }[] } };
  assert.equal(decoded.spec.containers[1]?.command.length, 200_000);
});

test('deep nesting in what is unknown does not end the process', () => {
  let deep: Buffer = Buffer.alloc(0);
  for (let i = 0; i < 5000; i++) deep = field(1, deep);
  parseProtobuf(podOf(field(1000, deep)));
});

test('garbage is refused with a Status, never anything else', () => {
  const names = [...kinds.map(({ kind }) => kind), 'DeleteOptions', 'Binding', 'Eviction', 'Scale', 'TokenRequest', ''];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(undefined, ...names), (bytes, kind) => {
      try {
        parseProtobuf(kind === undefined ? Buffer.from(bytes) : envelope('v1', kind, Buffer.from(bytes)));
      } catch (error) {
        assert.ok(error instanceof StatusError, String(error));
      }
    }),
    { numRuns: 5000 },
  );
});

/** Fields with small numbers and of any wire type, nested: most of it is understood by some message. */
const message: fc.Memo<Buffer> = fc.memo((depth) =>
  fc
    .array(fc.tuple(fc.integer({ min: 1, max: 45 }), depth > 1 ? fc.oneof(leaf, message(depth - 1)) : leaf), {
      maxLength: 6,
    })
    .map((fields) => join(...fields.map(([number, value]) => field(number, value)))),
);
const leaf = fc.oneof(
  fc.integer(),
  fc.constantFrom('', '__proto__', 'text', '5Gi'),
  fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes)),
);

test('well-formed nonsense is decoded or refused with a Status, and pollutes nothing', () => {
  fc.assert(
    fc.property(message(5), fc.constantFrom(...kinds), (raw, { kind, schema }) => {
      try {
        decode(schema, parseProtobuf(envelope('v1', kind, raw)));
      } catch (error) {
        const isRefusal =
          error instanceof StatusError || error instanceof DecodeError || error instanceof QuantityError;
        assert.ok(isRefusal, String(error));
      }
      assert.deepEqual(Object.keys(Object.prototype), []);
    }),
    { numRuns: 5000 },
  );
});
