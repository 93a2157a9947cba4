/**
 * The oracle against packets: random Services and slices are rendered into a kernel, random packets are sent, and each must
 * end as the oracle says. PODWIRE_STATES raises the number of states, PODWIRE_SEED repeats a run.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { servesLocalhost } from '../../src/cluster/proxy-mode.ts';
import { keyOf } from '../../src/kube/names.ts';
import { buildService, type NodeView, type Protocol, type ServiceModel } from '../../src/node/services/model.ts';
import { LOCALHOST } from '../../src/node/services/node-addresses.ts';
import { type ClusterState, type Decision, decide, type Packet } from '../../src/node/services/oracle.ts';
import { anyState, type RandomState, type Vocabulary } from '../../src/node/services/random-states.ts';
import {
  ADDRESSES,
  NODE_ADDRESSES,
  type Outcome,
  PATIENCE_MS,
  PLACES,
  type Place,
  SERVER_PORTS,
  ServicesLab,
} from './services-lab.ts';
import type { ModeUnderTest } from './services-modes.ts';

const SEED = Number(process.env['PODWIRE_SEED'] ?? Date.now() % 1_000_000);
const PACKETS = 24;

const viewOf = ({ name }: ModeUnderTest): NodeView => ({
  name: 'n1',
  zone: 'z1',
  nodePortAddresses: servesLocalhost(name) ? [...NODE_ADDRESSES, LOCALHOST] : NODE_ADDRESSES,
});
const EXTERNAL = ['203.0.113.5', '203.0.113.6', '2001:db8:cb::5', '2001:db8:cb::6'];

const WORDS: Vocabulary = {
  pods: (['a', 'b', 'c', 'far-a', 'far-b'] as const).map((place) => ({
    addresses: PLACES[place],
    node: place.startsWith('far') ? 'n2' : 'n1',
  })),
  serverPorts: SERVER_PORTS,
  externalIps: EXTERNAL,
  balancerIps: EXTERNAL,
  sourceRanges: [
    '198.51.100.2/32',
    '198.51.100.0/29',
    '10.244.0.0/16',
    '0.0.0.0/0',
    '2001:db8:64::2/128',
    '192.0.2.0/24',
  ],
  garbage: [
    '127.0.0.1',
    '169.254.7.7',
    '224.0.0.1',
    '0.0.0.0',
    '::1',
    'fe80::1',
    'ff02::1',
    'nonsense',
    '::ffff:1.2.3.4',
  ],
};

interface RandomPacket {
  readonly from: Place | 'node';
  readonly source: string | undefined;
  readonly destination: string;
  readonly protocol: Protocol;
  readonly port: number;
}

const anyPacketOf = ({ nodePortAddresses }: NodeView): fc.Arbitrary<RandomPacket> =>
  fc
    .record({
      from: fc.constantFrom('a', 'b', 'far-a', 'far-a', 'node', 'outside', 'outside', 'outside') as fc.Arbitrary<
        RandomPacket['from']
      >,
      which: fc.nat(1),
      destination: fc.constantFrom(
        ...[10, 11, 12, 13, 13].flatMap((n) => [`10.96.0.${n}`, `fd00:10:96::${n}`]),
        ...nodePortAddresses,
        ...nodePortAddresses,
        ...EXTERNAL,
      ),
      protocol: fc.constantFrom('tcp', 'udp') as fc.Arbitrary<Protocol>,
      clusterPort: fc.constantFrom(80, 80, 80, 81),
      nodePort: fc.nat(7).map((n) => 30000 + n),
      stray: fc.nat(3),
    })
    .map(({ from, which, destination: anywhere, protocol: anyProtocol, clusterPort, nodePort, stray }) => {
      let destination = anywhere;
      // Pods of other nodes meet this node's rules only at its own addresses: all else their own node has translated.
      if (from === 'far-a') destination = NODE_ADDRESSES[2 * which]!;
      if (destination === LOCALHOST && from !== 'node') destination = NODE_ADDRESSES[0]!;
      const isNode = (nodePortAddresses as readonly string[]).includes(destination);
      // Node ports are odd for UDP.
      const ownProtocol = nodePort % 2 === 1 ? 'udp' : 'tcp';
      const protocol = isNode && stray > 0 ? ownProtocol : anyProtocol;
      const family = destination.includes(':');
      const own = from === 'node' ? [] : PLACES[from].filter((address) => address.includes(':') === family);
      return { from, source: own[which % own.length], destination, protocol, port: isNode ? nodePort : clusterPort };
    });

function modelsOf(state: RandomState, view: NodeView): ServiceModel[] {
  return state.services.map((service) => {
    const key = keyOf(service);
    const slices = state.slices.filter(
      ({ metadata }) => `${metadata.namespace}/${metadata.labels?.['kubernetes.io/service-name']}` === key,
    );
    return buildService(service, slices, view);
  });
}

/** The source the node takes: what it has in the family, by the kernel's choice. */
function asPacket({ from, source, destination, protocol, port }: RandomPacket): Packet {
  const place = from === 'node' ? 'node' : from === 'outside' ? 'outside' : 'pod';
  return { source: source ?? 'unknown', destination, protocol, port, from: place };
}

