import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PolicyModel } from './model.ts';
import { evaluator } from './oracle.ts';
import { simulate } from './simulate.ts';
import { type Endpoint, endpoints, namespaces, podObjects, probes } from './testing-matrix.ts';
import { matrixCases } from './testing-matrix-cases.ts';
import type { MatrixCase } from './testing-matrix-drafts.ts';

const l4proto = { TCP: 6, UDP: 17, SCTP: 132, ICMP: 1 } as const;
const cases = matrixCases();

test('the matrix has its two hundred cases, each with a name of its own', () => {
  assert.equal(new Set(cases.map(({ name }) => name)).size, cases.length);
  assert.ok(cases.length >= 200, `${cases.length} cases`);
});

type Table = Record<string, boolean>;

/** "x/a -> y/b TCP:80 IPv6": every pair, probe and family. */
function truthTable(
  passes: (from: Endpoint, to: Endpoint, probe: (typeof probes)[number], family: 'v4' | 'v6') => boolean,
) {
  const table: Table = {};
  for (const from of endpoints) {
    for (const to of endpoints) {
      for (const probe of probes) {
        for (const family of ['v4', 'v6'] as const) {
          table[`${from.name} -> ${to.name} ${probe.protocol}:${probe.port} ${family}`] = passes(
            from,
            to,
            probe,
            family,
          );
        }
      }
    }
  }
  return table;
}

function check({ policies, allows }: MatrixCase): void {
  const expected = truthTable(allows);
  // Two nodes, so that both sides of a packet are judged apart: the pods c live on the other one.
  const pods = podObjects((pod) => (pod.pod === 'c' ? 'n2' : 'n1'));
  const judge = evaluator({ pods, namespaces: namespaces(), policies });
  const oracle = truthTable((from, to, { protocol, port }, family) => {
    const packet = {
      srcIp: from[family],
      dstIp: to[family],
      protocol,
      ...(protocol === 'ICMP' ? {} : { dport: port }),
    };
    return judge(packet).verdict === 'allow';
  });
  assert.deepEqual(oracle, expected, 'the oracle');
  const nodes = ['n1', 'n2'].map((nodeName) => {
    const model = new PolicyModel({ nodeName });
    for (const policy of policies) model.setPolicy(policy);
    for (const pod of pods) model.setPod(pod);
    for (const namespace of namespaces()) model.setNamespace(namespace);
    model.settle();
    return model.elements;
  });
  const rules = truthTable((from, to, { protocol, port }, family) => {
    const packet = { saddr: from[family], daddr: to[family], l4proto: l4proto[protocol], dport: port };
    return nodes.every((elements) => simulate(elements, packet) === 'accept');
  });
  assert.deepEqual(rules, expected, 'the rules');
}

describe('every pair of nine pods and the world', () => {
  for (const each of cases) test(each.name, () => check(each));
});
