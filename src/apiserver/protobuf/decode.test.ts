import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StatusError } from '../../kube/status.ts';
import { parseProtobuf } from './decode.ts';
import { messageShape } from './messages.ts';

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

test('every message that a field names is in the table', () => {
  const seen = new Set<string>();
  const visit = (name: string) => {
    if (seen.has(name)) return;
    seen.add(name);
    const shape = messageShape(name);
    assert.ok(shape, `there is no message ${name}`);
    for (const { type } of shape.values()) if (typeof type === 'object') visit(type.message);
  };
  for (const kind of [
    'Pod',
    'Service',
    'Deployment',
    'EndpointSlice',
    'NetworkPolicy',
    'TokenRequest',
    'Scale',
    'Eviction',
  ])
    visit(kind);
  assert.ok(seen.size > 150);
});

test('garbage is refused with a Status, never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom('', 'Pod', 'Service', 'Nonsense'), (bytes, kind) => {
      try {
        parseProtobuf(kind ? envelope('v1', kind, Buffer.from(bytes)) : Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof StatusError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});
