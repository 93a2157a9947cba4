/** ClusterNetworkPolicies for tests: a builder and random ones, on the labels and ports of `testing.ts`. */
import fc from 'fast-check';
import type {
  ClusterNetworkPolicyEgressRule,
  ClusterNetworkPolicyIngressRule,
  ClusterNetworkPolicyPeer,
  ClusterNetworkPolicyProtocol,
  ClusterNetworkPolicySpec,
} from '../../kube/cluster-network-policy.ts';
import type { ClusterNetworkPolicy, LabelSelector, Node } from '../../kube/types.ts';
import type { ClusterState } from './oracle.ts';
import { nodeObject, type RandomCluster, randomCluster } from './testing.ts';

let serial = 0;

export function clusterPolicyObject(name: string, spec: Partial<ClusterNetworkPolicySpec>): ClusterNetworkPolicy {
  serial++;
  return {
    apiVersion: 'policy.networking.k8s.io/v1beta1',
    kind: 'ClusterNetworkPolicy',
    metadata: { name, uid: `cnp-${serial}`, resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { tier: 'Admin', priority: 10, subject: { namespaces: {} }, ...spec },
  };
}

const labelKey = fc.constantFrom('app', 'tier', 'env');
const labelValue = fc.constantFrom('a', 'b', 'c');
const selector: fc.Arbitrary<LabelSelector> = fc.oneof(
  fc.constant({}),
  fc.record({ matchLabels: fc.dictionary(labelKey, labelValue, { maxKeys: 1 }) }),
  fc.record({
    matchExpressions: fc.array(
      fc.record({ key: labelKey, operator: fc.constantFrom('In', 'NotIn'), values: fc.tuple(labelValue) }),
      { minLength: 1, maxLength: 1 },
    ),
  }),
  fc.record({ matchLabels: fc.record({ 'kubernetes.io/metadata.name': fc.constantFrom('x', 'y', 'z') }) }),
);

const subject: fc.Arbitrary<Pick<ClusterNetworkPolicyPeer, 'namespaces' | 'pods'>> = fc.oneof(
  fc.record({ namespaces: selector }),
  fc.record({ pods: fc.record({ namespaceSelector: selector, podSelector: selector }) }),
);

const network = fc.constantFrom(
  '0.0.0.0/0',
  '::/0',
  '10.0.0.0/29',
  '10.0.0.2/31',
  '10.0.0.0/8',
  '192.0.2.0/24',
  '192.0.2.7/32',
  'fd00::/64',
  'fd00::4/126',
);
const networks: fc.Arbitrary<ClusterNetworkPolicyPeer> = fc.record({
  networks: fc.array(network, { minLength: 1, maxLength: 3 }),
});

const nodes: fc.Arbitrary<ClusterNetworkPolicyPeer> = fc.record({
  nodes: fc.oneof<fc.Arbitrary<LabelSelector>[]>(
    fc.constant({}),
    fc.record({ matchLabels: fc.record({ zone: fc.constantFrom('a', 'b') }) }),
    fc.constant({ matchExpressions: [{ key: 'zone', operator: 'NotIn', values: ['a'] }] }),
  ),
});
const domainNames: fc.Arbitrary<ClusterNetworkPolicyPeer> = fc.record({
  domainNames: fc.uniqueArray(fc.constantFrom('example.com', '*.example.com', 'www.Example.com.', 'other.net'), {
    minLength: 1,
    maxLength: 2,
  }),
});

/** What this engine does not know, so that it fails closed. */
const strange: fc.Arbitrary<ClusterNetworkPolicyPeer> = fc.constantFrom<ClusterNetworkPolicyPeer[]>(
  {},
  { nodes: { matchExpressions: [{ key: 'zone', operator: 'Like' }] } },
  { networks: ['nonsense'] },
  { domainNames: ['*'] },
  { namespaces: { matchExpressions: [{ key: 'a', operator: 'Like' }] } },
);

const number = fc.constantFrom(80, 81, 82, 443, 8080);
const port = fc.oneof(
  fc.record({ number }),
  fc.record({ range: fc.record({ start: number, length: fc.integer({ min: 1, max: 400 }) }) }).map(({ range }) => ({
    range: { start: range.start, end: range.start + range.length },
  })),
  fc.constant({ range: { start: 1, end: 65535 } }),
);
const destinationPort = fc.record({ destinationPort: port });
const protocol: fc.Arbitrary<ClusterNetworkPolicyProtocol> = fc.oneof(
  fc.record({ tcp: destinationPort }),
  fc.record({ udp: destinationPort }),
  fc.record({ sctp: destinationPort }),
  fc.record({ destinationNamedPort: fc.constantFrom('http', 'dns', 'odd') }),
);
const strangeProtocol = fc.constantFrom<ClusterNetworkPolicyProtocol[]>(
  {},
  { tcp: {} },
  { tcp: { destinationPort: {} } },
);

function mostly<T>(usual: fc.Arbitrary<T>, rare: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return fc.oneof({ weight: 40, arbitrary: usual }, { weight: 1, arbitrary: rare });
}

const common = {
  action: mostly(fc.constantFrom('Accept', 'Deny', 'Pass'), fc.constant('Log')),
  protocols: fc.array(mostly(protocol, strangeProtocol), { minLength: 1, maxLength: 3 }),
};
const ingress: fc.Arbitrary<ClusterNetworkPolicyIngressRule> = fc.record(
  { ...common, from: fc.array(mostly<ClusterNetworkPolicyPeer>(subject, strange), { minLength: 1, maxLength: 2 }) },
  { requiredKeys: ['action', 'from'] },
);
const egress: fc.Arbitrary<ClusterNetworkPolicyEgressRule> = fc.record(
  {
    ...common,
    to: fc.array(
      mostly<ClusterNetworkPolicyPeer>(fc.oneof(subject, subject, networks, networks, nodes, domainNames), strange),
      {
        minLength: 1,
        maxLength: 2,
      },
    ),
  },
  { requiredKeys: ['action', 'to'] },
);

export const randomClusterPolicy: fc.Arbitrary<ClusterNetworkPolicy> = fc
  .record({
    index: fc.integer({ min: 0, max: 5 }),
    tier: mostly(fc.constantFrom('Admin', 'Baseline'), fc.constant('Middle')),
    priority: fc.integer({ min: 0, max: 5 }),
    subject: mostly(subject, fc.constant({})),
    ingress: fc.array(ingress, { maxLength: 4 }),
    egress: fc.array(egress, { maxLength: 4 }),
  })
  .map(({ index, ...spec }) => clusterPolicyObject(`cnp${index}`, spec));

const zone = fc.constantFrom<Record<string, string>[]>({ zone: 'a' }, { zone: 'b' }, {});
/** The nodes of the random pods, and one without pods; some of their addresses are probed, one may be a pod's. */
const nodeAddresses = [
  ['n1', '172.18.0.1', 'fd00:18::1'],
  ['n2', '172.18.0.2', 'fd00:18::2'],
  ['n3', '10.9.9.9', 'fd00::99'],
] as const;

export const randomNode: fc.Arbitrary<Node> = fc
  .record({
    which: fc.constantFrom(...nodeAddresses),
    labels: zone,
    odd: mostly(fc.constant(''), fc.constant('10.0.0.9')),
  })
  .map(({ which: [name, ...addresses], labels, odd }) => {
    const node = nodeObject(name, odd ? [...addresses, odd] : addresses);
    return { ...node, metadata: { ...node.metadata, labels } };
  });
export const randomNodes = fc
  .array(randomNode, { minLength: 2, maxLength: 6, size: 'max' })
  .map((all) => [...new Map(all.map((each) => [each.metadata.name, each])).values()]);

/** What DNS answers have given: names of addresses outside, sometimes of a node's or a pod's. */
export const randomDomainNames: fc.Arbitrary<ReadonlyMap<string, readonly string[]>> = fc
  .array(
    fc.tuple(
      fc.constantFrom('192.0.2.7', '192.0.2.8', '2001:db8::1', '172.18.0.2', '10.0.0.3'),
      fc.uniqueArray(
        fc.constantFrom('example.com', 'www.example.com', 'a.b.example.com', 'myexample.com', 'other.net'),
        {
          minLength: 1,
          maxLength: 2,
        },
      ),
    ),
    { maxLength: 4 },
  )
  .map((entries) => new Map(entries));

/** Each name once. */
export const randomClusterPolicies = fc
  .array(randomClusterPolicy, { minLength: 1, maxLength: 6, size: 'max' })
  .map((all) => [...new Map(all.map((each) => [each.metadata.name, each])).values()]);

/** All that decides about packets. */
export const randomState: fc.Arbitrary<RandomCluster & Required<ClusterState>> = fc
  .record({
    cluster: randomCluster,
    // Half of the states without them: there NetworkPolicies have the only word.
    clusterPolicies: fc.oneof(fc.constant<ClusterNetworkPolicy[]>([]), randomClusterPolicies),
    nodes: randomNodes,
    domainNames: randomDomainNames,
  })
  .map(({ cluster, ...others }) => ({ ...cluster, ...others }));
