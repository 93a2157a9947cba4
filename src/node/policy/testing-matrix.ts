/**
 * The conformance matrix: three namespaces of three pods, and the world outside. Each case is a set of policies and, in
 * plain predicates, who may talk to whom. What is said of peers holds for both directions, so most cases are played twice:
 * as ingress rules (the peer sends) and as egress rules (the peer receives).
 */
import type { Namespace, NetworkPolicy, networkingv1, Pod } from '../../kube/types.ts';
import { namespaceObject, podObject, policyObject } from './testing.ts';

export type Direction = 'ingress' | 'egress';

/** A pod of the matrix, or somebody outside. */
export interface Endpoint {
  /** "x/a", or "world". */
  readonly name: string;
  /** "x", "y", "z"; '' outside. */
  readonly ns: string;
  /** "a", "b", "c"; '' outside. */
  readonly pod: string;
  readonly v4: string;
  readonly v6: string;
}

export interface Probe {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  readonly port: number;
}

export const probes: readonly Probe[] = [
  { protocol: 'TCP', port: 80 },
  { protocol: 'TCP', port: 81 },
  { protocol: 'UDP', port: 80 },
  { protocol: 'UDP', port: 81 },
  { protocol: 'SCTP', port: 80 },
  { protocol: 'ICMP', port: 0 },
];

const namespaceNames = ['x', 'y', 'z'] as const;
const podNames = ['a', 'b', 'c'] as const;

export const pods: readonly Endpoint[] = namespaceNames.flatMap((ns, i) =>
  podNames.map((pod, j) => ({
    name: `${ns}/${pod}`,
    ns,
    pod,
    v4: `10.244.${i + 1}.${j + 1}`,
    v6: `fd00:10:244:${i + 1}::${j + 1}`,
  })),
);
export const world: Endpoint = { name: 'world', ns: '', pod: '', v4: '192.0.2.10', v6: '2001:db8::10' };
export const endpoints: readonly Endpoint[] = [...pods, world];

/** The team of a namespace: x and y are blue, z is green. */
export const namespaces = (): Namespace[] =>
  namespaceNames.map((ns) => namespaceObject(ns, { ns, team: ns === 'z' ? 'green' : 'blue' }));

/** Named ports: "web" is 80, but 81 on the pods c; "dns" is 80 of UDP; only the pods a have "metrics" (81). */
export function podObjects(nodeOf: (pod: Endpoint) => string = () => 'n1'): Pod[] {
  return pods.map((each) =>
    podObject(each.name, {
      labels: { pod: each.pod, tier: each.pod === 'a' ? 'front' : 'back', ...(each.pod === 'c' ? { db: 'yes' } : {}) },
      ips: [each.v4, each.v6],
      node: nodeOf(each),
      ports: [
        { name: 'web', containerPort: each.pod === 'c' ? 81 : 80 },
        { name: 'dns', containerPort: 80, protocol: 'UDP' },
        ...(each.pod === 'a' ? [{ name: 'metrics', containerPort: 81 }] : []),
      ],
    }),
  );
}

type Peer = networkingv1.NetworkPolicyPeer;
type Port = networkingv1.NetworkPolicyPort;
type Selector = networkingv1.NetworkPolicySpec['podSelector'];

interface Rule {
  readonly peers?: Peer[];
  readonly ports?: Port[];
}

interface PolicyDraft {
  readonly ns?: string;
  readonly pods?: Selector;
  readonly rules: readonly Rule[];
}

/** A case without a direction. The receiver is the one whose ports are probed. */
interface Draft {
  readonly name: string;
  readonly policies: readonly PolicyDraft[];
  readonly isolated: (own: Endpoint) => boolean;
  readonly allowed: (peer: Endpoint, own: Endpoint, probe: Probe, receiver: Endpoint) => boolean;
}

export interface MatrixCase {
  readonly name: string;
  readonly policies: readonly NetworkPolicy[];
  readonly allows: (from: Endpoint, to: Endpoint, probe: Probe) => boolean;
}

export function policyOf(direction: Direction, key: string, draft: PolicyDraft): NetworkPolicy {
  const rules = draft.rules.map(({ peers, ports }) => ({
    ...(peers ? { [direction === 'ingress' ? 'from' : 'to']: peers } : {}),
    ...(ports ? { ports } : {}),
  }));
  return policyObject(`${draft.ns ?? 'x'}/${key}`, {
    podSelector: draft.pods ?? { matchLabels: { pod: 'a' } },
    policyTypes: [direction === 'ingress' ? 'Ingress' : 'Egress'],
    [direction]: rules,
  });
}

