/** Addresses and node ports of Services: allocated, unique, given back, refused in Kubernetes' words. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Body, SERVICES, TestServer } from './fixtures/api-server.ts';

let server: TestServer;
before(async () => {
  server = await TestServer.start();
});
after(() => server[Symbol.asyncDispose]());

const service = (name: string, spec: Body = {}): Body => ({
  metadata: { name },
  spec: { ports: [{ port: 80 }], ...spec },
});
const post = (name: string, spec: Body = {}) => server.call('POST', SERVICES, { body: service(name, spec) });
const create = async (name: string, spec: Body = {}) => {
  const reply = await post(name, spec);
  assert.equal(reply.code, 201, reply.text);
  return reply.body;
};

describe('load balancers', () => {
  const refused = async (spec: Body, message: RegExp) => {
    const reply = await post('refused', spec);
    assert.equal(reply.code, 422, reply.text);
    assert.match(reply.body.message, message);
  };
  const only = /may only be used when `type` is 'LoadBalancer'/;

  it('their fields are refused elsewhere, and when malformed', async () => {
    await refused({ loadBalancerClass: 'podwire.io/lb' }, only);
    await refused({ loadBalancerSourceRanges: ['10.0.0.0/8'] }, only);
    await refused({ allocateLoadBalancerNodePorts: false }, only);
    await refused({ type: 'LoadBalancer', loadBalancerClass: 'not a class' }, /spec\.loadBalancerClass: Invalid value/);
    const ranges = ['10.0.0.0/8', '10.0.0.0/99'];
    await refused(
      { type: 'LoadBalancer', loadBalancerSourceRanges: ranges },
      /loadBalancerSourceRanges\[1\]: Invalid value/,
    );
  });

  it('the class is chosen once; a change of the type lets it and the node ports go', async () => {
    const spec = { type: 'LoadBalancer', loadBalancerClass: 'podwire.io/lb', allocateLoadBalancerNodePorts: false };
    const made = await create('classy', spec);
    assert.equal(made.spec.ports[0].nodePort, undefined);
    const headers = { 'content-type': 'application/merge-patch+json' };
    const patch = (body: Body) => server.call('PATCH', `${SERVICES}/classy`, { body, headers });
    for (const loadBalancerClass of ['example.com/other', null]) {
      const reply = await patch({ spec: { loadBalancerClass } });
      assert.equal(reply.code, 422, reply.text);
      assert.match(reply.body.message, /spec\.loadBalancerClass: Invalid value.*may not change once set/);
    }
    const { body } = await patch({ spec: { type: 'ClusterIP' } });
    assert.deepEqual([body.spec.loadBalancerClass, body.spec.allocateLoadBalancerNodePorts], [undefined, undefined]);
  });
});

describe('cluster addresses', () => {
  it('are allocated in the upper band, with the defaults of Kubernetes', async () => {
    const { spec } = await create('plain');
    assert.match(spec.clusterIP, /^10\.96\./);
    assert.ok(Number(spec.clusterIP.split('.')[2]) >= 1, 'not in the first 256 addresses');
    assert.deepEqual(spec.clusterIPs, [spec.clusterIP]);
    assert.deepEqual(
      [spec.type, spec.ipFamilyPolicy, spec.ipFamilies, spec.sessionAffinity, spec.internalTrafficPolicy],
      ['ClusterIP', 'SingleStack', ['IPv4'], 'None', 'Cluster'],
    );
    assert.deepEqual(spec.ports, [{ port: 80, protocol: 'TCP', targetPort: 80 }]);
  });

  it('are never given twice to concurrent creates, and are given back', async () => {
    const all = await Promise.all(
      Array.from({ length: 150 }, (_, i) =>
        create(`many-${i}`, { type: 'NodePort', ipFamilyPolicy: 'RequireDualStack' }),
      ),
    );
    const unique = (values: readonly Body[]) => new Set(values).size;
    assert.equal(unique(all.map((one) => one.spec.clusterIPs[0])), 150);
    assert.equal(unique(all.map((one) => one.spec.clusterIPs[1])), 150);
    assert.equal(unique(all.map((one) => one.spec.ports[0].nodePort)), 150);
    const [first] = all;
    await server.call('DELETE', `${SERVICES}/many-0`);
    const again = await create('many-again', {
      clusterIP: first.spec.clusterIP,
      type: 'NodePort',
      ports: [{ port: 1, nodePort: first.spec.ports[0].nodePort }],
    });
    assert.equal(again.spec.clusterIP, first.spec.clusterIP);
  });

  it('may be asked for, once', async () => {
    assert.equal((await create('fixed', { clusterIP: '10.96.0.10' })).spec.clusterIP, '10.96.0.10');
    const taken = await post('fixed-again', { clusterIP: '10.96.0.10' });
    assert.equal(taken.code, 422);
    assert.equal(
      taken.body.message,
      'Service "fixed-again" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated',
    );
    const outside = await post('outside', { clusterIP: '10.1.2.3' });
    assert.match(
      outside.body.message,
      /the provided IP \(10\.1\.2\.3\) is not in the valid range\. The range of valid IPs is 10\.96\.0\.0\/16/,
    );
    assert.match((await post('nonsense', { clusterIP: 'x' })).body.message, /must be a valid IP address/);
  });

  it('a failed create gives back what it took', async () => {
    await create('holder', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_001 }] });
    const failed = await post('loser', {
      type: 'NodePort',
      clusterIP: '10.96.0.77',
      ports: [{ port: 80, nodePort: 30_001 }],
    });
    assert.match(
      failed.body.message,
      /spec\.ports\[0\]\.nodePort: Invalid value: 30001: provided port is already allocated/,
    );
    assert.equal((await create('winner', { clusterIP: '10.96.0.77' })).spec.clusterIP, '10.96.0.77');
    const dry = await server.call('POST', `${SERVICES}?dryRun=All`, {
      body: service('dry', { clusterIP: '10.96.0.78' }),
    });
    assert.equal(dry.body.spec.clusterIP, '10.96.0.78');
    await create('not-dry', { clusterIP: '10.96.0.78' });
  });

  it('headless and ExternalName have none', async () => {
    const headless = await create('headless', { clusterIP: 'None', selector: { a: 'b' } });
    assert.deepEqual(
      [headless.spec.clusterIP, headless.spec.clusterIPs, headless.spec.ipFamilies],
      ['None', ['None'], ['IPv4']],
    );
    const external = await create('external', { type: 'ExternalName', externalName: 'example.com', ports: undefined });
    assert.deepEqual([external.spec.clusterIP, external.spec.ipFamilies], [undefined, undefined]);
  });

  it('do not change; types do', async () => {
    const first = await create('changing');
    const path = `${SERVICES}/changing`;
    const moved = await server.patch(path, 'merge', { spec: { clusterIP: '10.96.9.9', clusterIPs: ['10.96.9.9'] } });
    assert.match(moved.body.message, /spec\.clusterIPs\[0\]: Invalid value: "10\.96\.9\.9": field is immutable/);
    const opened = await server.patch(path, 'merge', { spec: { type: 'NodePort' } });
    assert.ok(opened.body.spec.ports[0].nodePort >= 30_000);
    assert.equal(opened.body.spec.externalTrafficPolicy, 'Cluster');
    const closed = await server.patch(path, 'merge', { spec: { type: 'ClusterIP' } });
    assert.equal(closed.body.spec.ports[0].nodePort, undefined);
    assert.equal(closed.body.spec.externalTrafficPolicy, undefined);
    const dual = await server.patch(path, 'merge', { spec: { ipFamilyPolicy: 'RequireDualStack' } });
    assert.deepEqual(
      [dual.code, dual.body.spec.clusterIPs.length, dual.body.spec.clusterIPs[0]],
      [200, 2, first.spec.clusterIP],
    );
    const single = await server.patch(path, 'merge', { spec: { ipFamilyPolicy: 'SingleStack' } });
    assert.deepEqual(single.body.spec.clusterIPs, [first.spec.clusterIP]);
    const external = await server.patch(path, 'merge', { spec: { type: 'ExternalName', externalName: 'e.com' } });
    assert.deepEqual([external.code, external.body.spec.clusterIP], [200, undefined]);
    await create('heir', { clusterIP: first.spec.clusterIP });
  });

  it('a replacement that names none keeps them', async () => {
    const first = await create('kept', { type: 'NodePort' });
    const replaced = await server.call('PUT', `${SERVICES}/kept`, {
      body: service('kept', { type: 'NodePort', selector: { x: 'y' } }),
    });
    assert.deepEqual(
      [replaced.body.spec.clusterIP, replaced.body.spec.ports[0].nodePort],
      [first.spec.clusterIP, first.spec.ports[0].nodePort],
    );
  });
});

describe('families', () => {
  it('follow what is asked for', async () => {
    const v6 = await create('v6', { ipFamilies: ['IPv6'] });
    assert.match(v6.spec.clusterIP, /^fd00:10:96::/);
    const inferred = await create('v6-address', { clusterIP: 'fd00:10:96::abc' });
    assert.deepEqual([inferred.spec.ipFamilies, inferred.spec.clusterIP], [['IPv6'], 'fd00:10:96::abc']);
    const both = await create('both', { ipFamilyPolicy: 'PreferDualStack', ipFamilies: ['IPv6'] });
    assert.deepEqual(both.spec.ipFamilies, ['IPv6', 'IPv4']);
    const refused = await post('single-two', { ipFamilies: ['IPv4', 'IPv6'] });
    assert.match(
      refused.body.message,
      /spec\.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified/,
    );
  });

  it('of a cluster with one family', async () => {
    await using single = await TestServer.start({ serviceCidrs: ['10.96.0.0/16'] });
    const reply = await single.call('POST', SERVICES, { body: service('d', { ipFamilyPolicy: 'RequireDualStack' }) });
    assert.match(reply.body.message, /this cluster is not configured for dual-stack services/);
    const prefer = await single.created(SERVICES, service('p', { ipFamilyPolicy: 'PreferDualStack' }));
    assert.deepEqual(prefer.spec.ipFamilies, ['IPv4']);
    const v6 = await single.call('POST', SERVICES, { body: service('s', { ipFamilies: ['IPv6'] }) });
    assert.match(v6.body.message, /spec\.ipFamilies\[0\]: Invalid value: "IPv6": not configured on this cluster/);
  });
});

describe('pools', () => {
  it('say when they are full, and remember what is stored', async () => {
    await using small = await TestServer.start({ serviceCidrs: ['10.96.0.0/29'], nodePortRange: [30_000, 30_001] });
    const made: Body[] = [];
    for (let i = 0; i < 5; i++) made.push(await small.created(SERVICES, service(`s${i}`)));
    assert.equal(new Set([...made.map((one) => one.spec.clusterIP), '10.96.0.1']).size, 6);
    const full = await small.call('POST', SERVICES, { body: service('more') });
    assert.match(full.body.message, /spec\.clusterIPs: Internal error: failed to allocate a serviceIP: range is full/);
    await small.call('DELETE', `${SERVICES}/s0`);
    assert.equal((await small.created(SERVICES, service('more'))).spec.clusterIP, made[0].spec.clusterIP);
    for (const name of ['s1', 's2'])
      assert.equal((await small.patch(`${SERVICES}/${name}`, 'merge', { spec: { type: 'NodePort' } })).code, 200);
    assert.match(
      (await small.patch(`${SERVICES}/s3`, 'merge', { spec: { type: 'NodePort' } })).body.message,
      /failed to allocate a nodePort: range is full/,
    );
  });

  it('the same port for TCP and UDP shares a node port', async () => {
    const { spec } = await create('dns', {
      type: 'NodePort',
      ports: [
        { name: 'u', port: 53, protocol: 'UDP' },
        { name: 't', port: 53 },
      ],
    });
    assert.equal(spec.ports[0].nodePort, spec.ports[1].nodePort);
  });
});
