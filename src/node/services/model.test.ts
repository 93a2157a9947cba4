import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { EndpointSlice, Service } from '../../kube/types.ts';
import { type EndpointSpec, makePod, makeService, makeSlice, makeView } from './fixtures.ts';
import { buildHostPorts, hasHostPorts } from './host-ports.ts';
import { buildService, type Frontend, frontendKey, type ServiceModel, type Target } from './model.ts';
import { LOCALHOST } from './node-addresses.ts';

const view = makeView('n1', ['192.0.2.1', '192.0.2.9', '2001:db8::1'], 'z1');
const PORT = [{ name: 'http', port: 8080 }];
const SPEC: Service['spec'] = {
  clusterIP: '10.96.0.10',
  clusterIPs: ['10.96.0.10'],
  ports: [{ name: 'http', port: 80 }],
};

const here = (address: string, more: Partial<EndpointSpec> = {}): EndpointSpec => ({ address, node: 'n1', ...more });
const there = (address: string, more: Partial<EndpointSpec> = {}): EndpointSpec => ({ address, node: 'n2', ...more });

function build(
  spec: Partial<Service['spec']>,
  slices: readonly EndpointSlice[],
  ingress: readonly object[] = [],
): ServiceModel {
  return buildService(makeService('svc', { ...SPEC, ...spec }, ingress), slices, view);
}
const slice = (...endpoints: (EndpointSpec | string)[]) => makeSlice('svc', endpoints, PORT);

/** "reject", "drop" or the endpoints: short to compare. */
function shown(target: Target | undefined): string | undefined {
  if (target?.kind !== 'endpoints') return target?.kind;
  return target.endpoints.map(({ address, port }) => `${address}:${port}`).join(' ');
}
function frontend(model: ServiceModel, key: string): Frontend {
  const found = model.frontends.find((each) => frontendKey(each) === key);
  assert.ok(found, `no frontend ${key} in ${model.frontends.map(frontendKey).join(', ')}`);
  return found;
}
const inside = (model: ServiceModel, key = '10.96.0.10 . tcp . 80') => shown(frontend(model, key).inside);
const outside = (model: ServiceModel, key: string) => shown(frontend(model, key).outside);
const keys = (model: ServiceModel) => model.frontends.map(frontendKey);

describe('which frontends a Service has', () => {
  const cases: readonly [
    name: string,
    spec: Partial<Service['spec']>,
    expected: readonly string[],
    ingress?: object[],
  ][] = [
    ['a ClusterIP', {}, ['10.96.0.10 . tcp . 80']],
    ['a headless Service none', { clusterIP: 'None', clusterIPs: ['None'] }, []],
    ['an ExternalName none', { type: 'ExternalName', externalName: 'example.org' }, []],
    ['one that has no address yet none', { clusterIP: '', clusterIPs: [] }, []],
    [
      'both families',
      { clusterIPs: ['10.96.0.10', 'FD00:10:96:0::10'] },
      ['10.96.0.10 . tcp . 80', 'fd00:10:96::10 . tcp . 80'],
    ],
    [
      'a NodePort on every address of the family',
      { type: 'NodePort', ports: [{ name: 'http', port: 80, nodePort: 30080 }] },
      ['10.96.0.10 . tcp . 80', '192.0.2.1 . tcp . 30080', '192.0.2.9 . tcp . 30080'],
    ],
    [
      'no node port of a ClusterIP',
      { ports: [{ name: 'http', port: 80, nodePort: 30080 }] },
      ['10.96.0.10 . tcp . 80'],
    ],
    [
      'TCP and UDP on one number',
      {
        ports: [
          { name: 'a', port: 53, protocol: 'UDP' },
          { name: 'b', port: 53 },
        ],
      },
      ['10.96.0.10 . udp . 53', '10.96.0.10 . tcp . 53'],
    ],
    [
      'external addresses of its family',
      { externalIPs: ['203.0.113.5', '2001:db8::5'] },
      ['10.96.0.10 . tcp . 80', '203.0.113.5 . tcp . 80'],
    ],
    [
      "a balancer's VIPs, not its proxies, without node ports where none are allocated",
      { type: 'LoadBalancer', allocateLoadBalancerNodePorts: false },
      ['10.96.0.10 . tcp . 80', '203.0.113.6 . tcp . 80', '203.0.113.8 . tcp . 80'],
      [
        { ip: '203.0.113.6', ipMode: 'VIP' },
        { ip: '203.0.113.7', ipMode: 'Proxy' },
        { ip: '203.0.113.8' },
        { hostname: 'x' },
      ],
    ],
  ];
  for (const [name, spec, expected, ingress] of cases)
    it(name, () => assert.deepEqual(keys(build(spec, [], ingress)), expected));

  it('none for a Service of another proxy', () => {
    const service = makeService('svc', SPEC);
    service.metadata.labels = { 'service.kubernetes.io/service-proxy-name': 'other' };
    assert.deepEqual(buildService(service, [], view).frontends, []);
  });

  it('refuses SCTP and bad addresses clearly', () => {
    const model = build(
      {
        ports: [
          { port: 9, protocol: 'SCTP' },
          { name: 'http', port: 80 },
        ],
        externalIPs: ['1.2.3.4.5'],
      },
      [],
    );
    assert.deepEqual(keys(model), ['10.96.0.10 . tcp . 80']);
    assert.deepEqual(
      model.problems.map(({ reason, message }) => [reason, message]),
      [
        ['UnsupportedProtocol', 'port 9: protocol SCTP is not forwarded, only TCP and UDP are'],
        ['InvalidAddress', 'externalIPs: "1.2.3.4.5" is not an IP address'],
      ],
    );
  });
});

