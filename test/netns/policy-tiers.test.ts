/**
 * ClusterNetworkPolicy with real packets: two nodes, TCP and UDP, IPv4 and IPv6, every pair of endpoints, against the
 * oracle's word and, for the plain cases, against predicates.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ClusterNetworkPolicy, NetworkPolicy } from '../../src/kube/types.ts';
import { evaluator } from '../../src/node/policy/oracle.ts';
import { policyObject } from '../../src/node/policy/testing.ts';
import { clusterPolicyObject } from '../../src/node/policy/testing-cluster.ts';
import type { Endpoint, Probe } from '../../src/node/policy/testing-matrix.ts';
import { PolicyCluster } from './policy-cluster.ts';
import { endpoints, families, inParallel, PolicyLab, skip, world } from './policy-lab.ts';

const probes: readonly Probe[] = [
  { protocol: 'TCP', port: 80 },
  { protocol: 'TCP', port: 81 },
  { protocol: 'UDP', port: 80 },
];

const ns = (name: string) => ({ matchLabels: { ns: name } });
const namespaces = (name: string) => ({ namespaces: ns(name) });
const pods = (namespace: string, pod: string) => ({
  pods: { namespaceSelector: ns(namespace), podSelector: { matchLabels: { pod } } },
});
const tcp = (number: number) => ({ tcp: { destinationPort: { number } } });
const everywhere = { networks: ['0.0.0.0/0', '::/0'] };

interface Case {
  readonly name: string;
  readonly cluster: readonly ClusterNetworkPolicy[];
  readonly policies?: readonly NetworkPolicy[];
  /** Besides the oracle's word; same for both families. */
  readonly allows?: (from: Endpoint, to: Endpoint, probe: Probe) => boolean;
}