function inDirection(direction: Direction, draft: Draft): MatrixCase {
  return {
    name: `${direction}: ${draft.name}`,
    policies: draft.policies.map((policy, i) => policyOf(direction, `np${i}`, policy)),
    allows: (from, to, probe) => {
      const [own, peer] = direction === 'ingress' ? [to, from] : [from, to];
      return own === peer || !draft.isolated(own) || draft.allowed(peer, own, probe, to);
    },
  };
}

const xa = (own: Endpoint) => own.name === 'x/a';
const inX = (own: Endpoint) => own.ns === 'x';
const isPod = (peer: Endpoint) => peer !== world;
const everybody = () => true;
const nobody = () => false;

/** A case with one rule on x/a. */
const peerCase = (name: string, peers: Peer[] | undefined, who: (peer: Endpoint) => boolean): Draft => ({
  name,
  policies: [{ rules: [peers ? { peers } : {}] }],
  isolated: xa,
  allowed: who,
});

const portCase = (
  name: string,
  ports: Port[] | undefined,
  what: (probe: Probe, receiver: Endpoint) => boolean,
): Draft => ({
  name,
  policies: [{ rules: [ports ? { ports } : {}] }],
  isolated: xa,
  allowed: (_peer, _own, probe, receiver) => what(probe, receiver),
});

const labels = (matchLabels: Record<string, string>): Selector => ({ matchLabels });
const expression = (key: string, operator: string, ...values: string[]): Selector => ({
  matchExpressions: [{ key, operator, ...(values.length ? { values } : {}) }],
});
const block = (cidr: string, ...except: string[]): Peer => ({
  ipBlock: { cidr, ...(except.length ? { except } : {}) },
});

/** Which pods the policy isolates: nothing is allowed to them. */
const subjects: [string, PolicyDraft, (own: Endpoint) => boolean][] = [
  ['default deny of a namespace by the empty podSelector', { pods: {}, rules: [] }, inX],
  ['deny of one pod by matchLabels', { rules: [] }, xa],
  ['deny by two matchLabels', { pods: labels({ pod: 'c', db: 'yes' }), rules: [] }, (own) => own.name === 'x/c'],
  ['matchLabels that no pod has isolate nobody', { pods: labels({ pod: 'q' }), rules: [] }, nobody],
  [
    'matchLabels with a wrong value beside a right one isolate nobody',
    { pods: labels({ pod: 'a', tier: 'back' }), rules: [] },
    nobody,
  ],
  ['In with one value', { pods: expression('pod', 'In', 'b'), rules: [] }, (own) => own.name === 'x/b'],
  ['In with two values', { pods: expression('pod', 'In', 'b', 'c'), rules: [] }, (own) => inX(own) && own.pod !== 'a'],
  ['NotIn', { pods: expression('pod', 'NotIn', 'b', 'c'), rules: [] }, xa],
  [
    'NotIn matches pods without the label',
    { pods: expression('db', 'NotIn', 'yes'), rules: [] },
    (own) => inX(own) && own.pod !== 'c',
  ],
  ['Exists', { pods: expression('db', 'Exists'), rules: [] }, (own) => own.name === 'x/c'],
  ['DoesNotExist', { pods: expression('db', 'DoesNotExist'), rules: [] }, (own) => inX(own) && own.pod !== 'c'],
  [
    'matchLabels and matchExpressions together must both hold',
    { pods: { ...labels({ tier: 'back' }), ...expression('db', 'DoesNotExist') }, rules: [] },
    (own) => own.name === 'x/b',
  ],
  [
    'two expressions must both hold',
    {
      pods: {
        matchExpressions: [
          { key: 'pod', operator: 'In', values: ['a', 'b'] },
          { key: 'tier', operator: 'NotIn', values: ['front'] },
        ],
      },
      rules: [],
    },
    (own) => own.name === 'x/b',
  ],
  ['a policy isolates in its own namespace only', { ns: 'y', pods: {}, rules: [] }, (own) => own.ns === 'y'],
];

