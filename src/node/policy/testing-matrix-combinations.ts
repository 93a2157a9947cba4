/** Cases of the conformance matrix: what rules, policies and directions mean together. */
import type { networkingv1 } from '../../kube/types.ts';
import { policyObject } from './testing.ts';
import { type Endpoint, namespaceNames, type Probe, world } from './testing-matrix.ts';
import {
  b,
  block,
  type Draft,
  everybody,
  expression,
  inX,
  is,
  isPod,
  isWeb,
  labels,
  type MatrixCase,
  nobody,
  type Selector,
  tcp80,
  udp80,
  xa,
  yNamespace,
} from './testing-matrix-drafts.ts';

export const combinations: Draft[] = [
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
export function twoSided(): MatrixCase[] {
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
