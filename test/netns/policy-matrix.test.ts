/** A part of the conformance matrix with real packets: two nodes, TCP and UDP, IPv4 and IPv6, every pair of endpoints. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Probe } from '../../src/node/policy/testing-matrix.ts';
import { matrixCases } from '../../src/node/policy/testing-matrix-cases.ts';
import { PolicyCluster } from './policy-cluster.ts';
import { endpoints, families, inParallel, PolicyLab, skip, world } from './policy-lab.ts';

/** Every fourth case; all 236, which take a minute, with PODWIRE_WHOLE_MATRIX=1. */
const cases = matrixCases().filter((_, i) => process.env['PODWIRE_WHOLE_MATRIX'] || i % 4 === 0);

const probes: readonly Probe[] = [
  { protocol: 'TCP', port: 80 },
  { protocol: 'TCP', port: 81 },
  { protocol: 'UDP', port: 80 },
];

describe('packets between nine pods and the world', { skip }, () => {
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

  for (const { name, policies, allows } of cases) {
    test(name, async () => {
      await cluster.replacePolicies(policies);
      await cluster.settled(lab.nodes);
      lab.forgetFlows();
      const pairs = endpoints.flatMap((from) => endpoints.map((to) => ({ from, to })));
      const tries = pairs
        .filter(({ from, to }) => from !== to && (from !== world || to !== world))
        .flatMap((pair) => probes.flatMap((probe) => families.map((family) => ({ ...pair, probe, family }))));
      const wrong: string[] = [];
      await inParallel(tries, 64, async ({ from, to, probe, family }) => {
        const expected = allows(from, to, probe);
        const passed = await lab.connects(from, to, probe.protocol, probe.port, family, expected);
        if (passed !== expected) {
          wrong.push(
            `${from.name} -> ${to.name} ${probe.protocol}:${probe.port} ${family}: ${passed ? 'passed' : 'lost'}`,
          );
        }
      });
      assert.deepEqual(wrong, []);
    });
  }
});