/** Whom a rule without ports lets pass. */
const peers: [string, Peer[] | undefined, (peer: Endpoint) => boolean][] = [
  ['a rule without peers allows everybody', undefined, everybody],
  ['a rule with an empty list of peers allows everybody', [], everybody],
  ['the empty podSelector means the pods of the own namespace', [{ podSelector: {} }], inX],
  ['the empty namespaceSelector means all pods, and nobody else', [{ namespaceSelector: {} }], isPod],
  ['both selectors empty mean all pods', [{ namespaceSelector: {}, podSelector: {} }], isPod],
  ['podSelector by label', [{ podSelector: labels({ pod: 'b' }) }], (peer) => peer.name === 'x/b'],
  ['podSelector by In', [{ podSelector: expression('pod', 'In', 'b', 'c') }], (peer) => inX(peer) && peer.pod !== 'a'],
  ['podSelector by NotIn', [{ podSelector: expression('pod', 'NotIn', 'b') }], (peer) => inX(peer) && peer.pod !== 'b'],
  [
    'podSelector by NotIn of a label that few have',
    [{ podSelector: expression('db', 'NotIn', 'yes') }],
    (peer) => inX(peer) && peer.pod !== 'c',
  ],
  ['podSelector by Exists', [{ podSelector: expression('db', 'Exists') }], (peer) => peer.name === 'x/c'],
  [
    'podSelector by DoesNotExist',
    [{ podSelector: expression('db', 'DoesNotExist') }],
    (peer) => inX(peer) && peer.pod !== 'c',
  ],
  ['podSelector that nobody matches', [{ podSelector: labels({ pod: 'q' }) }], nobody],
  ['namespaceSelector by label', [{ namespaceSelector: labels({ ns: 'y' }) }], (peer) => peer.ns === 'y'],
  [
    'namespaceSelector by the name that every namespace carries',
    [{ namespaceSelector: labels({ 'kubernetes.io/metadata.name': 'z' }) }],
    (peer) => peer.ns === 'z',
  ],
  [
    'namespaceSelector of two namespaces',
    [{ namespaceSelector: labels({ team: 'blue' }) }],
    (peer) => peer.ns === 'x' || peer.ns === 'y',
  ],
  [
    'namespaceSelector by In',
    [{ namespaceSelector: expression('ns', 'In', 'x', 'z') }],
    (peer) => peer.ns === 'x' || peer.ns === 'z',
  ],
  [
    'namespaceSelector by NotIn',
    [{ namespaceSelector: expression('ns', 'NotIn', 'x') }],
    (peer) => peer.ns === 'y' || peer.ns === 'z',
  ],
  ['namespaceSelector by Exists', [{ namespaceSelector: expression('team', 'Exists') }], isPod],
  ['namespaceSelector by DoesNotExist', [{ namespaceSelector: expression('team', 'DoesNotExist') }], nobody],
  ['namespaceSelector that nobody matches', [{ namespaceSelector: labels({ ns: 'q' }) }], nobody],
  [
    'namespaceSelector and podSelector in one peer must both match',
    [{ namespaceSelector: labels({ ns: 'y' }), podSelector: labels({ pod: 'b' }) }],
    (peer) => peer.name === 'y/b',
  ],
  [
    'namespaceSelector and podSelector as two peers are a union',
    [{ namespaceSelector: labels({ ns: 'y' }) }, { podSelector: labels({ pod: 'b' }) }],
    (peer) => peer.ns === 'y' || peer.name === 'x/b',
  ],
  [
    'the empty namespaceSelector with a podSelector',
    [{ namespaceSelector: {}, podSelector: labels({ pod: 'b' }) }],
    (peer) => peer.pod === 'b',
  ],
  [
    'namespaces by In, pods by NotIn',
    [{ namespaceSelector: expression('ns', 'In', 'y', 'z'), podSelector: expression('pod', 'NotIn', 'a') }],
    (peer) => (peer.ns === 'y' || peer.ns === 'z') && peer.pod !== 'a',
  ],
  [
    'three peers are a union',
    [
      { podSelector: labels({ pod: 'b' }) },
      { namespaceSelector: labels({ ns: 'z' }), podSelector: labels({ pod: 'c' }) },
      block(`${world.v4}/32`),
      block(`${world.v6}/128`),
    ],
    (peer) => peer.name === 'x/b' || peer.name === 'z/c' || peer === world,
  ],
  ['ipBlock of everything', [block('0.0.0.0/0'), block('::/0')], everybody],
  [
    'ipBlock of one namespace’s addresses',
    [block('10.244.2.0/24'), block('fd00:10:244:2::/64')],
    (peer) => peer.ns === 'y',
  ],
  ['ipBlock of one address', [block('10.244.2.3/32'), block('fd00:10:244:2::3/128')], (peer) => peer.name === 'y/c'],
  ['ipBlock of the world', [block('192.0.2.0/24'), block('2001:db8::/32')], (peer) => peer === world],
  ['ipBlock with set host bits', [block('192.0.2.77/24'), block('2001:db8::77/32')], (peer) => peer === world],
  [
    'ipBlock with one exception',
    [block('10.244.0.0/16', '10.244.2.0/24'), block('fd00:10:244::/48', 'fd00:10:244:2::/64')],
    (peer) => isPod(peer) && peer.ns !== 'y',
  ],
  [
    'ipBlock with two exceptions',
    [block('0.0.0.0/0', '10.244.2.0/24', '192.0.2.0/24'), block('::/0', 'fd00:10:244:2::/64', '2001:db8::/32')],
    (peer) => peer.ns === 'x' || peer.ns === 'z',
  ],
  [
    'ipBlock with exceptions that overlap',
    [
      block('10.244.0.0/16', '10.244.2.0/23', '10.244.3.1/32'),
      block('fd00:10:244::/48', 'fd00:10:244:2::/63', 'fd00:10:244:3::1/128'),
    ],
    inX,
  ],
  [
    'ipBlock that is excepted whole',
    [block('10.244.2.0/24', '10.244.2.0/24'), block('fd00:10:244:2::/64', 'fd00:10:244:2::/64')],
    nobody,
  ],
  [
    'an exception is made good by another peer',
    [
      block('10.244.0.0/16', '10.244.2.0/24'),
      block('fd00:10:244::/48', 'fd00:10:244:2::/64'),
      { namespaceSelector: labels({ ns: 'y' }), podSelector: labels({ pod: 'b' }) },
    ],
    (peer) => isPod(peer) && (peer.ns !== 'y' || peer.pod === 'b'),
  ],
  [
    'ipBlocks that overlap',
    [
      block('10.244.2.0/24'),
      block('10.244.2.2/32'),
      block('10.244.2.0/23'),
      block('fd00:10:244:2::/64'),
      block('fd00:10:244:2::/63'),
    ],
    (peer) => peer.ns === 'y' || peer.ns === 'z',
  ],
  [
    'ipBlocks and selectors are a union',
    [block('10.244.3.0/24'), block('fd00:10:244:3::/64'), { podSelector: {} }],
    (peer) => peer.ns === 'x' || peer.ns === 'z',
  ],
];

