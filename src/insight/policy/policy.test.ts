import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { EndpointSlice, Service } from '../../kube/types.ts';
import { namespaceObject, nodeObject, podObject, policyObject } from '../../node/policy/testing.ts';
import { clusterPolicyObject } from '../../node/policy/testing-cluster.ts';
import { check } from './check.ts';
import { parseDestination, parseSource } from './endpoints.ts';
import { computeMatrix, differs, type MatrixCell } from './matrix.ts';
import { reasonText } from './reason-text.ts';
import type { PolicySnapshot } from './snapshot.ts';

const metadata = (name: string, more: object = {}) => ({
  name,
  namespace: 'shop',
  uid: name,
  resourceVersion: '1',
  creationTimestamp: '2026-01-01T00:00:00Z',
  ...more,
});
const web = podObject('shop/web', {
  labels: { app: 'web' },
  ips: ['10.0.0.1', 'fd00::1'],
  ports: [{ name: 'http', containerPort: 80 }],
});
const allowClients = policyObject('shop/web', {
  podSelector: { matchLabels: { app: 'web' } },
  ingress: [{ from: [{ podSelector: { matchLabels: { role: 'client' } } }], ports: [{ port: 'http' }] }],
});
const service: Service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: metadata('web'),
  spec: { clusterIP: '10.96.0.7', clusterIPs: ['10.96.0.7'], ports: [{ name: 'x', port: 8080 }] },
};
const slice: EndpointSlice = {
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: metadata('web-1', { labels: { 'kubernetes.io/service-name': 'web' } }),
  addressType: 'IPv4',
  endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready: true } }],
  ports: [{ name: 'x', port: 80 }],
};

const snapshot = (more: Partial<PolicySnapshot> = {}): PolicySnapshot => ({
  namespaces: [namespaceObject('shop'), namespaceObject('default')],
  pods: [
    web,
    podObject('shop/a', { labels: { app: 'a' }, ips: ['10.0.0.2', 'fd00::2'], node: 'n2' }),
    podObject('default/b', { ips: ['10.0.0.3'], node: 'n2' }),
    podObject('default/host', { ips: ['172.18.0.2'], hostNetwork: true }),
  ],
  policies: [allowClients],
  clusterPolicies: [],
  nodes: [nodeObject('n1', ['172.18.0.2']), nodeObject('n2', ['172.18.0.3'])],
  services: [service],
  slices: [slice],
  outside: ['172.18.9.9'],
  ...more,
});

const ask = (from: string, to: string, state = snapshot()) =>
  check({ from: parseSource(from, 'shop'), to: parseDestination(to, 'shop'), protocol: 'TCP' }, state);
const textsOf = (result: ReturnType<typeof ask>) => result.pairs[0]!.suggestions.map(({ text }) => text);

describe('the ends of a question', () => {
  test('are read as people write them', () => {
    assert.deepEqual(parseSource('a'), { kind: 'pod', namespace: 'default', name: 'a' });
    assert.deepEqual(parseSource('pod/shop/a'), { kind: 'pod', namespace: 'shop', name: 'a' });
    assert.deepEqual(parseSource('node/n1'), { kind: 'node', name: 'n1' });
    assert.deepEqual(parseSource('FD00::01'), { kind: 'ip', address: 'fd00::1' });
    assert.deepEqual(parseDestination('[fd00::1]:80'), { endpoint: { kind: 'ip', address: 'fd00::1' }, port: 80 });
    assert.deepEqual(parseDestination('fd00::1').port, undefined);
    assert.deepEqual(parseDestination('service/shop/web:http'), {
      endpoint: { kind: 'service', namespace: 'shop', name: 'web' },
      port: 'http',
    });
    for (const bad of ['', 'a/b/c', 'a/', 'a:0', 'a:70000', 'a:b:c']) {
      assert.throws(() => parseDestination(bad), { name: 'UserError' }, bad);
    }
  });

  test('that are not there say what is', () => {
    assert.throws(() => ask('nobody', 'web'), { message: /no pod nobody in the namespace shop/, hint: /web, a/ });
    assert.throws(() => ask('service/web', 'web'), { message: /a service sends no packets/ });
    assert.throws(() => ask('a', 'web:admin'), { message: /no TCP port named "admin"/ });
    assert.throws(() => ask('a', 'service/web:81'), { message: /has no TCP port 81/ });
  });

  test('lead to the addresses and ports of packets', () => {
    const packets = (to: string) =>
      ask('a', to).pairs.map(({ packet }) => `${packet.srcIp} ${packet.dstIp} ${packet.dport}`);
    assert.deepEqual(packets('web'), ['10.0.0.2 10.0.0.1 80', 'fd00::2 fd00::1 80']);
    assert.deepEqual(packets('service/web'), ['10.0.0.2 10.0.0.1 80']);
    assert.deepEqual(packets('10.96.0.7:8080'), ['10.0.0.2 10.0.0.1 80']);
    assert.deepEqual(packets('outside:99'), ['10.0.0.2 172.18.9.9 99']);
  });
});

