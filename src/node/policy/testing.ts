/** Builders of API objects and random clusters, for the tests of this folder and of test/netns. */
import fc from 'fast-check';
import type { Namespace, NetworkPolicy, Node, networkingv1, Pod } from '../../kube/types.ts';
import { type ElementChange, textsOf } from '../../linux/set-elements.ts';
import type { ClusterState } from './oracle.ts';

/** Changes of elements in the words of nft. */
export function textOf(changes: readonly ElementChange[]): string {
  const texts = changes.map(({ op, set, elements }) => {
    const list = typeof elements === 'string' ? elements : textsOf(elements).join(', ');
    return list && `${op} element ${set.family} ${set.table} ${set.name} { ${list} }\n`;
  });
  return texts.join('');
}

let serial = 0;

function meta(name: string, labels: Record<string, string> = {}) {
  serial++;
  return {
    name,
    uid: `uid-${serial}`,
    resourceVersion: String(serial),
    creationTimestamp: '2026-01-01T00:00:00Z',
    labels,
  };
}

export function namespaceObject(name: string, labels: Record<string, string> = {}): Namespace {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: meta(name, { 'kubernetes.io/metadata.name': name, ...labels }),
  };
}

export interface PodOptions {
  readonly labels?: Record<string, string>;
  readonly ips?: readonly string[];
  readonly node?: string;
  readonly phase?: string;
  readonly hostNetwork?: boolean;
  readonly ports?: readonly { readonly name: string; readonly containerPort: number; readonly protocol?: string }[];
  readonly uid?: string;
}

/** A pod from "namespace/name". */
export function podObject(key: string, options: PodOptions = {}): Pod {
  const [namespace, name] = key.split('/') as [string, string];
  const ips = options.ips ?? [];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...meta(name, options.labels), namespace, uid: options.uid ?? `uid-${key}` },
    spec: {
      nodeName: options.node ?? 'n1',
      ...(options.hostNetwork ? { hostNetwork: true } : {}),
      containers: [{ name: 'c', image: 'x', ports: [...(options.ports ?? [])] }],
    },
    status: {
      phase: options.phase ?? 'Running',
      ...(ips[0] ? { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) } : {}),
    },
  };
}

/** A policy from "namespace/name". */
export function policyObject(key: string, spec: networkingv1.NetworkPolicySpec): NetworkPolicy {
  const [namespace, name] = key.split('/') as [string, string];
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { ...meta(name), namespace },
    spec,
  };
}

export function nodeObject(name: string, addresses: readonly string[]): Node {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: meta(name),
    spec: {},
    status: { addresses: addresses.map((address) => ({ type: 'InternalIP', address })) },
  };
}

/** Few keys and values, so that random selectors and labels meet often. */
const labelKey = fc.constantFrom('app', 'tier', 'env');
const labelValue = fc.constantFrom('a', 'b', 'c');
const labels = fc.dictionary(labelKey, labelValue, { maxKeys: 3 });
const namespaceName = fc.constantFrom('x', 'y', 'z');
/** Ports that policies name and packets try. */
const portNumber = fc.constantFrom(80, 81, 82, 443, 8080);
const portName = fc.constantFrom('http', 'dns', 'odd');
const protocol = fc.constantFrom('TCP', 'UDP', 'SCTP');

const selector: fc.Arbitrary<networkingv1.NetworkPolicySpec['podSelector']> = fc.record(
  {
    matchLabels: fc.dictionary(labelKey, labelValue, { maxKeys: 2 }),
    matchExpressions: fc.array(
      fc.oneof(
        fc.record({
          key: labelKey,
          operator: fc.constantFrom('In', 'NotIn'),
          values: fc.uniqueArray(labelValue, { minLength: 1, maxLength: 2 }),
        }),
        fc.record({ key: labelKey, operator: fc.constantFrom('Exists', 'DoesNotExist') }),
      ),
      { maxLength: 2 },
    ),
  },
  { requiredKeys: [] },
);

const ipBlock: fc.Arbitrary<networkingv1.IPBlock> = fc.constantFrom(
  { cidr: '0.0.0.0/0' },
  { cidr: '::/0' },
  { cidr: '10.0.0.0/29' },
  { cidr: '10.0.0.0/29', except: ['10.0.0.2/32', '10.0.0.4/31'] },
  { cidr: '10.0.0.3/32' },
  { cidr: '10.0.0.0/8', except: ['10.0.0.0/30'] },
  { cidr: '192.0.2.0/24', except: ['192.0.2.7/32'] },
  { cidr: 'fd00::/64', except: ['fd00::4/126'] },
  { cidr: 'fd00::2/127' },
  { cidr: 'not a cidr' },
);

const peer: fc.Arbitrary<networkingv1.NetworkPolicyPeer> = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: selector }),
  fc.record({ podSelector: selector, namespaceSelector: selector }),
  fc.record({ ipBlock }),
);

const port: fc.Arbitrary<networkingv1.NetworkPolicyPort> = fc.oneof(
  fc.record({ protocol, port: portNumber }, { requiredKeys: ['port'] }),
  fc.record({ protocol, port: portName }, { requiredKeys: ['port'] }),
  fc.record({ protocol }),
  fc
    .record({ protocol, port: portNumber, extra: fc.integer({ min: 0, max: 400 }) })
    .map(({ extra, ...rest }) => ({ ...rest, endPort: Number(rest.port) + extra })),
);

