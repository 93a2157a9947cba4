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
  ['nodes as senders', { ingress: [rule({ from: [{ nodes: {} }] })] }, 'spec.ingress[0].from[0]'],
  ['a bad selector of nodes', out({ nodes: { matchExpressions: [{ key: 'a', operator: 'Is' }] } }), 'to[0].nodes'],
  ['a port name for nodes', out({ nodes: {} }, { protocols: [{ destinationNamedPort: 'web' }] }), 'spec.egress[0]'],
  [
    'domain names in a rule that denies',
    { egress: [{ action: 'Deny', to: [{ domainNames: ['example.com'] }] }] },
    'spec.egress[0].to[0].domainNames',
  ],
  ['no domain names', out({ domainNames: [] }), 'spec.egress[0].to[0]'],
  ['a lone label', out({ domainNames: ['com'] }), 'spec.egress[0].to[0].domainNames[0]'],
  ['a wildcard inside a name', out({ domainNames: ['www.*.com'] }), 'spec.egress[0].to[0].domainNames[0]'],
  ['a name twice', out({ domainNames: ['a.example', 'a.example'] }), 'spec.egress[0].to[0].domainNames[1]'],
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

describe('experimental peers', () => {
  it('are served: nodes and domain names', async () => {
    const spec = {
      egress: [
        { action: 'Deny', to: [{ nodes: { matchLabels: { zone: 'a' } } }] },
        { action: 'Accept', to: [{ domainNames: ['example.com', '*.Example.org.'] }] },
      ],
    };
    const { code, body, text } = await server.call('POST', BETA, { body: policy('experimental', spec) });
    assert.equal(code, 201, text);
    assert.deepEqual(body.spec.egress, spec.egress);
  });
});

describe('status', () => {
  const condition = {
    type: 'Accepted',
    status: 'True',
    observedGeneration: 1,
    lastTransitionTime: '2026-01-01T00:00:00Z',
    reason: 'Accepted',
    message: 'fine',
  };
  for (const [version, url] of [
    ['v1beta1', BETA],
    ['v1alpha2', ALPHA],
  ] as const) {
    it(`is a subresource of ${version} that neither clobbers the spec nor is clobbered by it`, async () => {
      const name = `status-${version}`;
      const early = { ...policy(name, { ingress: [rule()] }), status: { conditions: [condition] } };
      const created = await server.call('POST', url, { body: early });
      assert.equal(created.body.status?.conditions, undefined, 'nobody says at the creation what became of it');
      const put = await server.call('PUT', `${url}/${name}/status`, {
        body: { ...created.body, spec: { ...created.body.spec, priority: 9 }, status: { conditions: [condition] } },
      });
      assert.equal(put.code, 200, put.text);
      assert.equal(put.body.spec.priority, 0, 'a status update leaves the spec');
      assert.equal(put.body.metadata.generation, 1);
      const changed = await server.call('PUT', `${url}/${name}`, {
        body: { ...put.body, spec: { ...put.body.spec, priority: 5 }, status: { conditions: [] } },
      });
      assert.equal(changed.code, 200, changed.text);
      assert.equal(changed.body.metadata.generation, 2);
      assert.deepEqual(changed.body.status.conditions, [condition], 'a spec update leaves the status');
      const patched = await server.call('PATCH', `${url}/${name}`, {
        body: { spec: { priority: 6 }, status: null },
        headers: { 'content-type': 'application/merge-patch+json' },
      });
      assert.equal(patched.body.spec.priority, 6);
      assert.deepEqual(patched.body.status.conditions, [condition]);
      const other = { ...condition, type: 'Other', message: 'of another writer' };
      const more = await server.call('PATCH', `${url}/${name}/status`, {
        body: { status: { conditions: [condition, other] } },
        headers: { 'content-type': 'application/merge-patch+json' },
      });
      assert.deepEqual(more.body.status.conditions, [condition, other]);
      const read = await server.call('GET', `${url}/${name}/status`);
      assert.equal(read.body.status.conditions.length, 2);
    });
  }

  it('must be conditions', async () => {
    const created = await server.call('POST', BETA, { body: policy('bad-status') });
    const { code, text } = await server.call('PUT', `${BETA}/bad-status/status`, {
      body: { ...created.body, status: { conditions: [{ type: 'Accepted' }] } },
    });
    assert.equal(code, 422, text);
  });
});