describe('where a frontend leads', () => {
  it('to ready endpoints, sorted, by the name of the port', () => {
    const other = makeSlice('svc', ['10.244.0.9'], [{ name: 'metrics', port: 9090 }], { suffix: 'x' });
    const udp = makeSlice('svc', ['10.244.0.8'], [{ name: 'http', port: 8080, protocol: 'UDP' }], { suffix: 'y' });
    const model = build({}, [
      slice(there('10.244.1.2'), here('10.244.0.2'), here('10.244.0.3', { ready: false })),
      other,
      udp,
    ]);
    assert.equal(inside(model), '10.244.0.2:8080 10.244.1.2:8080');
  });

  it('to several slices as one, an endpoint in two of them once', () => {
    const second = makeSlice('svc', ['10.244.0.3', '10.244.0.2'], PORT, { suffix: 'b' });
    const model = build({}, [slice({ address: '10.244.0.2', ready: false }), second]);
    assert.equal(inside(model), '10.244.0.2:8080 10.244.0.3:8080');
  });

  it('to draining endpoints when nothing is ready, and nowhere when those do not serve', () => {
    const draining = { ready: false, serving: true, terminating: true };
    const model = build({}, [
      slice(here('10.244.0.2', draining), here('10.244.0.3', { ready: false, terminating: true })),
    ]);
    assert.equal(inside(model), '10.244.0.2:8080');
    assert.equal(inside(build({}, [slice(here('10.244.0.2', draining), here('10.244.0.4'))])), '10.244.0.4:8080');
    assert.equal(inside(build({}, [slice(here('10.244.0.3', { ready: false }))])), 'reject');
    assert.equal(inside(build({}, [])), 'reject');
  });

  it('by internalTrafficPolicy Local to this node, or drop', () => {
    const local = { internalTrafficPolicy: 'Local' } as const;
    assert.equal(inside(build(local, [slice(here('10.244.0.2'), there('10.244.1.2'))])), '10.244.0.2:8080');
    assert.equal(inside(build(local, [slice(there('10.244.1.2'))])), 'drop');
    assert.equal(inside(build(local, [])), 'reject');
  });

  it('by externalTrafficPolicy Cluster everywhere, masqueraded', () => {
    const model = build({ externalIPs: ['203.0.113.5'] }, [slice(here('10.244.0.2'), there('10.244.1.2'))]);
    assert.equal(frontend(model, '203.0.113.5 . tcp . 80').masquerade, true);
    assert.equal(frontend(model, '10.96.0.10 . tcp . 80').masquerade, false);
    assert.equal(outside(model, '203.0.113.5 . tcp . 80'), undefined);
  });

  it('by externalTrafficPolicy Local to this node from outside, everywhere from inside', () => {
    const spec = { externalIPs: ['203.0.113.5'], externalTrafficPolicy: 'Local' };
    const key = '203.0.113.5 . tcp . 80';
    const both = build(spec, [slice(here('10.244.0.2'), there('10.244.1.2'))]);
    assert.deepEqual([inside(both, key), outside(both, key)], ['10.244.0.2:8080 10.244.1.2:8080', '10.244.0.2:8080']);
    assert.equal(frontend(both, key).masquerade, false);
    const far = build(spec, [slice(there('10.244.1.2'))]);
    assert.deepEqual([inside(far, key), outside(far, key)], ['10.244.1.2:8080', 'drop']);
    const none = build(spec, []);
    assert.deepEqual([inside(none, key), outside(none, key)], ['reject', undefined]);
    const leaving = here('10.244.0.2', { ready: false, serving: true, terminating: true });
    assert.equal(outside(build(spec, [slice(leaving, there('10.244.1.2'))]), key), '10.244.0.2:8080');
  });

  const hinted = (zone: string, node?: string): Partial<EndpointSpec> => ({
    zones: [zone],
    ...(node ? { nodes: [node] } : {}),
  });
  const topology: readonly [name: string, endpoints: EndpointSpec[], expected: string][] = [
    ['its zone', [here('10.244.0.2', hinted('z1')), there('10.244.1.2', hinted('z2'))], '10.244.0.2:8080'],
    [
      'its node before its zone',
      [here('10.244.0.2', hinted('z1', 'n1')), there('10.244.1.2', hinted('z1', 'n2'))],
      '10.244.0.2:8080',
    ],
    [
      'the zone when no endpoint is for the node',
      [there('10.244.1.2', hinted('z1', 'n2')), there('10.244.1.3', hinted('z2', 'n3'))],
      '10.244.1.2:8080',
    ],
    [
      'all when one has no hint',
      [here('10.244.0.2', hinted('z1')), there('10.244.1.2')],
      '10.244.0.2:8080 10.244.1.2:8080',
    ],
    [
      'all when none is for the zone',
      [here('10.244.0.2', hinted('z3')), there('10.244.1.2', hinted('z2'))],
      '10.244.0.2:8080 10.244.1.2:8080',
    ],
  ];
  for (const [name, endpoints, expected] of topology)
    it(`by hints to ${name}`, () => assert.equal(inside(build({}, [slice(...endpoints)])), expected));

  it('with session affinity and its timeout', () => {
    const seconds = (spec: Partial<Service['spec']>) =>
      frontend(build(spec, []), '10.96.0.10 . tcp . 80').affinitySeconds;
    assert.equal(seconds({}), undefined);
    assert.equal(seconds({ sessionAffinity: 'ClientIP' }), 10800);
    assert.equal(
      seconds({ sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 7 } } }),
      7,
    );
  });
});

