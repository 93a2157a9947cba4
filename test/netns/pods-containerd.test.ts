/** The pod workers against a real containerd. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FakeClient } from '../../src/kube/fake-client.ts';
import {
  busybox,
  createPod,
  eventually,
  insideOwnNamespaces,
  isReady,
  logOf,
  phaseIs,
  TestAgent,
  TestRuntime,
  untilGone,
} from './pods-node.ts';

const outcome = await insideOwnNamespaces(fileURLToPath(import.meta.url));

if (outcome !== true) {
  test('pods on a real containerd, in namespaces of their own', () => {
    assert.equal(outcome.exitCode, 0, outcome.output);
  });
} else {
  const runtime = new TestRuntime();
  const client = new FakeClient();
  let agent: TestAgent;
  before(async () => {
    await runtime.setUp();
    agent = await TestAgent.start({ client, runtime });
  });
  after(() => agent.stop());

  describe('pods', () => {
    test('a pod runs, is ready, has an address, and goes without a trace', async () => {
      await createPod(client, 'web');
      const pod = await eventually(client, 'web', isReady);
      assert.equal(pod.status?.phase, 'Running');
      assert.match(pod.status?.podIP ?? '', /^10\.244\.7\./);
      await client.delete('Pod', { namespace: 'default', name: 'web' });
      await untilGone(client, 'web');
    });
  });
  void busybox, logOf, phaseIs;
}