const isTcp = (probe: Probe) => probe.protocol === 'TCP';
/** Where "web" is on a pod; nowhere outside. */
const webOf = (receiver: Endpoint) => (isPod(receiver) ? (receiver.pod === 'c' ? 81 : 80) : undefined);
const isWeb = (probe: Probe, receiver: Endpoint) => isTcp(probe) && probe.port === webOf(receiver);
const is = (probe: Probe, protocol: string, ...ports: number[]) =>
  probe.protocol === protocol && ports.includes(probe.port);

/** What a rule without peers lets pass. */
const ports: [string, Port[] | undefined, (probe: Probe, receiver: Endpoint) => boolean][] = [
  ['a rule without ports allows every protocol', undefined, everybody],
  ['a rule with an empty list of ports allows every protocol', [], everybody],
  ['a port without protocol means TCP', [{ port: 80 }], (probe) => is(probe, 'TCP', 80)],
  ['a TCP port', [{ protocol: 'TCP', port: 81 }], (probe) => is(probe, 'TCP', 81)],
  ['a UDP port', [{ protocol: 'UDP', port: 80 }], (probe) => is(probe, 'UDP', 80)],
  ['an SCTP port', [{ protocol: 'SCTP', port: 80 }], (probe) => is(probe, 'SCTP', 80)],
  ['an SCTP port of another number', [{ protocol: 'SCTP', port: 81 }], nobody],
  ['TCP alone', [{ protocol: 'TCP' }], isTcp],
  ['UDP alone', [{ protocol: 'UDP' }], (probe) => probe.protocol === 'UDP'],
  ['SCTP alone', [{ protocol: 'SCTP' }], (probe) => probe.protocol === 'SCTP'],
  ['an empty port means TCP', [{}], isTcp],
  [
    'two ports are a union',
    [{ port: 80 }, { protocol: 'UDP', port: 81 }],
    (probe) => is(probe, 'TCP', 80) || is(probe, 'UDP', 81),
  ],
  ['two numbers of one protocol', [{ port: 80 }, { port: 81 }], isTcp],
  [
    'all three protocols, not ICMP',
    [{ protocol: 'TCP' }, { protocol: 'UDP' }, { protocol: 'SCTP' }],
    (probe) => probe.protocol !== 'ICMP',
  ],
  ['endPort', [{ port: 80, endPort: 81 }], isTcp],
  ['endPort equal to port', [{ port: 81, endPort: 81 }], (probe) => is(probe, 'TCP', 81)],
  ['endPort of a range that begins above', [{ port: 81, endPort: 90 }], (probe) => is(probe, 'TCP', 81)],
  ['endPort of a range that ends below', [{ port: 70, endPort: 79 }], nobody],
  ['endPort of UDP', [{ protocol: 'UDP', port: 1, endPort: 80 }], (probe) => is(probe, 'UDP', 80)],
  ['endPort over all ports is not every protocol', [{ port: 1, endPort: 65535 }], isTcp],
  ['ranges that overlap', [{ port: 70, endPort: 80 }, { port: 75, endPort: 81 }, { port: 80 }], isTcp],
  [
    'ranges that touch',
    [
      { port: 70, endPort: 80 },
      { port: 81, endPort: 90 },
    ],
    isTcp,
  ],
  ['a named port is resolved on the receiving pod', [{ port: 'web' }], isWeb],
  [
    'a named port of UDP',
    [{ protocol: 'UDP', port: 'dns' }],
    (probe, receiver) => isPod(receiver) && is(probe, 'UDP', 80),
  ],
  ['a named port with the wrong protocol', [{ protocol: 'TCP', port: 'dns' }], nobody],
  [
    'a named port that few pods have',
    [{ port: 'metrics' }],
    (probe, receiver) => receiver.pod === 'a' && is(probe, 'TCP', 81),
  ],
  ['a named port that no pod has', [{ port: 'nowhere' }], nobody],
  [
    'a named port and a number',
    [{ port: 'web' }, { protocol: 'UDP', port: 81 }],
    (probe, receiver) => isWeb(probe, receiver) || is(probe, 'UDP', 81),
  ],
  [
    'two named ports',
    [{ port: 'web' }, { protocol: 'UDP', port: 'dns' }],
    (probe, receiver) => isWeb(probe, receiver) || (isPod(receiver) && is(probe, 'UDP', 80)),
  ],
];

