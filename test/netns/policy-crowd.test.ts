/** No pod of a crowd is reachable before its policy is in force. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startCrowd } from './policy-crowd.ts';
import { skip } from './policy-lab.ts';

test('two hundred pods at once under a default deny are never reached early', { skip }, async (t) => {
  const { early, reachedAfter, addMs, prober } = await startCrowd({ pods: 200 });
  const every = (prober.elapsed / prober.sweeps).toFixed(1);
  t.diagnostic(`${prober.datagrams} datagrams, every address each ${every} ms; ${prober.tcpTries} connections tried`);
  t.diagnostic(`ADD of all: ${addMs.toFixed(0)} ms`);
  assert.equal(early, 0, 'packets reached pods under a default deny');
  assert.equal(reachedAfter, 200, 'all are reached when the policy is gone: the knocking would have been heard');
  assert.ok(prober.sweeps > 5);
});

test('the knocking is heard where nothing holds pods back', { skip }, async () => {
  const { early } = await startCrowd({ pods: 10, hook: 'none' });
  assert.ok(early > 0);
});