/** For a packet of the node the source is not known before, and rarely matters: any of the node's addresses. */
function decisionsFor(state: ClusterState, view: NodeView, packet: Packet, { translates }: ModeUnderTest): Decision[] {
  if (packet.from !== 'node') return [decide(state, view, packet, translates)];
  const isV6 = packet.destination.includes(':');
  const isOwn = (view.nodePortAddresses as readonly string[]).includes(packet.destination);
  const sources = isOwn ? [packet.destination] : NODE_ADDRESSES.filter((address) => address.includes(':') === isV6);
  return sources.map((source) => decide(state, view, { ...packet, source }, translates));
}

function agrees(decision: Decision, packet: RandomPacket, outcome: Outcome): boolean {
  switch (decision.kind) {
    case 'reject':
      return outcome.kind === 'refused';
    case 'drop':
      // The node is told of its own datagram at once (EPERM), be it dropped or rejected.
      return (
        outcome.kind === 'silence' ||
        (packet.from === 'node' && packet.protocol === 'udp' && outcome.kind === 'refused')
      );
    case 'pass':
      return outcome.kind !== 'answer';
    case 'endpoints': {
      if (outcome.kind !== 'answer') return false;
      const landing = decision.landings.find(({ endpoint }) => endpoint === outcome.endpoint);
      if (!landing) return false;
      // The node's own source is the kernel's choice, before and after a masquerade.
      return packet.from === 'node' || (outcome.seenSource !== packet.source) === landing.masqueraded;
    }
  }
}

/** Defines the test for a mode, with so many states by default. */
export function testOracle(mode: ModeUnderTest, defaultStates: number): void {
  const states = Number(process.env['PODWIRE_STATES'] ?? defaultStates);
  it(`random states in mode ${mode.name}: packets end as the oracle says (${states} states, seed ${SEED})`, async () => {
    await using lab = await ServicesLab.start();
    await mode.prepare?.(lab);
    await compare(mode, lab, states);
  });
}

async function compare(mode: ModeUnderTest, lab: ServicesLab, states: number): Promise<void> {
  const view = viewOf(mode);
  if (servesLocalhost(mode.name)) lab.routeLocalhost();
  const rules = mode.open(lab);
  const kinds = new Map<string, number>();
  let previous: ServiceModel[] = [];
  const property = fc.asyncProperty(
    anyState(WORDS),
    fc.array(anyPacketOf(view), { minLength: PACKETS, maxLength: PACKETS }),
    async (state, packets) => {
      const models = modelsOf(state, view);
      await rules.apply([]);
      const gone = previous.filter(({ key }) => !models.some((model) => model.key === key));
      await rules.apply([
        ...gone.map(({ key }) => [key, undefined] as const),
        ...models.map((model) => [model.key, model] as const),
      ]);
      previous = models;
      await mode.assertFresh(lab, rules);
      const cluster: ClusterState = { ...state, ...ADDRESSES };
      await Promise.all(
        packets.map(async (packet) => {
          const decisions = decisionsFor(cluster, view, asPacket(packet), mode);
          const isMet = (met: Outcome) => decisions.some((decision) => agrees(decision, packet, met));
          let outcome = await lab.probe(packet);
          // A loaded machine may be silent for longer than a probe waits; rules that drop are silent every time.
          if (outcome.kind === 'silence' && !isMet(outcome))
            outcome = await lab.probe({ ...packet, waitMs: PATIENCE_MS });
          for (const { kind } of decisions) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
          assert.ok(
            isMet(outcome),
            `${JSON.stringify(packet)}\nended as ${JSON.stringify(outcome)}\nthe oracle says ${JSON.stringify(decisions)}`,
          );
        }),
      );
    },
  );
  // Every kind of decision must have been met by a packet. Drops are rare in random states, so a run that saw none goes on.
  const unmet = () => ['endpoints', 'reject', 'drop', 'pass'].filter((kind) => !kinds.get(kind));
  for (let round = 0; round === 0 || (round < 20 && unmet().length > 0); round++)
    await fc.assert(property, { numRuns: states, seed: SEED + round, endOnFailure: true });
  assert.deepEqual(unmet(), [], 'no packet was to end so');
  assert.equal(rules.stats.failures, 0);
}
