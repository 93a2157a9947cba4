/** Nothing that a client sends ends the server or makes it answer 500. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import fc from 'fast-check';
import { kinds } from '../../src/apiserver/resources/index.ts';
import type { Schema } from '../../src/apiserver/schema/schema.ts';
import { CONFIG_MAPS, configMap, PODS, TestServer } from './fixtures/api-server.ts';

let server: TestServer;
before(async () => {
  server = await TestServer.start();
});
after(() => server[Symbol.asyncDispose]());

/** Values of a schema's type, often absent, often strange. */
function anyValue(schema: Schema, depth: number): fc.Arbitrary<unknown> {
  switch (schema.type) {
    case 'string':
      return fc.oneof(
        fc.constantFrom(
          'a',
          '',
          'A B',
          '10.0.0.1',
          'fd00::1',
          'None',
          '2026-01-01T00:00:00Z',
          'YQ==',
          '\u0000',
          'x'.repeat(300),
        ),
        fc.constantFrom(...(schema.enum ?? ['b'])),
      );
    case 'integer':
      return fc.constantFrom(0, 1, -1, 80, 65536, 2147483647);
    case 'number':
      return fc.double();
    case 'boolean':
      return fc.boolean();
    case 'quantity':
      return fc.constantFrom('1', '500m', '1Gi', '-1', 0, 2.5);
    case 'intOrString':
      return fc.constantFrom(0, 80, 'http', '25%', '', -5);
    case 'any':
      return fc.jsonValue({ maxDepth: 1 });
    case 'map':
      return fc.dictionary(fc.constantFrom('a', 'cpu', 'A_', '__proto__', ''), anyValue(schema.values, depth - 1), {
        maxKeys: 2,
      });
    case 'list':
      return fc.array(anyValue(schema.items, depth - 1), { maxLength: 2 });
    case 'object': {
      if (depth <= 0) return fc.constant({});
      const fields = Object.entries(schema.fields).filter(([key]) => key !== 'apiVersion' && key !== 'kind');
      return fc
        .subarray(fields, { maxLength: Math.min(6, fields.length) })
        .chain((chosen) =>
          fc.record(
            Object.fromEntries(
              chosen.map(([key, field]) => [
                key,
                fc.oneof(
                  { weight: 12, arbitrary: anyValue(field, depth - 1) },
                  { weight: 1, arbitrary: fc.constant(null) },
                ),
              ]),
            ),
          ),
        );
    }
  }
}

describe('objects of the right types with any fields present or absent', () => {
  for (const kind of kinds) {
    it(`${kind.kind}: accepted or refused, never 500`, async () => {
      const prefix = kind.group ? `/apis/${kind.group}/${kind.version}` : '/api/v1';
      const path = `${prefix}/${kind.namespaced ? 'namespaces/default/' : ''}${kind.plural}`;
      await fc.assert(
        fc.asyncProperty(anyValue(kind.schema, 6), async (value) => {
          const object = value as { metadata?: object };
          const body = {
            ...object,
            metadata: {
              name: 'fuzz',
              ...(object.metadata ?? {}),
              namespace: kind.namespaced ? 'default' : undefined,
              resourceVersion: undefined,
            },
          };
          const reply = await server.call('POST', `${path}?dryRun=All`, {
            body,
            headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
          });
          assert.ok(reply.code < 500, reply.text);
        }),
        { numRuns: 60 },
      );
    });
  }
});