describe('loadBalancerSourceRanges', () => {
  const ranges = (texts: readonly string[], ip = '203.0.113.6') =>
    frontend(build({ type: 'LoadBalancer', loadBalancerSourceRanges: [...texts] }, [], [{ ip }]), `${ip} . tcp . 80`)
      .sourceRanges;
  const cases: readonly [name: string, texts: readonly string[], expected: readonly string[] | undefined][] = [
    ['absent', [], undefined],
    ['disjoint and sorted', ['10.1.0.0/16', ' 10.0.0.0/16'], ['10.0.0.0/16', '10.1.0.0/16']],
    ['nested ones merged', ['10.1.0.0/16', '10.0.0.0/8', '10.1.2.3/32'], ['10.0.0.0/8']],
    ['single addresses without prefix', ['198.51.100.7/32'], ['198.51.100.7']],
    ['everything is no restriction', ['0.0.0.0/0', '10.0.0.0/8'], undefined],
    ['only the other family is no restriction', ['2001:db8::/32'], undefined],
    ["a node that is allowed may come from the balancer's address", ['192.0.2.0/24'], ['192.0.2.0/24', '203.0.113.6']],
  ];
  for (const [name, texts, expected] of cases) it(name, () => assert.deepEqual(ranges(texts), expected));
});

describe('garbage in slices', () => {
  it('is left out and told in one message', () => {
    const endpoints = [
      '127.0.0.1',
      '169.254.1.1',
      '224.0.0.5',
      '0.0.0.0',
      '255.255.255.255',
      '10.244.0.300',
      'fd00::1',
      '10.244.0.2',
    ];
    const bad = makeSlice('svc', [...endpoints, ...Array<string>(10_000).fill('10.244.0.2')], PORT, {
      addressType: 'IPv4',
    });
    const model = build({}, [bad]);
    assert.equal(inside(model), '10.244.0.2:8080');
    assert.equal(model.problems.length, 1);
    const { kind, reason, message } = model.problems[0]!;
    assert.deepEqual([kind, reason], ['EndpointSlice', 'InvalidEndpoints']);
    for (const part of ['10000 duplicate', '1 loopback', '1 link-local', '1 multicast', '1 unspecified', '1 not IPv4'])
      assert.ok(message.includes(part), `${part} in ${message}`);
  });

  it('of IPv6 too', () => {
    const endpoints = ['::1', '::', 'fe80::1', 'ff02::1', '::ffff:10.0.0.1', 'fd00:10:244::2'];
    const model = build({ clusterIPs: ['fd00:10:96::1'] }, [
      makeSlice('svc', endpoints, PORT, { addressType: 'IPv6' }),
    ]);
    assert.equal(inside(model, 'fd00:10:96::1 . tcp . 80'), 'fd00:10:244::2:8080');
  });

  it('ports without a number and names instead of addresses', () => {
    const model = build({}, [
      makeSlice('svc', ['10.244.0.2'], [{ name: 'http' }, { name: 'http', port: 70000 }]),
      makeSlice('svc', ['example.org'], PORT, { addressType: 'FQDN', suffix: 'f' }),
    ]);
    assert.equal(inside(model), 'reject');
    assert.equal(model.problems.length, 1);
  });
});

