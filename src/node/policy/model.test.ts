import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { keyOf } from '../../kube/names.ts';
import { setDeclarations } from './elements.ts';
import { PolicyModel } from './model.ts';
import { type ClusterState, evaluator } from './oracle.ts';
import { renderTable } from './render.ts';
import { simulate } from './simulate.ts';
import { packetAddresses, packetPorts, randomCluster, randomNamespace, randomPod, randomPolicy } from './testing.ts';

function modelOf(nodeName: string, state: ClusterState): PolicyModel {
  const model = new PolicyModel({ nodeName });
  for (const namespace of state.namespaces) model.setNamespace(namespace);
  for (const policy of state.policies) model.setPolicy(policy);
  for (const pod of state.pods) model.setPod(pod);
  model.settle();
  return model;
}

type Probe = readonly [srcIp: string, dstIp: string, protocol: string, l4proto: number, dport: number];

const allProbes: readonly Probe[] = packetAddresses.flatMap((addresses) =>
  addresses.flatMap((src) => addresses.flatMap((dst) => packetPorts.map((port): Probe => [src, dst, ...port]))),
);

/** The oracle's word against what both nodes' rules do. Returns how many probes were denied. */
function compare(state: ClusterState, probes: readonly Probe[]): number {
  const nodes = ['n1', 'n2'].map((name) => modelOf(name, state).elements);
  const judge = evaluator(state);
  let denied = 0;
  for (const [srcIp, dstIp, protocol, l4proto, dport] of probes) {
    const packet = { saddr: srcIp, daddr: dstIp, l4proto, dport };
    const passes = nodes.every((elements) => simulate(elements, packet) === 'accept');
    const { verdict, reasons } = judge({ srcIp, dstIp, protocol, dport });
    if (!passes) denied++;
    if (passes !== (verdict === 'allow')) {
      const word = passes ? 'allow' : 'deny';
      assert.fail(`${srcIp} -> ${dstIp} ${protocol}:${dport}: rules ${word}, oracle: ${JSON.stringify(reasons)}`);
    }
  }
  return denied;
}

test('the rendered rules do what the oracle says, over random clusters and packets', () => {
  let denied = 0;
  let probed = 0;
  const some = fc.subarray([...allProbes], { minLength: 60, maxLength: 60 });
  const agrees = fc.property(randomCluster, some, (state, probes) => {
    denied += compare(state, probes);
    probed += probes.length;
  });
  fc.assert(agrees, { numRuns: 2000 });
  assert.ok(denied > probed / 50 && denied < probed / 2, `${denied} of ${probed} denied: the clusters prove little`);
});

test('and over every packet of a few clusters', () => {
  fc.assert(
    fc.property(randomCluster, (state) => void compare(state, allProbes)),
    { numRuns: 30 },
  );
});

type Change = (model: PolicyModel, state: Map<string, object>) => void;

const change: fc.Arbitrary<Change> = fc.oneof(
  randomPod.map(
    (pod): Change =>
      (model, state) => {
        model.setPod(pod);
        state.set(`pod ${keyOf(pod)}`, pod);
      },
  ),
  randomPod.map(
    (pod): Change =>
      (model, state) => {
        model.deletePod(keyOf(pod));
        state.delete(`pod ${keyOf(pod)}`);
      },
  ),
  randomPolicy.map(
    (policy): Change =>
      (model, state) => {
        model.setPolicy(policy);
        state.set(`policy ${keyOf(policy)}`, policy);
      },
  ),
  randomPolicy.map(
    (policy): Change =>
      (model, state) => {
        model.deletePolicy(keyOf(policy));
        state.delete(`policy ${keyOf(policy)}`);
      },
  ),
  randomNamespace.map(
    (namespace): Change =>
      (model, state) => {
        model.setNamespace(namespace);
        state.set(`namespace ${keyOf(namespace)}`, namespace);
      },
  ),
  randomNamespace.map(
    (namespace): Change =>
      (model, state) => {
        model.deleteNamespace(namespace.metadata.name);
        state.delete(`namespace ${keyOf(namespace)}`);
      },
  ),
  fc.constant<Change>((model) => model.settle()),
);

function objectsOf<T>(state: ReadonlyMap<string, object>, kind: string): T[] {
  return [...state].filter(([key]) => key.startsWith(`${kind} `)).map(([, object]) => object as T);
}

test('any sequence of changes ends in the state of a fresh start, and the differences add up to it', () => {
  const runs = fc.property(fc.array(change, { minLength: 1, maxLength: 60 }), (changes) => {
    const model = new PolicyModel({ nodeName: 'n1' });
    const state = new Map<string, object>();
    const kernel = new Map<string, Map<string, string>>();
    for (const apply of [...changes, (each: PolicyModel) => each.settle()]) {
      apply(model, state);
      for (const { set, key, before, after } of model.elements.take()) {
        const elements = kernel.get(set) ?? new Map<string, string>();
        kernel.set(set, elements);
        assert.equal(elements.get(key), before, `${set} ${key}`);
        if (after === undefined) elements.delete(key);
        else elements.set(key, after);
      }
    }
    const fresh = modelOf('n1', {
      pods: objectsOf(state, 'pod'),
      namespaces: objectsOf(state, 'namespace'),
      policies: objectsOf(state, 'policy'),
    });
    assert.equal(renderTable(model.elements), renderTable(fresh.elements));
    for (const set of Object.keys(setDeclarations)) {
      assert.deepEqual(new Map([...(kernel.get(set) ?? [])].sort()), new Map([...fresh.elements.entries(set)].sort()));
    }
  });
  fc.assert(runs, { numRuns: 400 });
});
