/** The library as a test file of a user's own project would use it. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Cluster, StatusError, UserError } from '../../src/index.ts';
import { assertNothingLeft, clusterName, eventually, removeLeftovers } from './fixture.ts';

after(removeLeftovers);

const MANIFEST = `
apiVersion: v1
kind: Pod
metadata: { name: server, labels: { app: server } }
spec:
  terminationGracePeriodSeconds: 1
  containers: [{ name: nginx, image: nginx, readinessProbe: { tcpSocket: { port: 80 }, periodSeconds: 1 } }]
---
apiVersion: v1
kind: Service
metadata: { name: server }
spec: { selector: { app: server }, ports: [{ port: 80 }] }
---
# An empty document is skipped.
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: { name: client }
  spec:
    terminationGracePeriodSeconds: 1
    containers: [{ name: main, image: nginx, command: [sh, -c, "echo started; sleep 3600 & wait"] }]
`;

test('await using: a cluster for the length of a block', async () => {
  const name = clusterName('block');
  const steps: string[] = [];
  {
    await using cluster = await Cluster.start({ name, nodes: 2, progress: (step) => steps.push(step) });
    assert.deepEqual(cluster.nodes, ['node-1', 'node-2']);
    assert.ok(steps.includes('starting 2 nodes'), steps.join(', '));
    assert.ok(Cluster.exists(name));
    const applied = await cluster.apply(MANIFEST);
    assert.deepEqual(
      applied.map((one) => `${one.kind} ${one.metadata.name}`),
      ['Pod server', 'Service server', 'Pod client'],
    );
    const [server, client] = await Promise.all([cluster.waitForPod('server'), cluster.waitForPod('default/client')]);
    assert.notEqual(server.spec.nodeName, client.spec.nodeName, 'spread over the nodes');

    const said = await cluster.exec('client', ['sh', '-c', 'cat; echo oh >&2; exit 3'], { stdin: 'hello' });
    assert.deepEqual(said, { exitCode: 3, stdout: 'hello', stderr: 'oh\n' });
    assert.match((await cluster.exec('client', 'curl -s http://server')).stdout, /Welcome to nginx/);
    assert.match(await cluster.logs('server'), /GET \/ HTTP/);
    assert.equal(await cluster.logs('client', { container: 'main' }), 'started\n');

    const outcomes = await Promise.all([
      cluster.connect('client', 'server:80'),
      cluster.connect('client', 'service/server:80'),
      cluster.connect({ node: 'node-1' }, 'server:80'),
      cluster.connect('client', 'server:81'),
    ]);
    assert.deepEqual(
      outcomes.map(({ outcome }) => outcome),
      ['connected', 'connected', 'connected', 'refused'],
    );
    assert.equal('source' in outcomes[0] ? outcomes[0].source : '', client.status?.podIP);

    const across = async () => (await cluster.connect('client', 'server:80', { timeoutMs: 300 })).outcome;
    {
      using _cut = await cluster.unplug(server.spec.nodeName!);
      assert.equal(await across(), 'timeout');
    }
    await eventually('the cable is back', across, (outcome) => outcome === 'connected');
    await assert.rejects(cluster.unplug('node-9'), StatusError);

    // The same, opened by somebody who did not start it.
    const again = Cluster.open(name);
    assert.equal((await again.client.list('Node')).items.length, 2);
    again.client.close();
  }
  assert.equal(Cluster.exists(name), false);
  assertNothingLeft(name);
});

describe('errors say what is wrong', () => {
  let cluster: Cluster;
  const name = clusterName('errors');
  test('start', async () => {
    await assert.rejects(Cluster.start({ name, nodes: 0 }), (error: UserError) => /1 to 250 nodes/.test(error.message));
    await assert.rejects(Cluster.start({ name: 'Bad Name' }), UserError);
    assert.throws(() => Cluster.open('nobody'), UserError);
    cluster = await Cluster.start({ name, nodes: 1 });
    await assert.rejects(
      Cluster.start({ name }),
      (error: UserError) => /already/.test(error.message) && error.exitCode === 3,
    );
  });
  test('apply', async () => {
    await assert.rejects(cluster.apply('a: b: c'), UserError);
    await assert.rejects(cluster.apply('apiVersion: v1\nkind: Podd\nmetadata: { name: x }'), (error: StatusError) =>
      /no matches for kind "Podd"/.test(error.message),
    );
    await assert.rejects(
      cluster.apply('apiVersion: v1\nkind: Pod\nmetadata: { name: x }\nspec: {}'),
      (error: StatusError) => error instanceof StatusError && /spec\.containers: Required value/.test(error.message),
    );
  });
  test('pods', async () => {
    await assert.rejects(
      cluster.exec('nobody', 'true'),
      (error: StatusError) => error instanceof StatusError && /"nobody" not found/.test(error.message),
    );
    await assert.rejects(cluster.logs('nobody'), StatusError);
    await assert.rejects(
      cluster.waitForPod('nobody', { timeoutMs: 100 }),
      /nobody is not as expected after 100 ms: "it does not exist"/,
    );
    await assert.rejects(cluster.connect('nobody', '10.96.0.1:443'), StatusError);
    await assert.rejects(cluster.connect('outside', 'no port'), UserError);
  });
  test('stop, twice', async () => {
    await cluster.stop();
    assertNothingLeft(name);
    await cluster.stop();
    assertNothingLeft(name);
  });
});

test('two clusters side by side have the same addresses and do not meet', async () => {
  const names = [clusterName('left'), clusterName('right')] as const;
  const [left, right] = (await Promise.all(names.map((name) => Cluster.start({ name, nodes: 1 })))) as [
    Cluster,
    Cluster,
  ];
  try {
    for (const cluster of [left, right]) {
      await cluster.apply(
        MANIFEST.replace(
          'image: nginx, r',
          `image: nginx, command: [sh, -c, "echo ${cluster.name} > /usr/share/nginx/html/index.html; exec nginx -g 'daemon off;'"], r`,
        ),
      );
    }
    const pods = await Promise.all([left, right].map((cluster) => cluster.waitForPod('server')));
    assert.ok(
      pods.every((pod) => pod.status?.podIP?.startsWith('10.244.0.')),
      'the same range in both',
    );
    for (const cluster of [left, right]) {
      await cluster.waitForPod('client');
      const answer = await eventually(
        'it answers',
        () => cluster.exec('client', 'curl -s http://server'),
        ({ exitCode }) => exitCode === 0,
      );
      assert.equal(answer.stdout, `${cluster.name}\n`);
    }
    await left.stop();
    assertNothingLeft(left.name);
    assert.equal((await right.exec('client', 'curl -s http://server')).stdout, `${right.name}\n`, 'the other lives on');
    assert.equal((await right.connect('client', 'service/server:80')).outcome, 'connected');
  } finally {
    await left.stop();
    await right.stop();
  }
  assertNothingLeft(right.name);
});
