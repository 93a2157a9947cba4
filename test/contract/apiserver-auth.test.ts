/** Who may do what: certificates, service account tokens, strangers. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ensureAuthority, issueCertificate } from '../../src/apiserver/pki.ts';
import { aPod, type Body, CONFIG_MAPS, configMap, PODS, TestServer } from './fixtures/api-server.ts';

const ACCOUNTS = '/api/v1/namespaces/default/serviceaccounts';

let server: TestServer;
before(async () => {
  server = await TestServer.start();
  await server.created(ACCOUNTS, { metadata: { name: 'reader' } });
});
after(() => server[Symbol.asyncDispose]());

const certificate = (commonName: string, organizations: readonly string[]) =>
  issueCertificate(server.authority, { commonName, organizations, usages: ['client'] });

describe('certificates', () => {
  it('strangers see health and version, nothing else', async () => {
    for (const path of ['/healthz', '/livez', '/readyz', '/version'])
      assert.equal((await server.call('GET', path, { anonymous: true })).code, 200, path);
    const refused = await server.call('GET', PODS, { anonymous: true });
    assert.equal(refused.code, 403);
    assert.equal(
      refused.body.message,
      'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default"',
    );
    assert.equal((await server.call('GET', '/api', { anonymous: true })).code, 403);
    assert.equal((await server.call('GET', '/metrics', { anonymous: true })).code, 403);
  });

  it('a user without groups may look at the API, not at objects', async () => {
    const credentials = await certificate('alice', []);
    assert.equal((await server.call('GET', '/apis', { credentials })).code, 200);
    const refused = await server.call('GET', `${PODS}/x`, { credentials });
    assert.match(refused.body.message, /pods "x" is forbidden: User "alice" cannot get resource "pods"/);
    const review = await server.call('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
      credentials,
      body: { spec: { resourceAttributes: { verb: 'get', resource: 'pods' } } },
    });
    assert.deepEqual([review.code, review.body.status.allowed], [201, false]);
  });

  it('nodes and the components of the cluster may write', async () => {
    for (const [name, groups] of [
      ['system:node:n1', ['system:nodes']],
      ['system:kube-controller-manager', []],
    ] as const) {
      const credentials = await certificate(name, groups);
      const reply = await server.call('POST', CONFIG_MAPS, { credentials, body: configMap(name.replaceAll(':', '-')) });
      assert.equal(reply.code, 201, reply.text);
    }
  });

  it('a certificate of another authority is refused', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'podwire-ca-'));
    try {
      const stranger = await issueCertificate(await ensureAuthority(dir), {
        commonName: 'root',
        organizations: ['system:masters'],
        usages: ['client'],
      });
      assert.equal((await server.call('GET', PODS, { credentials: stranger })).code, 401);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  it('says who one is', async () => {
    const reply = await server.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { body: {} });
    assert.deepEqual(reply.body.status.userInfo, {
      username: 'kubernetes-admin',
      groups: ['system:masters', 'system:authenticated'],
    });
  });
});

describe('service account tokens', () => {
  const request = (spec: Body = {}) => server.call('POST', `${ACCOUNTS}/reader/token`, { body: { spec } });
  const as = (token: string) => ({ anonymous: true, headers: { authorization: `Bearer ${token}` } });

  it('read, but neither write nor see Secrets', async () => {
    const reply = await request();
    assert.equal(reply.code, 201, reply.text);
    const { token } = reply.body.status;
    assert.equal((await server.call('GET', PODS, as(token))).code, 200);
    assert.equal((await server.call('GET', '/api/v1/namespaces/default/secrets', as(token))).code, 403);
    assert.equal((await server.call('DELETE', `${PODS}/x`, as(token))).code, 403);
    const me = await server.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {
      ...as(token),
      body: {},
    });
    assert.equal(me.body.status.userInfo.username, 'system:serviceaccount:default:reader');
    assert.ok(me.body.status.userInfo.groups.includes('system:serviceaccounts:default'));
  });

  it('end with the pod that they are bound to', async () => {
    const pod = await server.created(PODS, aPod('bound', { spec: { serviceAccountName: 'reader' } }));
    const reply = await request({
      boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'bound', uid: pod.metadata.uid },
      expirationSeconds: 3607,
    });
    const { token } = reply.body.status;
    assert.equal((await server.call('GET', PODS, as(token))).code, 200);
    await server.call('DELETE', `${PODS}/bound`);
    assert.equal((await server.call('GET', PODS, as(token))).code, 401);
  });

  it('are for their audience, and cannot be forged', async () => {
    const other = (await request({ audiences: ['vault'] })).body.status.token as string;
    assert.equal((await server.call('GET', PODS, as(other))).code, 401);
    const good = (await request()).body.status.token as string;
    const [head = '', claims = '', signature = ''] = good.split('.');
    const forged = JSON.parse(Buffer.from(claims, 'base64url').toString()) as Body;
    forged.sub = 'system:serviceaccount:default:admin';
    const payload = Buffer.from(JSON.stringify(forged)).toString('base64url');
    const none = Buffer.from('{"alg":"none"}').toString('base64url');
    for (const bad of [
      `${head}.${payload}.${signature}`,
      `${none}.${claims}.`,
      `${none}.${claims}.${signature}`,
      'x.y.z',
      'x',
    ])
      assert.equal((await server.call('GET', PODS, as(bad))).code, 401, bad);
  });

  it('have a shortest life', async () => {
    const reply = await request({ expirationSeconds: 5 });
    assert.match(reply.body.message, /may not specify a duration less than 10 minutes/);
  });

  it('end with their account', async () => {
    await server.created(ACCOUNTS, { metadata: { name: 'gone' } });
    const { token } = (await server.call('POST', `${ACCOUNTS}/gone/token`, { body: {} })).body.status;
    await server.call('DELETE', `${ACCOUNTS}/gone`);
    assert.equal((await server.call('GET', PODS, as(token))).code, 401);
  });

  it('publish their key', async () => {
    const keys = (await server.get('/openid/v1/jwks')).body.keys;
    assert.deepEqual([keys[0].kty, keys[0].crv, keys[0].alg], ['EC', 'P-256', 'ES256']);
  });
});