describe('health check ports', () => {
  const spec: Partial<Service['spec']> = {
    type: 'LoadBalancer',
    externalTrafficPolicy: 'Local',
    healthCheckNodePort: 32000,
  };
  it('count the ready addresses of this node', () => {
    const endpoints = slice(
      here('10.244.0.2'),
      here('10.244.0.3'),
      there('10.244.1.2'),
      here('10.244.0.4', { ready: false }),
    );
    assert.deepEqual(build(spec, [endpoints]).health, { port: 32000, localEndpoints: 2 });
    assert.deepEqual(build(spec, []).health, { port: 32000, localEndpoints: 0 });
    assert.equal(build({ ...spec, externalTrafficPolicy: 'Cluster' }, [endpoints]).health, undefined);
  });
});

describe('host ports', () => {
  const ports = [
    { containerPort: 8080, hostPort: 80 },
    { containerPort: 53, hostPort: 53, hostIP: '192.0.2.9', protocol: 'UDP' },
    { containerPort: 1 },
  ];
  const pod = makePod('web', { nodeName: 'n1', containers: [{ name: 'c', ports }] }, ['10.244.0.2', 'fd00:10:244::2']);

  it('lead to the pod by every address of the family, or the one that is named', () => {
    const model = buildHostPorts(pod, view);
    assert.deepEqual(
      model.frontends.map((each) => `${frontendKey(each)} -> ${shown(each.inside)}`),
      [
        '192.0.2.1 . tcp . 80 -> 10.244.0.2:8080',
        '192.0.2.9 . tcp . 80 -> 10.244.0.2:8080',
        '2001:db8::1 . tcp . 80 -> fd00:10:244::2:8080',
        '192.0.2.9 . udp . 53 -> 10.244.0.2:53',
      ],
    );
    assert.equal(model.key, 'pod:default/web');
  });

  it('at 127.0.0.1 by name only where localhost is served, at ::1 nowhere, and tell why', () => {
    const named = ['127.0.0.1', '127.0.0.5', '::1'].map((hostIP, i) => ({
      containerPort: 8080,
      hostPort: 81 + i,
      hostIP,
    }));
    const containers = [{ name: 'c', ports: [...ports, ...named] }];
    const local = makePod('web', { nodeName: 'n1', containers }, ['10.244.0.2', 'fd00:10:244::2']);
    const without = buildHostPorts(local, view);
    assert.deepEqual(without.frontends, buildHostPorts(pod, view).frontends);
    assert.deepEqual(
      without.problems.map(
        ({ kind, name, reason, message }) => `${kind} ${name} ${reason} ${message.split(':', 1)[0]}`,
      ),
      [81, 82, 83].map((port) => `Pod web UnsupportedAddress hostPort ${port}`),
    );
    const served = buildHostPorts(local, { ...view, nodePortAddresses: [...view.nodePortAddresses, LOCALHOST] });
    const keys = served.frontends.map(frontendKey);
    assert.deepEqual(
      keys.filter((key) => / 8[123]$/.test(key)),
      ['127.0.0.1 . tcp . 81', '127.0.0.5 . tcp . 82'],
    );
    assert.deepEqual(
      served.problems.map(({ message }) => message),
      ['hostPort 83: hostIP ::1 cannot be served: the kernel delivers no answer of a pod there'],
    );
  });

  it('not of pods elsewhere, on the host network, or ended', () => {
    assert.ok(!hasHostPorts({ ...pod, spec: { ...pod.spec, nodeName: 'n2' } }, 'n1'));
    assert.ok(!hasHostPorts({ ...pod, spec: { ...pod.spec, hostNetwork: true } }, 'n1'));
    assert.deepEqual(buildHostPorts({ ...pod, status: { ...pod.status, phase: 'Succeeded' } }, view).frontends, []);
  });
});