const b = { podSelector: labels({ pod: 'b' }) };
const yNamespace = { namespaceSelector: labels({ ns: 'y' }) };
const tcp80 = { port: 80 };
const udp80 = { protocol: 'UDP', port: 80 };

const combinations: Draft[] = [
  {
    name: 'a policy without rules denies everything',
    policies: [{ rules: [] }],
    isolated: xa,
    allowed: nobody,
  },
  {
    name: 'peers and ports of a rule must both match',
    policies: [{ rules: [{ peers: [b], ports: [tcp80] }] }],
    isolated: xa,
    allowed: (peer, _own, probe) => peer.name === 'x/b' && is(probe, 'TCP', 80),
  },
  {
    name: 'two rules do not mix their peers and ports',
    policies: [
      {
        rules: [
          { peers: [b], ports: [tcp80] },
          { peers: [yNamespace], ports: [udp80] },
        ],
      },
    ],
    isolated: xa,
    allowed: (peer, _own, probe) =>
      (peer.name === 'x/b' && is(probe, 'TCP', 80)) || (peer.ns === 'y' && is(probe, 'UDP', 80)),
  },
  {
    name: 'two rules with the same peer are a union of ports',
    policies: [
      {
        rules: [
          { peers: [b], ports: [tcp80] },
          { peers: [b], ports: [udp80] },
        ],
      },
    ],
    isolated: xa,
    allowed: (peer, _own, probe) => peer.name === 'x/b' && (is(probe, 'TCP', 80) || is(probe, 'UDP', 80)),
  },
  {
    name: 'a wide rule beside a narrow one',
    policies: [{ rules: [{ peers: [b], ports: [tcp80] }, { peers: [{ podSelector: {} }] }] }],
    isolated: xa,
    allowed: inX,
  },
  {
    name: 'a rule for everybody beside one for some',
    policies: [{ rules: [{ peers: [b] }, { ports: [tcp80] }] }],
    isolated: xa,
    allowed: (peer, _own, probe) => peer.name === 'x/b' || is(probe, 'TCP', 80),
  },
  {
    name: 'two policies on a pod are a union',
    policies: [{ rules: [{ peers: [b] }] }, { rules: [{ peers: [yNamespace] }] }],
    isolated: xa,
    allowed: (peer) => peer.name === 'x/b' || peer.ns === 'y',
  },
  {
    name: 'a deny beside an allow takes nothing away',
    policies: [{ pods: {}, rules: [] }, { rules: [{ peers: [b] }] }],
    isolated: inX,
    allowed: (peer, own) => own.pod === 'a' && peer.name === 'x/b',
  },
  {
    name: 'an allow-all beside a deny wins',
    policies: [
      { pods: {}, rules: [] },
      { pods: {}, rules: [{}] },
    ],
    isolated: inX,
    allowed: everybody,
  },
  {
    name: 'policies of different pods do not mix',
    policies: [{ rules: [{ peers: [b] }] }, { pods: labels({ pod: 'b' }), rules: [{ peers: [yNamespace] }] }],
    isolated: (own) => own.name === 'x/a' || own.name === 'x/b',
    allowed: (peer, own) => (own.pod === 'a' ? peer.name === 'x/b' : peer.ns === 'y'),
  },
  {
    name: 'policies of different namespaces do not mix',
    policies: [{ rules: [{ peers: [b] }] }, { ns: 'y', rules: [{ peers: [b] }] }],
    isolated: (own) => own.name === 'x/a' || own.name === 'y/a',
    allowed: (peer, own) => peer.ns === own.ns && peer.pod === 'b',
  },
  {
    name: 'three policies that overlap on two pods',
    policies: [
      { pods: {}, rules: [{ peers: [b] }] },
      { pods: expression('pod', 'In', 'a', 'b'), rules: [{ peers: [yNamespace], ports: [tcp80] }] },
      { rules: [{ peers: [yNamespace], ports: [udp80] }] },
    ],
    isolated: inX,
    allowed: (peer, own, probe) =>
      peer.name === 'x/b' ||
      (peer.ns === 'y' && own.pod !== 'c' && is(probe, 'TCP', 80)) ||
      (peer.ns === 'y' && own.pod === 'a' && is(probe, 'UDP', 80)),
  },
  {
    name: 'default deny with an allow inside the namespace',
    policies: [{ pods: {}, rules: [{ peers: [{ podSelector: {} }] }] }],
    isolated: inX,
    allowed: inX,
  },
  {
    name: 'ipBlock with ports',
    policies: [{ rules: [{ peers: [block('10.244.2.0/24'), block('fd00:10:244:2::/64')], ports: [tcp80, udp80] }] }],
    isolated: xa,
    allowed: (peer, _own, probe) => peer.ns === 'y' && (is(probe, 'TCP', 80) || is(probe, 'UDP', 80)),
  },
  {
    name: 'ipBlock with a range of ports and an exception',
    policies: [
      {
        rules: [
          {
            peers: [block('10.244.0.0/16', '10.244.2.0/24'), block('fd00:10:244::/48', 'fd00:10:244:2::/64')],
            ports: [{ port: 81, endPort: 90 }],
          },
        ],
      },
    ],
    isolated: xa,
    allowed: (peer, _own, probe) => isPod(peer) && peer.ns !== 'y' && is(probe, 'TCP', 81),
  },
  {
    name: 'ipBlocks that overlap with different ports',
    policies: [
      {
        rules: [
          { peers: [block('10.244.0.0/16'), block('fd00:10:244::/48')], ports: [tcp80] },
          { peers: [block('10.244.2.0/24'), block('fd00:10:244:2::/64')], ports: [{ port: 81 }] },
          { peers: [block('10.244.2.3/32'), block('fd00:10:244:2::3/128')] },
        ],
      },
    ],
    isolated: xa,
    allowed: (peer, _own, probe) =>
      isPod(peer) && (is(probe, 'TCP', 80) || (peer.ns === 'y' && is(probe, 'TCP', 81)) || peer.name === 'y/c'),
  },
  {
    name: 'a named port with a podSelector',
    policies: [
      {
        rules: [
          {
            peers: [{ namespaceSelector: {}, podSelector: expression('pod', 'In', 'b', 'c') }],
            ports: [{ port: 'web' }],
          },
        ],
      },
    ],
    isolated: xa,
    allowed: (peer, _own, probe, receiver) => (peer.pod === 'b' || peer.pod === 'c') && isWeb(probe, receiver),
  },
  {
    name: 'a named port with an ipBlock means pods inside it',
    policies: [{ rules: [{ peers: [block('10.244.2.0/24'), block('fd00:10:244:2::/64')], ports: [{ port: 'web' }] }] }],
    isolated: xa,
    allowed: (peer, _own, probe, receiver) => peer.ns === 'y' && isWeb(probe, receiver),
  },
  {
    name: 'a named port with an ipBlock and an exception',
    policies: [
      {
        rules: [
          {
            peers: [block('0.0.0.0/0', '10.244.2.0/24'), block('::/0', 'fd00:10:244:2::/64')],
            ports: [{ port: 'web' }],
          },
        ],
      },
    ],
    isolated: xa,
    allowed: (peer, _own, probe, receiver) => peer.ns !== 'y' && isWeb(probe, receiver),
  },
  {
    name: 'a named port that resolves differently on the pods of one policy',
    policies: [{ pods: {}, rules: [{ ports: [{ port: 'web' }] }] }],
    isolated: inX,
    allowed: (_peer, _own, probe, receiver) => isWeb(probe, receiver),
  },
  {
    name: 'a named port beside a number of the same peer',
    policies: [
      {
        rules: [
          { peers: [yNamespace], ports: [{ port: 'web' }] },
          { peers: [yNamespace], ports: [{ port: 81 }] },
        ],
      },
    ],
    isolated: xa,
    allowed: (peer, _own, probe, receiver) => peer.ns === 'y' && (isWeb(probe, receiver) || is(probe, 'TCP', 81)),
  },
  {
    name: 'an unknown protocol grants nothing, its neighbour does',
    policies: [{ rules: [{ ports: [{ protocol: 'QUIC', port: 80 }, tcp80] }] }],
    isolated: xa,
    allowed: (_peer, _own, probe) => is(probe, 'TCP', 80),
  },
  {
    name: 'a broken ipBlock grants nothing, its neighbour does',
    policies: [{ rules: [{ peers: [block('10.244.0.0/99'), b] }] }],
    isolated: xa,
    allowed: (peer) => peer.name === 'x/b',
  },
  {
    name: 'a broken exception takes the whole block',
    policies: [{ rules: [{ peers: [block('0.0.0.0/0', 'nonsense'), block('::/0', 'nonsense')] }] }],
    isolated: xa,
    allowed: nobody,
  },
  {
    name: 'a peer with nothing set grants nothing',
    policies: [{ rules: [{ peers: [{}] }] }],
    isolated: xa,
    allowed: nobody,
  },
  {
    name: 'an unknown operator in a peer grants nothing',
    policies: [{ rules: [{ peers: [{ podSelector: expression('pod', 'Like', 'b') }, yNamespace] }] }],
    isolated: xa,
    allowed: (peer) => peer.ns === 'y',
  },
  {
    name: 'an unknown operator in the podSelector isolates the whole namespace',
    policies: [{ pods: expression('pod', 'Like', 'a'), rules: [] }],
    isolated: inX,
    allowed: nobody,
  },
  {
    name: 'ipBlock and podSelector in one peer are not understood and grant nothing',
    policies: [{ rules: [{ peers: [{ ...block('0.0.0.0/0'), podSelector: {} }] }] }],
    isolated: xa,
    allowed: nobody,
  },
  {
    name: 'an endPort below its port grants nothing',
    policies: [{ rules: [{ ports: [{ port: 81, endPort: 80 }] }] }],
    isolated: xa,
    allowed: nobody,
  },
];

