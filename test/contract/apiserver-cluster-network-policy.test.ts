/** ClusterNetworkPolicy: validation with field paths, two versions of the same objects, tables. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Body, TestServer } from './fixtures/api-server.ts';

const BETA = '/apis/policy.networking.k8s.io/v1beta1/clusternetworkpolicies';
const ALPHA = '/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies';

let server: TestServer;
before(async () => {
  server = await TestServer.start();
});
after(() => server[Symbol.asyncDispose]());

const all = { namespaces: {} };
const policy = (name: string, spec: Body = {}): Body => ({
  metadata: { name },
  spec: { tier: 'Admin', priority: 0, subject: all, ...spec },
});
const rule = (more: Body = {}): Body => ({ action: 'Deny', from: [all], ...more });

describe('versions', () => {
  it('serve the same object under either name', async () => {
    const created = await server.call('POST', ALPHA, { body: policy('both', { ingress: [rule()] }) });
    assert.equal(created.code, 201, created.text);
    assert.equal(created.body.apiVersion, 'policy.networking.k8s.io/v1alpha2');
    const read = await server.call('GET', `${BETA}/both`);
    assert.equal(read.body.apiVersion, 'policy.networking.k8s.io/v1beta1');
    assert.deepEqual(read.body.spec, created.body.spec);
    assert.equal(read.body.spec.priority, 0);
    const list = await server.call('GET', BETA);
    assert.deepEqual(
      list.body.items.map((item: Body) => item.apiVersion),
      ['policy.networking.k8s.io/v1beta1'],
    );
    const put = await server.call('PUT', `${BETA}/both`, {
      body: { ...read.body, spec: { ...read.body.spec, priority: 7 } },
    });
    assert.equal(put.code, 200, put.text);
    const again = await server.call('GET', `${ALPHA}/both`);
    assert.equal(again.body.apiVersion, 'policy.networking.k8s.io/v1alpha2');
    assert.equal(again.body.spec.priority, 7);
    assert.equal(again.body.metadata.generation, 2);
    const gone = await server.call('DELETE', `${ALPHA}/both`);
    assert.equal(gone.code, 200);
    assert.equal((await server.call('GET', `${BETA}/both`)).code, 404);
  });

  it('are both in discovery, v1beta1 preferred', async () => {
    const found = await server.call('GET', '/apis/policy.networking.k8s.io');
    assert.deepEqual(
      found.body.versions.map((each: Body) => each.version),
      ['v1beta1', 'v1alpha2'],
    );
    const resources = await server.call('GET', '/apis/policy.networking.k8s.io/v1alpha2');
    assert.deepEqual(resources.body.resources[0].shortNames, ['cnp']);
    assert.equal(resources.body.resources[0].namespaced, false);
  });
});

const tcp = (destinationPort?: Body): Body => ({ protocols: [{ tcp: destinationPort ? { destinationPort } : {} }] });
const out = (peer: Body, more: Body = {}): Body => ({ egress: [{ action: 'Accept', to: [peer], ...more }] });

const refused: readonly (readonly [name: string, spec: Body, field: string])[] = [
  ['a tier of its own', { tier: 'Middle' }, 'spec.tier'],
  ['no tier', { tier: undefined }, 'spec.tier'],
  ['no priority', { priority: undefined }, 'spec.priority'],
  ['a subject without podSelector', { subject: { pods: {} } }, 'spec.subject.pods.podSelector'],
  ['a priority beyond 1000', { priority: 1001 }, 'spec.priority'],
  ['a negative priority', { priority: -1 }, 'spec.priority'],
  ['no subject', { subject: undefined }, 'spec.subject'],
  ['an empty subject', { subject: {} }, 'spec.subject'],
  ['two subjects', { subject: { namespaces: {}, pods: { namespaceSelector: {}, podSelector: {} } } }, 'spec.subject'],
  ['an unknown action', { ingress: [rule({ action: 'Allow' })] }, 'spec.ingress[0].action'],
  ['no peers', { ingress: [rule({ from: [] })] }, 'spec.ingress[0].from'],
  ['an empty peer', { ingress: [rule({ from: [{}] })] }, 'spec.ingress[0].from[0]'],
  ['networks of senders', { ingress: [rule({ from: [{ networks: ['10.0.0.0/8'] }] })] }, 'spec.ingress[0].from[0]'],
  ['nodes', out({ nodes: {} }), 'spec.egress[0].to[0].nodes'],
  ['domain names', out({ domainNames: ['example.com'] }), 'spec.egress[0].to[0].domainNames'],
  ['no CIDR', out({ networks: ['10.0.0.0'] }), 'spec.egress[0].to[0].networks[0]'],
  ['a CIDR with bits beyond its prefix', out({ networks: ['10.0.0.1/8'] }), 'spec.egress[0].to[0].networks[0]'],
  ['a bad selector', { subject: { namespaces: { matchExpressions: [{ key: 'a', operator: 'Is' }] } } }, 'spec.subject'],
  ['port 0', out(all, tcp({ number: 0 })), 'spec.egress[0].protocols[0].tcp.destinationPort.number'],
  ['no port', out(all, tcp()), 'spec.egress[0].protocols[0].tcp.destinationPort'],
  ['a range of one', out(all, tcp({ range: { start: 5, end: 5 } })), 'protocols[0].tcp.destinationPort.range'],
  ['two protocols in one', out(all, { protocols: [{ tcp: {}, udp: {} }] }), 'spec.egress[0].protocols[0]'],
  [
    'a port name for networks',
    out({ networks: ['10.0.0.0/8'] }, { protocols: [{ destinationNamedPort: 'web' }] }),
    'spec.egress[0]',
  ],
  ['26 rules', { ingress: Array.from({ length: 26 }, () => rule()) }, 'spec.ingress'],
];

describe('what is refused', () => {
  for (const [name, spec, field] of refused) {
    it(name, async () => {
      const { code, body, text } = await server.call('POST', BETA, { body: policy('bad', spec) });
      assert.equal(code, 422, text);
      const fields = body.details.causes.map((cause: Body) => cause.field);
      assert.ok(
        fields.some((each: string) => each.includes(field)),
        `${field} in ${fields}`,
      );
    });
  }
  it('not an unmasked CIDR in v1alpha2', async () => {
    const { code } = await server.call('POST', ALPHA, { body: policy('unmasked', out({ networks: ['10.0.0.1/8'] })) });
    assert.equal(code, 201);
  });
});
