/** `status.conditions` of ClusterNetworkPolicies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import type { Condition } from '../../kube/cluster-network-policy.ts';
import { FakeClient } from '../../kube/fake-client.ts';
import type { ClusterNetworkPolicy, Draft } from '../../kube/types.ts';
import type { Problem } from './compile.ts';
import { PolicyStatus } from './policy-status.ts';
import { clusterPolicyObject } from './testing-cluster.ts';

const problem: Problem = { field: 'spec.egress[0].to[0]', message: 'this peer is not supported: agents' };

/** An API with one policy, and nodes that look at it through what `tellAll` hands them. */
class Lab {
  readonly clock = new FakeClock();
  readonly client = new FakeClient();
  writes = 0;
  readonly nodes = ['n1', 'n2', 'n3'].map(
    (nodeName, i) =>
      new PolicyStatus({ nodeName, client: this.client, log: silentLogger, clock: this.clock, random: () => i / 3 }),
  );

  static async create(): Promise<Lab> {
    const lab = new Lab();
    await lab.client.create('ClusterNetworkPolicy', clusterPolicyObject('p', {}) as Draft<ClusterNetworkPolicy>);
    lab.client.onRequest = (verb) => {
      if (verb === 'updateStatus') lab.writes++;
    };
    return lab;
  }

  policy(): Promise<ClusterNetworkPolicy> {
    return this.client.get('ClusterNetworkPolicy', { name: 'p' });
  }

  /** As the informers of all nodes would after a change. */
  async tellAll(problems: readonly Problem[] = [], nodes = this.nodes): Promise<void> {
    const policy = await this.policy();
    for (const node of nodes) node.tell(policy, problems);
  }

  /** Time passes; what was written is told as informers do, until nothing is written any more. */
  async settle(problems: readonly Problem[] = [], nodes = this.nodes): Promise<readonly Condition[]> {
    for (let before = -1; before !== this.writes; ) {
      before = this.writes;
      for (let i = 0; i < 10; i++) {
        await this.clock.advance(50);
        await this.tellAll(problems, nodes);
      }
    }
    return (await this.policy()).status?.conditions ?? [];
  }
}

const brief = (conditions: readonly Condition[]) =>
  conditions.map(({ type, status, reason }) => [type, status, reason]);

test('all nodes say the same, and one of them writes it', async () => {
  const lab = await Lab.create();
  await lab.tellAll();
  const conditions = await lab.settle();
  assert.deepEqual(brief(conditions), [['Accepted', 'True', 'Accepted']]);
  assert.equal(lab.writes, 1);
  assert.equal(conditions[0]!.lastTransitionTime.endsWith('Z'), true);
});

test('what is not understood is named, and the time of the transition is that of the change', async () => {
  const lab = await Lab.create();
  await lab.tellAll();
  const [good] = await lab.settle();
  await lab.clock.advance(60_000);
  await lab.tellAll([problem]);
  const [bad] = await lab.settle([problem]);
  assert.deepEqual([bad!.status, bad!.reason], ['False', 'NotEnforceable']);
  assert.match(bad!.message, /fails closed: spec\.egress\[0\]\.to\[0\]: this peer is not supported/);
  assert.notEqual(bad!.lastTransitionTime, good!.lastTransitionTime);
  const other = { ...problem, field: 'spec.egress[1].to[0]' };
  await lab.clock.advance(60_000);
  const [still] = await lab.settle([other]);
  assert.match(still!.message, /egress\[1\]/);
  assert.equal(still!.lastTransitionTime, bad!.lastTransitionTime, 'the status did not change');
});

test('a node whose kernel refuses its rules says so while it does, for itself', async () => {
  const lab = await Lab.create();
  await lab.tellAll();
  await lab.settle();
  lab.nodes[1]!.tellTrouble('No space left on device');
  assert.deepEqual(brief(await lab.settle()), [
    ['Accepted', 'True', 'Accepted'],
    ['RulesNotLoaded.n2', 'True', 'KernelRefused'],
  ]);
  lab.nodes[1]!.tellTrouble(undefined);
  assert.deepEqual(brief(await lab.settle()), [['Accepted', 'True', 'Accepted']]);
});

test('conditions of others stay', async () => {
  const lab = await Lab.create();
  const foreign = {
    type: 'Reviewed',
    status: 'True',
    lastTransitionTime: '2026-01-01T00:00:00Z',
    reason: 'ByHand',
    message: '',
  };
  await lab.client.updateStatus('ClusterNetworkPolicy', {
    ...(await lab.policy()),
    status: { conditions: [foreign] },
  });
  await lab.tellAll();
  assert.deepEqual(brief(await lab.settle()), [
    ['Accepted', 'True', 'Accepted'],
    ['Reviewed', 'True', 'ByHand'],
  ]);
});

test('a server that is away is asked again later; a policy that is gone is not', async () => {
  const lab = await Lab.create();
  let away = true;
  lab.client.onRequest = () => {
    if (away) throw new Error('no answer');
  };
  const [node] = lab.nodes;
  node!.tell(clusterPolicyObject('p', {}), []);
  away = false;
  const policy = await lab.policy();
  away = true;
  node!.tell(policy, []);
  await lab.clock.advance(1000);
  away = false;
  await lab.clock.advance(6000);
  assert.equal((await lab.policy()).status?.conditions?.length, 1);
  await lab.client.delete('ClusterNetworkPolicy', { name: 'p' });
  node!.tell(policy, [problem]);
  await lab.clock.advance(20_000);
});
