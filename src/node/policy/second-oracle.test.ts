/** The oracle against a second one that goes another way: two readings of the same documentation must say the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { evaluator } from './oracle.ts';
import { packetAddresses, packetPorts } from './testing.ts';
import { randomState } from './testing-cluster.ts';
import { namespaces, podObjects, pods, probes, world } from './testing-matrix.ts';
import { matrixCases } from './testing-matrix-cases.ts';
import { deniedConnections, type Universe } from './testing-second-oracle.ts';

/** More with PODWIRE_STATES; 2,000 take half a minute. */
const states = Number(process.env['PODWIRE_STATES'] ?? 200);

const ports = packetPorts.map(([protocol, , dport]) => ({ protocol, dport }));
const universe: fc.Arbitrary<Universe> = fc
  .tuple(
    ...packetAddresses.map((addresses) => fc.subarray([...addresses], { minLength: 6, maxLength: 6 })),
    fc.subarray(ports, { minLength: 5, maxLength: 5 }),
  )
  .map((all) => ({ addresses: all.slice(0, -1).flat() as string[], ports: all.at(-1) as typeof ports }));

test('two oracles agree over thousands of random clusters', () => {
  let denied = 0;
  let asked = 0;
  const agrees = fc.property(randomState, universe, (state, { addresses, ports: some }) => {
    const judge = evaluator(state);
    const other = deniedConnections(state, { addresses, ports: some });
    for (const srcIp of addresses) {
      for (const dstIp of addresses) {
        if (srcIp.includes(':') !== dstIp.includes(':')) continue;
        for (const { protocol, dport } of some) {
          const { verdict, reasons } = judge({ srcIp, dstIp, protocol, dport });
          if (reasons.some(({ cause }) => cause === 'own-node')) continue;
          const second = other.has(`${srcIp} ${dstIp} ${protocol} ${dport}`) ? 'deny' : 'allow';
          if (verdict !== second) {
            assert.fail(`${srcIp} -> ${dstIp} ${protocol}:${dport}: ${second}, the first: ${JSON.stringify(reasons)}`);
          }
          asked++;
          if (verdict === 'deny') denied++;
        }
      }
    }
  });
  fc.assert(agrees, { numRuns: states });
  assert.ok(denied > asked / 50 && denied < asked / 1.2, `${denied} of ${asked} denied: the clusters prove little`);
});

test('the second oracle says what every case of the conformance matrix says', () => {
  const endpoints = [...pods, world];
  for (const { name, policies, allows } of matrixCases()) {
    for (const family of ['v4', 'v6'] as const) {
      const addresses = endpoints.map((each) => each[family]);
      const cases = probes.map(({ protocol, port }) => ({ protocol, dport: port }));
      const state = { pods: podObjects(), namespaces: namespaces(), policies };
      const denied = deniedConnections(state, { addresses, ports: cases });
      for (const from of endpoints) {
        for (const to of endpoints.filter((each) => each !== from)) {
          for (const probe of probes) {
            const key = `${from[family]} ${to[family]} ${probe.protocol} ${probe.port}`;
            assert.equal(!denied.has(key), allows(from, to, probe), `${name}: ${key}`);
          }
        }
      }
    }
  }
});