/** Cases that are about both directions at once, or about which directions a policy has. */
function twoSided(): MatrixCase[] {
  const spec = (podSelector: Selector, rest: Partial<networkingv1.NetworkPolicySpec>) => ({ podSelector, ...rest });
  const a = labels({ pod: 'a' });
  const make = (
    name: string,
    specs: [string, networkingv1.NetworkPolicySpec][],
    passes: (from: Endpoint, to: Endpoint, probe: Probe) => boolean,
  ): MatrixCase => ({
    name: `both: ${name}`,
    policies: specs.map(([ns, each], i) => policyObject(`${ns}/np${i}`, each)),
    allows: (from, to, probe) => from === to || passes(from, to, probe),
  });
  const types = (...policyTypes: string[]) => ({ policyTypes });
  return [
    make('no policies at all', [], everybody),
    make('without policyTypes and rules: ingress only', [['x', spec(a, {})]], (_, to) => !xa(to)),
    make('empty policyTypes are as none', [['x', spec(a, { policyTypes: [] })]], (_, to) => !xa(to)),
    make('without policyTypes, with an ingress rule: ingress only', [['x', spec(a, { ingress: [{}] })]], everybody),
    make(
      'without policyTypes, with an egress rule: both directions',
      [['x', spec(a, { egress: [{}] })]],
      (_, to) => !xa(to),
    ),
    make(
      'without policyTypes, with an empty list of egress rules: ingress only',
      [['x', spec(a, { egress: [] })]],
      (_, to) => !xa(to),
    ),
    make('policyTypes Egress without rules', [['x', spec(a, types('Egress'))]], (from) => !xa(from)),
    make('policyTypes Ingress without rules', [['x', spec(a, types('Ingress'))]], (_, to) => !xa(to)),
    make(
      'policyTypes of both without rules',
      [['x', spec(a, types('Ingress', 'Egress'))]],
      (from, to) => !xa(from) && !xa(to),
    ),
    make(
      'policyTypes Egress ignores ingress rules',
      [['x', spec(a, { ...types('Egress'), ingress: [], egress: [{}] })]],
      everybody,
    ),
    make(
      'policyTypes Ingress ignores egress rules',
      [['x', spec(a, { ...types('Ingress'), ingress: [{}], egress: [{ ports: [tcp80] }] })]],
      everybody,
    ),
    make(
      'the sender’s egress and the receiver’s ingress must both allow',
      [
        ['x', spec(a, { ...types('Egress'), egress: [{ to: [yNamespace] }] })],
        ['y', spec(a, { ...types('Ingress'), ingress: [{ from: [{ namespaceSelector: labels({ ns: 'x' }) }] }] })],
      ],
      (from, to) => (!xa(from) || to.ns === 'y') && (to.name !== 'y/a' || from.ns === 'x'),
    ),
    make(
      'egress allows, ingress denies',
      [
        ['x', spec(a, { ...types('Egress'), egress: [{}] })],
        ['y', spec({}, types('Ingress'))],
      ],
      (_, to) => to.ns !== 'y',
    ),
    make(
      'ingress allows, egress denies',
      [
        ['x', spec({}, types('Egress'))],
        ['y', spec({}, { ...types('Ingress'), ingress: [{}] })],
      ],
      (from) => from.ns !== 'x',
    ),
    make(
      'default deny of everything everywhere',
      namespaceNames.map((ns) => [ns, spec({}, types('Ingress', 'Egress'))]),
      (from, to) => from === world && to === world,
    ),
    make(
      'ingress and egress of one pod by different ports',
      [['x', spec(a, { ...types('Ingress', 'Egress'), ingress: [{ ports: [tcp80] }], egress: [{ ports: [udp80] }] })]],
      (from, to, probe) => (!xa(to) || is(probe, 'TCP', 80)) && (!xa(from) || is(probe, 'UDP', 80)),
    ),
    make(
      'a chain of pods: front to back to database',
      [
        [
          'x',
          spec(labels({ pod: 'b' }), {
            ...types('Ingress'),
            ingress: [{ from: [{ podSelector: a }], ports: [tcp80] }],
          }),
        ],
        ['x', spec(labels({ pod: 'c' }), { ...types('Ingress'), ingress: [{ from: [b], ports: [{ port: 'web' }] }] })],
        ['x', spec(a, { ...types('Egress'), egress: [{ to: [b] }] })],
      ],
      (from, to, probe) =>
        (to.name !== 'x/b' || (xa(from) && is(probe, 'TCP', 80))) &&
        (to.name !== 'x/c' || (from.name === 'x/b' && is(probe, 'TCP', 81))) &&
        (!xa(from) || to.name === 'x/b'),
    ),
    make(
      'an unknown policy type isolates in both directions',
      [['x', spec(a, types('Sideways'))]],
      (from, to) => !xa(from) && !xa(to),
    ),
  ];
}

export function matrixCases(): MatrixCase[] {
  const drafts: Draft[] = [
    ...subjects.map(([name, policy, isolated]): Draft => ({ name, policies: [policy], isolated, allowed: nobody })),
    ...peers.map(([name, list, who]) => peerCase(name, list, who)),
    ...ports.map(([name, list, what]) => portCase(name, list, what)),
    ...combinations,
  ];
  const played = (['ingress', 'egress'] as const).flatMap((each) => drafts.map((draft) => inDirection(each, draft)));
  return [...played, ...twoSided()];
}