const denyAllInX = policyObject('x/deny', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
const allowAllInX = policyObject('x/allow', { podSelector: {}, ingress: [{}], policyTypes: ['Ingress'] });

const cases: readonly Case[] = [
  {
    name: 'Admin Deny wins over a NetworkPolicy that allows',
    cluster: [
      clusterPolicyObject('a', { subject: namespaces('x'), ingress: [{ action: 'Deny', from: [namespaces('y')] }] }),
    ],
    policies: [allowAllInX],
    allows: (from, to) => !(from.ns === 'y' && to.ns === 'x'),
  },
  {
    name: 'Admin Accept wins over a NetworkPolicy that denies, in its direction only',
    cluster: [
      clusterPolicyObject('a', { subject: namespaces('x'), ingress: [{ action: 'Accept', from: [namespaces('y')] }] }),
    ],
    policies: [denyAllInX],
    allows: (from, to) => from.ns !== 'x' && (to.ns !== 'x' || from.ns === 'y'),
  },
  {
    name: 'Pass leaves it to NetworkPolicies, and the lower priority number is asked first',
    cluster: [
      clusterPolicyObject('late', {
        priority: 20,
        subject: namespaces('x'),
        ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }],
      }),
      clusterPolicyObject('early', {
        priority: 3,
        subject: namespaces('x'),
        ingress: [{ action: 'Pass', from: [namespaces('z')], protocols: [tcp(80)] }],
      }),
    ],
    allows: (from, to, { protocol, port }) =>
      to.ns !== 'x' || from === world || (from.ns === 'z' && protocol === 'TCP' && port === 80),
  },
  {
    name: 'Baseline Deny holds for pods that no NetworkPolicy isolates',
    cluster: [
      clusterPolicyObject('base', {
        tier: 'Baseline',
        subject: { namespaces: {} },
        ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }],
      }),
    ],
    policies: [allowAllInX],
    allows: (from, to) => to.ns === 'x' || to === world || from === world,
  },
  {
    name: 'Baseline Accept before Deny, by port',
    cluster: [
      clusterPolicyObject('base', {
        tier: 'Baseline',
        subject: namespaces('y'),
        egress: [
          { action: 'Accept', to: [namespaces('z')], protocols: [{ destinationNamedPort: 'web' }] },
          { action: 'Accept', to: [pods('x', 'a')] },
          { action: 'Deny', to: [everywhere] },
        ],
      }),
    ],
    allows: (from, to, { protocol, port }) => {
      if (from.ns !== 'y' || to.name === 'x/a') return true;
      return to.ns === 'z' && protocol === 'TCP' && port === (to.pod === 'c' ? 81 : 80);
    },
  },
  {
    name: 'networks match pods, and the order of rules decides between pods and networks',
    cluster: [
      clusterPolicyObject('a', {
        subject: namespaces('x'),
        egress: [
          { action: 'Deny', to: [{ networks: ['10.244.2.0/30', 'fd00:10:244:2::/126'] }], protocols: [tcp(80)] },
          { action: 'Pass', to: [{ namespaces: {} }] },
          { action: 'Deny', to: [everywhere] },
        ],
      }),
    ],
    allows: (from, to, { protocol, port }) => {
      if (from.ns !== 'x') return true;
      if (to === world) return false;
      return !(to.ns === 'y' && protocol === 'TCP' && port === 80);
    },
  },
  {
    name: 'ranges of ports, and pods as subjects',
    cluster: [
      clusterPolicyObject('a', {
        subject: pods('z', 'b'),
        ingress: [
          { action: 'Accept', from: [{ namespaces: {} }], protocols: [tcp(80)] },
          {
            action: 'Deny',
            from: [{ namespaces: {} }],
            protocols: [{ tcp: { destinationPort: { range: { start: 70, end: 90 } } } }],
          },
        ],
      }),
    ],
    allows: (from, to, { protocol, port }) => to.name !== 'z/b' || from === world || protocol !== 'TCP' || port === 80,
  },
  {
    name: 'a Deny rule with a peer that is not understood denies everything, such an Accept rule nothing',
    cluster: [
      clusterPolicyObject('a', {
        priority: 1,
        subject: namespaces('x'),
        ingress: [{ action: 'Accept', from: [{}, namespaces('x')] }],
      }),
      clusterPolicyObject('b', { priority: 2, subject: pods('x', 'a'), ingress: [{ action: 'Deny', from: [{}] }] }),
      clusterPolicyObject('c', {
        priority: 2,
        subject: pods('y', 'c'),
        egress: [{ action: 'Pass', to: [{ domainNames: ['example.com'] }] }],
      }),
    ],
    allows: (from, to) => to.name !== 'x/a' && from.name !== 'y/c',
  },
];

describe('tiers', { skip }, () => {
  let lab: PolicyLab;
  let cluster: PolicyCluster;

  before(async () => {
    lab = await PolicyLab.create();
    cluster = await PolicyCluster.create();
    for (const node of lab.nodes) await cluster.startAgent(node);
  });
  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  for (const { name, cluster: tiers, policies = [], allows } of cases) {
    test(name, async () => {
      await cluster.replacePolicies(policies);
      await cluster.replaceClusterPolicies(tiers);
      await cluster.settled(lab.nodes);
      lab.forgetFlows();
      const judge = evaluator(await cluster.state());
      const pairs = endpoints.flatMap((from) => endpoints.map((to) => ({ from, to })));
      const tries = pairs
        .filter(({ from, to }) => from !== to)
        .flatMap((pair) => probes.flatMap((probe) => families.map((family) => ({ ...pair, probe, family }))));
      const wrong: string[] = [];
      await inParallel(tries, 64, async ({ from, to, probe, family }) => {
        const { protocol, port } = probe;
        const expected = judge({ srcIp: from[family], dstIp: to[family], protocol, dport: port }).verdict === 'allow';
        const what = `${from.name} -> ${to.name} ${protocol}:${port} ${family}`;
        if (allows && allows(from, to, probe) !== expected) wrong.push(`${what}: the oracle says ${expected}`);
        const passed = await lab.connects(from, to, protocol, port, family, expected);
        if (passed !== expected) wrong.push(`${what}: ${passed ? 'passed' : 'lost'}`);
      });
      assert.deepEqual(wrong, []);
    });
  }
});
