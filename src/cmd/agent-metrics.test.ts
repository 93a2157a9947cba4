import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deniedFamilies } from './agent-metrics.ts';

test('denied packets are there by direction, and by direction and policy', () => {
  const text = deniedFamilies({
    deniedPackets: () => ({ ingress: 7, egress: 0 }),
    deniedByPolicy: () => [
      { direction: 'ingress', policy: 'shop/web', packets: 7 },
      { direction: 'egress', policy: 'guard', packets: 0 },
    ],
  }).join('');
  assert.match(text, /^podwire_policy_denied_packets_total\{direction="ingress"\} 7$/m);
  assert.match(text, /^podwire_policy_denied_packets_by_policy_total\{direction="ingress",policy="shop\/web"\} 7$/m);
  assert.match(text, /^podwire_policy_denied_packets_by_policy_total\{direction="egress",policy="guard"\} 0$/m);
});

test('while nft is at work there are none, rather than wrong ones', () => {
  assert.deepEqual(deniedFamilies({ deniedPackets: () => undefined, deniedByPolicy: () => undefined }), []);
});
