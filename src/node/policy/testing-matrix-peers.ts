/** Cases of the conformance matrix: whom a policy isolates, and whom a rule means. */
import { type Endpoint, world } from './testing-matrix.ts';
import {
  block,
  everybody,
  expression,
  inX,
  isPod,
  labels,
  nobody,
  type Peer,
  type PolicyDraft,
  xa,
} from './testing-matrix-drafts.ts';

/** Which pods the policy isolates: nothing is allowed to them. */
export const subjects: [string, PolicyDraft, (own: Endpoint) => boolean][] = [
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
export const peers: [string, Peer[] | undefined, (peer: Endpoint) => boolean][] = [
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
