/** `podwire policy`: check, matrix and drops say what the packets do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  allReady,
  applyAll,
  eventually,
  podwire,
  podwireInBackground,
  sleeper,
  startCluster,
  whoAmI,
} from './fixture.ts';

const cluster = await startCluster('policy', { nodes: 2 });
await applyAll(cluster, [
  whoAmI('server', { node: 'node-1' }),
  sleeper('client', { node: 'node-2' }),
  sleeper('stranger', { node: 'node-1' }),
]);
await allReady(cluster, ['server', 'client', 'stranger']);
const name = ['--name', cluster.name];

const isolate = (labels: object) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'server' },
  spec: {
    podSelector: { matchExpressions: [{ key: 'role', operator: 'In', values: ['server'] }] },
    ingress: [{ from: [{ podSelector: { matchLabels: labels } }] }],
  },
});
const guard = {
  apiVersion: 'policy.networking.k8s.io/v1beta1',
  kind: 'ClusterNetworkPolicy',
  metadata: { name: 'guard' },
  spec: {
    tier: 'Admin',
    priority: 5,
    subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { role: 'server' } } } },
    ingress: [
      {
        action: 'Deny',
        from: [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { role: 'client' } } } }],
      },
    ],
  },
};
const label = (pod: string) =>
  cluster.client.patch('Pod', { namespace: 'default', name: pod }, { metadata: { labels: { role: pod } } });

test('policies decide, and the commands say so', async (t) => {
  for (const pod of ['server', 'client', 'stranger']) await label(pod);
  await cluster.apply(JSON.stringify(isolate({ role: 'client' })));

  await t.test('check', async () => {
    const allowed = await podwire(['policy', 'check', 'client', 'server:80', ...name]);
    assert.equal(allowed.exitCode, 0, allowed.stderr);
    assert.match(allowed.stdout, /^allow .*spec\.ingress\[0\]\.from\[0\] of policy default\/server/ms);
    const denied = await podwire(['policy', 'check', 'stranger', 'server:80', '-o', 'json', ...name]);
    assert.equal(denied.exitCode, 1);
    const { verdict, pairs } = JSON.parse(denied.stdout);
    assert.equal(verdict, 'deny');
    assert.match(pairs[0].suggestions[0].text, /add label role=client to pod default\/stranger/);
    const nobody = await podwire(['policy', 'check', 'nobody', 'server:80', ...name]);
    assert.match(nobody.stderr, /no pod nobody in the namespace default/);
  });

  await t.test('matrix, measured', async () => {
    await eventually(
      'the rules are in every kernel',
      () => podwire(['policy', 'matrix', '--port', '80', '--probe', '-o', 'json', ...name]),
      ({ exitCode }) => exitCode === 0,
    );
    const { stdout } = await podwire(['policy', 'matrix', '--port', '80', '--probe', ...name]);
    assert.match(stdout, /18 connections, 2 denied, all measured as computed/);
  });

  await t.test('drops, as they happen', async () => {
    const follow = podwireInBackground(['policy', 'drops', '--follow', '-o', 'json', ...name]);
    t.after(() => follow.child.kill('SIGKILL'));
    await eventually(
      'a drop is told',
      async () => {
        await cluster.connect('stranger', 'server:80', { timeoutMs: 100 });
        return follow.output();
      },
      (output) => output.includes('"pod":"default/stranger"'),
    );
    const drop = JSON.parse(
      follow
        .output()
        .split('\n')
        .find((line) => line.includes('stranger'))!,
    );
    assert.deepEqual([drop.node, drop.direction, drop.policies], ['node-1', 'ingress', ['default/server']]);
    follow.child.kill('SIGINT');
    assert.equal(await follow.ended, 0);
  });

  await t.test('a ClusterNetworkPolicy overrules, and is named', async () => {
    await cluster.apply(JSON.stringify(guard));
    await eventually(
      'the packets stop',
      () => cluster.connect('client', 'server:80', { timeoutMs: 200 }),
      ({ outcome }) => outcome === 'timeout',
    );
    const { conditions } = await eventually(
      'what became of it is in its status',
      async () => (await cluster.client.get('ClusterNetworkPolicy', { name: 'guard' })).status ?? {},
      (status) => status.conditions !== undefined,
    );
    assert.deepEqual(
      conditions?.map(({ type, status, observedGeneration }) => [type, status, observedGeneration]),
      [['Accepted', 'True', 1]],
    );
    const { stdout } = await podwire(['policy', 'check', 'client', 'server:80', ...name]);
    assert.match(stdout, /spec\.ingress\[0\] of ClusterNetworkPolicy guard, Admin tier, priority 5: Deny/);
    const matrix = await podwire(['policy', 'matrix', '--port', '80', '--probe', ...name]);
    assert.match(matrix.stdout, /18 connections, 4 denied, all measured as computed/);
  });
});