describe('what would change a verdict', () => {
  test('labels, rules and policies that open', () => {
    const result = ask('a', 'web');
    assert.equal(result.verdict, 'deny');
    assert.deepEqual(textsOf(result), [
      'add label role=client to pod shop/a (spec.ingress[0] of policy shop/web)',
      'add an ingress rule to policy shop/web: from pods with app=a, port TCP 80',
      'delete policy shop/web, the only one that isolates pod shop/web for ingress',
    ]);
    assert.ok(result.pairs[0]!.suggestions.every(({ changes }) => changes === 'verdict'));
  });

  test('a side that stays closed is told', () => {
    const both = [allowClients, policyObject('shop/quiet', { podSelector: {}, policyTypes: ['Egress'] })];
    const { suggestions } = ask('a', 'web', snapshot({ policies: both })).pairs[0]!;
    assert.deepEqual(new Set(suggestions.map(({ direction }) => direction)), new Set(['egress', 'ingress']));
    assert.ok(suggestions.every(({ changes }) => changes === 'direction'));
  });

  test('what would close', () => {
    const client = podObject('shop/c', { labels: { role: 'client' }, ips: ['10.0.0.9'] });
    const state = snapshot({ pods: [...snapshot().pods, client] });
    assert.deepEqual(textsOf(ask('c', 'web', state)), [
      'a policy in namespace shop that selects pod shop/c with policyTypes Egress and no rule for this',
      'remove spec.ingress[0] of policy shop/web',
    ]);
  });

  test('ClusterNetworkPolicies are named with their tier', () => {
    const deny = clusterPolicyObject('guard', {
      subject: { namespaces: {} },
      ingress: [{ name: 'no', action: 'Deny', from: [{ namespaces: {} }] }],
    });
    const result = ask('web', 'a:1', snapshot({ clusterPolicies: [deny] }));
    assert.match(
      reasonText(result.pairs[0]!.verdict.reasons[1]),
      /spec\.ingress\[0\] \(no\) of ClusterNetworkPolicy guard, Admin tier, priority 10: Deny/,
    );
    assert.match(textsOf(result)[0]!, /change the action of spec\.ingress\[0\] of ClusterNetworkPolicy guard to Pass/);
  });

  test('nodes are peers by their labels', () => {
    const deny = clusterPolicyObject('no-nodes', {
      subject: { namespaces: {} },
      egress: [{ action: 'Deny', to: [{ nodes: {} }] }],
    });
    const state = snapshot({ clusterPolicies: [deny] });
    assert.equal(ask('a', 'node/n1:22', state).verdict, 'deny');
    assert.equal(ask('a', 'node/n2:22', state).verdict, 'allow', 'its own node');
    assert.equal(ask('a', 'outside:22', state).verdict, 'allow');
  });

  test('a pod and its own node need nothing', () => {
    const result = ask('node/n1', 'web');
    assert.equal(result.verdict, 'allow');
    assert.match(reasonText(result.pairs[0]!.verdict.reasons[1]), /its own node always reach each other/);
    assert.equal(ask('node/n2', 'web').verdict, 'deny');
  });
});