/** The rarest way to allow something: a port's name on whatever pod is inside a block. */
const namedBlockRule: fc.Arbitrary<networkingv1.NetworkPolicyEgressRule> = fc
  .record({ ipBlock, port: fc.record({ protocol, port: portName }) })
  .map((each) => ({ to: [{ ipBlock: each.ipBlock }], ports: [each.port] }));

const egressRule: fc.Arbitrary<networkingv1.NetworkPolicyEgressRule> = fc.record(
  { to: fc.array(peer, { maxLength: 3, size: 'max' }), ports: fc.array(port, { maxLength: 3, size: 'max' }) },
  { requiredKeys: [] },
);

const spec: fc.Arbitrary<networkingv1.NetworkPolicySpec> = fc.record(
  {
    podSelector: selector,
    policyTypes: fc.subarray(['Ingress', 'Egress']),
    ingress: fc.array(
      fc.record(
        { from: fc.array(peer, { maxLength: 3, size: 'max' }), ports: fc.array(port, { maxLength: 3, size: 'max' }) },
        { requiredKeys: [] },
      ),
      { maxLength: 3 },
    ),
    egress: fc.array(fc.oneof({ weight: 1, arbitrary: namedBlockRule }, { weight: 3, arbitrary: egressRule }), {
      maxLength: 3,
    }),
  },
  { requiredKeys: ['podSelector'] },
);

/** Mostly the first value. */
function often<T>(usual: T, ...others: readonly T[]): fc.Arbitrary<T> {
  return fc.oneof({ weight: 10, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: fc.constantFrom(...others) });
}

/** Names and addresses come from small pools, so that random changes hit the same objects, and addresses are reused. */
export const randomNamespace = fc
  .record({ name: namespaceName, labels })
  .map(({ name, labels: own }) => namespaceObject(name, own));

export const randomPod = fc
  .record({
    namespace: namespaceName,
    index: fc.integer({ min: 0, max: 2 }),
    // Mostly the pod's own address; sometimes one that another pod has or had.
    stolen: fc.oneof(
      { weight: 12, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 9 }) },
    ),
    labels,
    node: fc.constantFrom('n1', 'n2'),
    phase: often('Running', 'Pending', 'Succeeded', 'Failed'),
    hostNetwork: often(false, true),
    hasAddress: often(true, false),
    ports: fc.uniqueArray(fc.record({ name: portName, containerPort: portNumber, protocol }), {
      maxLength: 3,
      selector: ({ name }) => name,
      size: 'max',
    }),
  })
  .map(({ namespace, index, stolen, hasAddress, ...options }) => {
    const host = stolen ?? 1 + index + 3 * ['x', 'y', 'z'].indexOf(namespace);
    return podObject(`${namespace}/p${index}`, {
      ...options,
      ips: hasAddress ? [`10.0.0.${host}`, `fd00::${host}`] : [],
    });
  });

export const randomPolicy = fc
  .record({ namespace: namespaceName, index: fc.integer({ min: 0, max: 4 }), spec })
  .map(({ namespace, index, spec: own }) => policyObject(`${namespace}/np${index}`, own));

/** Addresses that packets come from and go to: of pods, of nobody, of the world. */
export const packetAddresses: readonly (readonly string[])[] = [
  [...Array.from({ length: 9 }, (_, i) => `10.0.0.${i + 1}`), '192.0.2.7', '192.0.2.8', '10.9.9.9', '172.18.0.2'],
  [...Array.from({ length: 9 }, (_, i) => `fd00::${i + 1}`), 'fd00::99', '2001:db8::1', 'fd00:18::1'],
];

export const packetPorts: readonly (readonly [protocol: string, number: number, dport: number])[] = [
  ['TCP', 6, 80],
  ['TCP', 6, 81],
  ['TCP', 6, 443],
  ['TCP', 6, 9999],
  ['UDP', 17, 80],
  ['UDP', 17, 8080],
  ['SCTP', 132, 82],
  ['ICMP', 1, 80],
];

export interface RandomCluster extends ClusterState {
  readonly pods: Pod[];
  readonly namespaces: Namespace[];
  readonly policies: NetworkPolicy[];
}

const byName = <T extends { metadata: { name: string; namespace?: string } }>(objects: readonly T[]): T[] => [
  ...new Map(objects.map((each) => [`${each.metadata.namespace}/${each.metadata.name}`, each])).values(),
];

export const randomCluster: fc.Arbitrary<RandomCluster> = fc
  .record({
    pods: fc.array(randomPod, { minLength: 6, maxLength: 20, size: 'max' }),
    namespaces: fc.array(randomNamespace, { minLength: 3, maxLength: 9, size: 'max' }),
    policies: fc.array(randomPolicy, { minLength: 1, maxLength: 8, size: 'max' }),
  })
  .map(({ pods, namespaces, policies }) => ({
    pods: byName(pods),
    namespaces: byName(namespaces),
    policies: byName(policies),
  }));
