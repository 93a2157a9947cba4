/** Cases of the conformance matrix: ports and protocols. */
import type { Endpoint, Probe } from './testing-matrix.ts';
import { everybody, is, isPod, isTcp, isWeb, nobody, type Port } from './testing-matrix-drafts.ts';

/** What a rule without peers lets pass. */
export const ports: [string, Port[] | undefined, (probe: Probe, receiver: Endpoint) => boolean][] = [
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
