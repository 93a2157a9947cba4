import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAllowed } from './authorize.ts';
import { ANONYMOUS, type User } from './user.ts';

const admin: User = { name: 'root', groups: ['system:masters', 'system:authenticated'] };
const node: User = { name: 'system:node:a', groups: ['system:nodes', 'system:authenticated'] };
const manager: User = { name: 'system:kube-controller-manager', groups: ['system:authenticated'] };
const account: User = { name: 'system:serviceaccount:a:b', groups: ['system:serviceaccounts', 'system:authenticated'] };
const alice: User = { name: 'alice', groups: ['system:authenticated'] };

describe('authorisation', () => {
  const pods = (verb: string, subresource?: string) => ({
    verb,
    path: '',
    resource: { group: '', plural: 'pods', subresource },
  });
  const plain = (path: string) => ({ verb: 'get', path });
  const cases: readonly [User, Parameters<typeof isAllowed>[1], 'allowed' | 'refused'][] = [
    [admin, pods('delete'), 'allowed'],
    [node, pods('update', 'status'), 'allowed'],
    [manager, pods('create'), 'allowed'],
    [account, pods('list'), 'allowed'],
    [account, pods('get', 'log'), 'allowed'],
    [account, pods('get', 'exec'), 'refused'],
    [account, pods('create'), 'refused'],
    [account, { verb: 'get', path: '', resource: { group: '', plural: 'secrets' } }, 'refused'],
    [alice, pods('get'), 'refused'],
    [alice, plain('/apis/apps/v1'), 'allowed'],
    [alice, plain('/openapi/v3'), 'allowed'],
    [alice, plain('/somewhere'), 'refused'],
    [ANONYMOUS, plain('/healthz'), 'allowed'],
    [ANONYMOUS, plain('/version'), 'allowed'],
    [ANONYMOUS, plain('/versions'), 'refused'],
    [ANONYMOUS, plain('/api'), 'refused'],
    [ANONYMOUS, pods('list'), 'refused'],
    [
      ANONYMOUS,
      { verb: 'create', path: '', resource: { group: 'authorization.k8s.io', plural: 'selfsubjectaccessreviews' } },
      'refused',
    ],
  ];
  for (const [user, attributes, expected] of cases) {
    it(`${user.name} ${attributes.verb} ${attributes.resource?.plural ?? attributes.path} ${attributes.resource?.subresource ?? ''}: ${expected}`, () =>
      assert.equal(isAllowed(user, attributes) ? 'allowed' : 'refused', expected));
  }
});
