import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Node, Pod } from '../../kube/types.ts';
import { node, pod } from '../fixtures.ts';
import { ClusterState } from './cluster-state.ts';
import { schedule } from './schedule.ts';
import { cases, on, requests } from './schedule-cases.ts';

function clusterOf(nodes: readonly Node[], pods: readonly Pod[] = []) {
  const state = new ClusterState();
  for (const one of nodes) state.setNode(one);
  for (const one of pods) state.setPod(one);
  return state;
}

function decide(candidate: Pod, nodes: readonly Node[], pods: readonly Pod[] = [], namespaces = {}) {
  const labels = namespaces as Record<string, Record<string, string>>;
  const decision = schedule(candidate, {
    nodes: clusterOf(nodes, pods).nodes,
    namespaceLabels: (name) => labels[name],
  });
  return decision.type === 'bind' ? decision.nodeName : decision.message;
}

for (const { name, pod: candidate, nodes, pods, namespaces, result } of cases) {
  test(`schedule: ${name}`, () => assert.equal(decide(candidate, nodes, pods, namespaces), result));
}

test('init containers count by their largest, sidecars add up', () => {
  const container = (name: string, cpu: string, more = {}) => ({
    name,
    image: 'x',
    resources: { requests: { cpu } },
    ...more,
  });
  const hungry = pod('a', {
    spec: {
      initContainers: [container('side', '500m', { restartPolicy: 'Always' }), container('init', '2')],
      containers: [container('main', '1')],
    },
  });
  assert.equal(
    decide(hungry, [node('n1', { allocatable: { cpu: '2499m' } })]),
    '0/1 nodes are available: 1 Insufficient cpu.',
  );
  assert.equal(decide(hungry, [node('n1', { allocatable: { cpu: '2500m' } })]), 'n1');
});

test('a burst is even and never over what a node has, whatever the nodes', () => {
  const shapes = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(shapes, fc.integer({ min: 1, max: 40 }), (sizes, count) => {
      const state = clusterOf(
        sizes.map((size, i) => node(`n${i}`, { allocatable: { cpu: '64', pods: String(size) } })),
      );
      const placed = new Map<string, number>();
      let refused = 0;
      for (let i = 0; i < count; i++) {
        const one = pod(`p${i}`);
        const decision = schedule(one, { nodes: state.nodes, namespaceLabels: () => undefined });
        if (decision.type === 'unschedulable') refused++;
        else {
          state.assume(one, decision.nodeName);
          placed.set(decision.nodeName, (placed.get(decision.nodeName) ?? 0) + 1);
        }
      }
      const room = sizes.reduce((sum, size) => sum + size, 0);
      assert.equal(refused, Math.max(0, count - room));
      const most = Math.max(0, ...placed.values());
      for (const [i, size] of sizes.entries()) {
        const here = placed.get(`n${i}`) ?? 0;
        assert.ok(here <= size);
        assert.ok(here === size || here >= most - 1, 'spread evenly over those that have room');
      }
    }),
    { numRuns: 50 },
  );
});

test('the state is the same whatever the order and repetition of changes', () => {
  const change = fc.record({
    pod: fc.integer({ min: 0, max: 5 }),
    node: fc.integer({ min: -1, max: 2 }),
    cpu: fc.integer({ min: 1, max: 9 }),
  });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const state = clusterOf([node('n0'), node('n1'), node('n2')]);
      const last = new Map<string, Pod | undefined>();
      for (const { pod: index, node: at, cpu } of changes) {
        const name = `p${index}`;
        const object = at < 0 ? undefined : pod(name, on(`n${at}`, requests(`${cpu}`)));
        last.set(name, object);
        if (object) state.setPod(object);
        else state.removePod(`default/${name}`);
      }
      const fresh = clusterOf(
        [node('n0'), node('n1'), node('n2')],
        [...last.values()].filter((one) => one !== undefined),
      );
      const view = (one: ClusterState) =>
        one.nodes.map((info) => [
          info.node.metadata.name,
          [...info.pods.keys()].sort(),
          info.requested.get('cpu') ?? 0,
          [...info.groups].sort(),
        ]);
      assert.deepEqual(view(state), view(fresh));
    }),
    { numRuns: 100 },
  );
});
