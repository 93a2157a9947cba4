/**
 * Random clusters with real packets: the kernels of two nodes against both oracles. Every state is brought about by the
 * changes from the state before, transaction by transaction, as it happens on a node that lives.
 *
 * Some dozens of states in a test run; PODWIRE_STATES=2000 for more (some minutes).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseIp } from '../../src/base/ip.ts';
import { silentLogger } from '../../src/base/log.ts';
import { keyOf } from '../../src/kube/names.ts';
import { PolicyModel } from '../../src/node/policy/model.ts';
import { evaluator } from '../../src/node/policy/oracle.ts';
import { PolicyReconciler } from '../../src/node/policy/reconciler.ts';
import { packetAddresses, packetPorts } from '../../src/node/policy/testing.ts';
import { randomState } from '../../src/node/policy/testing-cluster.ts';
import { deniedConnections } from '../../src/node/policy/testing-second-oracle.ts';
import { skip } from './policy-lab.ts';
import { PolicyWire, type WirePacket } from './policy-wire.ts';

const states = Number(process.env['PODWIRE_STATES'] ?? 40);
const packetsPerState = 192;

type State = typeof randomState extends fc.Arbitrary<infer T> ? T : never;

const everyPacket: readonly WirePacket[] = packetAddresses.flatMap((addresses) =>
  addresses.flatMap((srcIp) =>
    addresses
      .filter((dstIp) => dstIp !== srcIp)
      .flatMap((dstIp) => packetPorts.map(([protocol, , dport]) => ({ srcIp, dstIp, protocol, dport }))),
  ),
);
const somePackets = fc.subarray([...everyPacket], { minLength: packetsPerState, maxLength: packetsPerState });

/** A node that goes from state to state. */
class Node {
  readonly #model: PolicyModel;
  readonly #reconciler: PolicyReconciler;
  #before: State | undefined;

  constructor(nodeName: string, nft: PolicyWire['n1']['nft']) {
    this.#model = new PolicyModel({ nodeName });
    this.#reconciler = new PolicyReconciler({ nft, log: silentLogger });
  }

  async become(state: State): Promise<void> {
    const model = this.#model;
    const gone = <T extends { metadata: { name: string; namespace?: string } }>(
      before: Iterable<T> = [],
      after: Iterable<T>,
    ) => {
      const keys = new Set([...after].map(keyOf));
      return [...before].map(keyOf).filter((key) => !keys.has(key));
    };
    const before = this.#before;
    for (const key of gone(before?.pods, state.pods)) model.deletePod(key);
    for (const key of gone(before?.namespaces, state.namespaces)) model.deleteNamespace(key);
    for (const key of gone(before?.policies, state.policies)) model.deletePolicy(key);
    for (const key of gone(before?.clusterPolicies, state.clusterPolicies)) model.deleteClusterPolicy(key);
    for (const key of gone(before?.nodes, state.nodes)) model.deleteNode(key);
    for (const [address] of before?.domainNames ?? [])
      if (!state.domainNames.has(address)) model.setNames(parseIp(address), []);
    for (const namespace of state.namespaces) model.setNamespace(namespace);
    for (const pod of state.pods) model.setPod(pod);
    for (const policy of state.policies) model.setPolicy(policy);
    for (const policy of state.clusterPolicies) model.setClusterPolicy(policy);
    for (const node of state.nodes) model.setNode(node);
    for (const [address, names] of state.domainNames) model.setNames(parseIp(address), names);
    model.settle();
    const { how } = await this.#reconciler.apply(model.elements);
    assert.ok(before === undefined || how !== 'replaced', 'the kernel took the changes');
    this.#before = state;
  }
}

test(`packets through the kernel do what both oracles say, over ${states} random clusters`, {
  skip,
  timeout: 3_600_000,
}, async (t) => {
  using wire = new PolicyWire();
  const nodes = [new Node('n1', wire.n1.nft), new Node('n2', wire.n2.nft)];
  const counts = { packets: 0, denied: 0 };
  const check = async (state: State, packets: readonly WirePacket[]) => {
    for (const node of nodes) await node.become(state);
    wire.forgetFlows();
    const judge = evaluator(state);
    const ports = packetPorts.map(([protocol, , dport]) => ({ protocol, dport }));
    const denied = deniedConnections(state, { addresses: packetAddresses.flat(), ports });
    const asked = packets.flatMap((packet) => {
      const { verdict, reasons } = judge(packet);
      // A packet between a pod and its own node is no forwarded one.
      return reasons.some(({ cause }) => cause === 'own-node') ? [] : [{ packet, verdict, reasons }];
    });
    const passed = await wire.pass(asked.map(({ packet }) => packet));
    for (const [i, { packet, verdict, reasons }] of asked.entries()) {
      const { srcIp, dstIp, protocol, dport } = packet;
      const what = `${srcIp} -> ${dstIp} ${protocol}:${dport}`;
      const second = denied.has(`${srcIp} ${dstIp} ${protocol} ${dport}`) ? 'deny' : 'allow';
      assert.equal(second, verdict, `${what}: the oracles differ: ${JSON.stringify(reasons)}`);
      assert.equal(
        passed[i] ? 'allow' : 'deny',
        verdict,
        `${what}: the kernel says otherwise: ${JSON.stringify(reasons)}`,
      );
      counts.packets++;
      if (verdict === 'deny') counts.denied++;
    }
  };
  // No shrinking: a counterexample depends on the states before it.
  await fc.assert(fc.asyncProperty(randomState, somePackets, check), { numRuns: states, endOnFailure: true });
  t.diagnostic(`${states} states, ${counts.packets} packets, ${counts.denied} denied`);
  assert.ok(counts.denied > counts.packets / 50 && counts.denied < counts.packets / 1.2, JSON.stringify(counts));
});
