import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formOf } from './negotiation.ts';
import { parseResourcePath } from './paths.ts';

describe('Accept', () => {
  const table = 'application/json;as=Table;v=v1;g=meta.k8s.io';
  const cases: readonly [string | undefined, string][] = [
    [undefined, 'object'],
    ['*/*', 'object'],
    ['application/json', 'object'],
    [`${table},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json`, 'table'],
    ['application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json', 'object'],
    ['application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json', 'metadata'],
    ['application/vnd.kubernetes.protobuf,application/json', 'object'],
    [`application/json;q=0.5,${table};q=0.9`, 'table'],
  ];
  for (const [header, form] of cases) it(String(header), () => assert.equal(formOf(header), form));
  it('refuses what it cannot speak', () =>
    assert.throws(() => formOf('application/vnd.kubernetes.protobuf'), /media types/));
});

describe('paths', () => {
  const at = (path: string) => {
    const found = parseResourcePath(path);
    return found && [found.group, found.version, found.namespace, found.plural, found.name, found.subresource];
  };
  it('name resources', () => {
    assert.deepEqual(at('/api/v1/pods'), ['', 'v1', undefined, 'pods', undefined, undefined]);
    assert.deepEqual(at('/api/v1/namespaces/a/pods/b/log'), ['', 'v1', 'a', 'pods', 'b', 'log']);
    assert.deepEqual(at('/api/v1/namespaces'), ['', 'v1', undefined, 'namespaces', undefined, undefined]);
    assert.deepEqual(at('/api/v1/namespaces/a'), ['', 'v1', undefined, 'namespaces', 'a', undefined]);
    assert.deepEqual(at('/api/v1/namespaces/a/finalize'), ['', 'v1', undefined, 'namespaces', 'a', 'finalize']);
    assert.deepEqual(at('/apis/apps/v1/namespaces/a/deployments/b/scale'), [
      'apps',
      'v1',
      'a',
      'deployments',
      'b',
      'scale',
    ]);
    assert.deepEqual(at('/apis/apps/v1/deployments'), ['apps', 'v1', undefined, 'deployments', undefined, undefined]);
  });
  it('or none', () => {
    for (const path of ['/', '/api', '/api/v1', '/apis', '/apis/apps', '/apis/apps/v1', '/healthz', '/openapi/v3'])
      assert.equal(at(path), undefined, path);
  });
});