describe('the matrix', () => {
  test('has every pair of pods with addresses of their own, by family', () => {
    const { pods, cells } = computeMatrix(snapshot(), { protocols: ['TCP'] });
    assert.deepEqual(
      pods.map(({ key, ports }) => `${key}:${ports.map(({ port }) => port)}`),
      ['default/b:80', 'shop/a:80', 'shop/web:80'],
    );
    // Two pods with both families, one with IPv4 alone.
    assert.equal(cells.length, 9 + 4);
    const denied = cells.filter(({ computed }) => computed === 'deny').map(({ from, to }) => `${from} ${to}`);
    assert.deepEqual(denied, ['default/b shop/web', 'shop/a shop/web', 'shop/a shop/web']);
    assert.equal(computeMatrix(snapshot(), { protocols: ['TCP'], namespace: 'default' }).cells.length, 1);
    assert.equal(computeMatrix(snapshot(), { protocols: ['TCP'], port: 81 }).pods[0]?.ports[0]?.port, 81);
  });

  test('asks for the ports that policies name: numbers, both ends of ranges, names as they are on the pod', () => {
    const web = podObject('shop/web', {
      ips: ['10.0.0.1'],
      ports: [
        { name: 'http', containerPort: 8080 },
        { name: 'dns', containerPort: 53, protocol: 'UDP' },
      ],
    });
    const policies = [
      policyObject('shop/np', {
        podSelector: {},
        ingress: [{ ports: [{ port: 'http' }, { port: 90, endPort: 95 }, { protocol: 'UDP', port: 99 }] }],
        egress: [{ ports: [{ protocol: 'SCTP', port: 7 }, { protocol: 'TCP' }, { port: 'absent' }] }],
      }),
    ];
    const clusterPolicies = [
      clusterPolicyObject('cnp', {
        egress: [
          {
            action: 'Deny',
            to: [{ namespaces: {} }],
            protocols: [{ udp: { destinationPort: { range: { start: 5, end: 6 } } } }, { destinationNamedPort: 'dns' }],
          },
        ],
      }),
    ];
    const state = snapshot({ pods: [web], policies, clusterPolicies });
    const { pods, cells } = computeMatrix(state, { protocols: ['TCP', 'UDP'], policyPorts: true });
    const texts = pods[0]!.ports.map(({ protocol, port }) => `${protocol} ${port}`);
    assert.deepEqual(texts, ['TCP 90', 'TCP 95', 'TCP 8080', 'UDP 5', 'UDP 6', 'UDP 53', 'UDP 99']);
    assert.equal(cells.length, 7);
    const one = computeMatrix(state, { protocols: ['UDP'], policyPorts: true, port: 1 }).pods[0]!.ports;
    assert.deepEqual(one, [{ protocol: 'UDP', port: 1 }], 'a port that is asked for is the only one');
  });

  test('knows when what was measured is something else', () => {
    const ends = { from: 'a', to: 'b', srcIp: '10.0.0.1', dstIp: '10.0.0.2' };
    const cell = { ...ends, protocol: 'TCP', port: 80 } as const;
    const of = (computed: MatrixCell['computed'], measured?: MatrixCell['measured']) =>
      differs({ ...cell, computed, ...(measured ? { measured } : {}) });
    assert.deepEqual(
      [of('allow'), of('allow', 'open'), of('allow', 'closed'), of('deny', 'silent')],
      [false, false, false, false],
    );
    assert.deepEqual(
      [of('allow', 'silent'), of('deny', 'open'), of('deny', 'closed'), of('allow', 'failed')],
      [true, true, true, true],
    );
  });
});
