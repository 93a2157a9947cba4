import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayStream } from './client-identity.ts';

test('who may stream', () => {
  assert.equal(mayStream({ user: 'anybody', groups: ['x', 'system:masters'] }), undefined);
  assert.equal(mayStream({ user: 'server', groups: ['system:apiserver'] }), undefined);
  assert.equal(mayStream({ user: 'kube-apiserver-kubelet-client', groups: [] }), undefined);
  assert.equal(mayStream({ user: 'system:node:a', groups: ['system:nodes'] })?.code, 403);
  assert.equal(mayStream({ user: 'system:masters', groups: [] })?.code, 403);
});