describe('broken requests', () => {
  const cases: readonly [string, string, string, Record<string, string> | undefined, string | undefined, number][] = [
    ['unknown path', 'GET', '/nothing', undefined, undefined, 404],
    ['unknown resource', 'GET', '/api/v1/widgets', undefined, undefined, 404],
    ['unknown group', 'GET', '/apis/example.com/v1/widgets', undefined, undefined, 404],
    ['unknown subresource', 'GET', `${PODS}/a/nothing`, undefined, undefined, 404],
    ['method', 'PUT', PODS, undefined, '{}', 405],
    ['broken escape', 'GET', '/api/v1/namespaces/%zz/pods', undefined, undefined, 400],
    ['label selector', 'GET', `${PODS}?labelSelector=a%20in%20(b`, undefined, undefined, 400],
    ['field selector', 'GET', `${PODS}?fieldSelector=spec.foo%3Dbar`, undefined, undefined, 400],
    ['resourceVersion', 'GET', `${PODS}?resourceVersion=abc`, undefined, undefined, 400],
    ['limit', 'GET', `${PODS}?limit=abc`, undefined, undefined, 400],
    ['continue', 'GET', `${PODS}?continue=abc`, undefined, undefined, 400],
    ['accept', 'GET', PODS, { accept: 'application/xml' }, undefined, 406],
    ['content type', 'POST', PODS, { 'content-type': 'text/plain' }, 'x', 415],
    ['empty body', 'POST', PODS, undefined, '', 400],
    ['null body', 'POST', PODS, undefined, 'null', 400],
    ['broken YAML', 'POST', PODS, { 'content-type': 'application/yaml' }, 'a: [', 400],
    [
      'YAML bomb',
      'POST',
      PODS,
      { 'content-type': 'application/yaml' },
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghi'
        .split('')
        .map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefghi'[i]}`).join(',')}]`)
        .join('\n')}`,
      400,
    ],
    ['deep nesting', 'POST', PODS, undefined, `${'['.repeat(100_000)}`, 400],
    [
      'broken protobuf',
      'POST',
      PODS,
      { 'content-type': 'application/vnd.kubernetes.protobuf' },
      'k8s\0\u0012\u00ff\u00ff',
      400,
    ],
    ['no protobuf', 'POST', PODS, { 'content-type': 'application/vnd.kubernetes.protobuf' }, 'hello', 400],
    ['patch type', 'PATCH', `${PODS}/a`, { 'content-type': 'application/json' }, '{}', 415],
    ['upgrade without streaming', 'GET', `${PODS}/nobody/exec`, undefined, undefined, 404],
    [
      'includeObject',
      'GET',
      `${PODS}?includeObject=x`,
      { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
      undefined,
      400,
    ],
  ];
  for (const [what, method, path, headers, body, code] of cases) {
    it(what, async () => {
      const reply = await server.call(method, path, {
        ...(headers ? { headers } : {}),
        ...(body === undefined ? {} : { body }),
      });
      assert.equal(reply.code, code, reply.text);
      assert.equal(reply.body?.kind, 'Status');
    });
  }

  it('a body over 3 MiB', async () => {
    const reply = await server.call('POST', CONFIG_MAPS, { body: `{"data":{"a":"${'x'.repeat(3_200_000)}"}}` });
    assert.equal(reply.code, 413);
  });

  it('random bytes on the port, plain and inside TLS', async () => {
    for (const open of [
      () => connect({ host: '127.0.0.1', port: server.port }),
      () => tlsConnect({ host: '127.0.0.1', port: server.port, ca: server.authority.cert, servername: 'localhost' }),
    ]) {
      const socket = open();
      socket.on('error', () => {});
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.write(Buffer.from(Array.from({ length: 400 }, (_, i) => (i * 37) % 256)));
      socket.end();
      socket.resume();
      await closed;
    }
    assert.equal((await server.get('/healthz')).text, 'ok');
  });

  it('a prototype key is an ordinary key', async () => {
    const reply = await server.call('POST', CONFIG_MAPS, {
      body: '{"metadata":{"name":"proto"},"data":{"__proto__":"x"}}',
    });
    assert.ok(reply.code === 201 || reply.code === 422, reply.text);
    assert.equal(({} as Record<string, unknown>)['x'], undefined);
    await server.created(CONFIG_MAPS, configMap('after'));
  });
});
