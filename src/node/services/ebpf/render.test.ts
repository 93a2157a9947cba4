import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIp } from '../../../base/ip.ts';
import type { Frontend } from '../model.ts';
import { hasMembers, renderFrontend } from './render.ts';

const base: Frontend = {
  family: 4,
  address: parseIp('10.96.0.10'),
  protocol: 'tcp',
  port: 80,
  role: 'clusterIP',
  inside: { kind: 'endpoints', endpoints: [{ address: parseIp('10.244.0.2'), port: 8080, local: true }] },
  masquerade: false,
};

test('ports of nodes and hosts, and load balancers with source ranges, are left to packets', () => {
  assert.equal(renderFrontend({ ...base, role: 'nodePort' }), undefined);
  assert.equal(renderFrontend({ ...base, role: 'hostPort' }), undefined);
  assert.equal(renderFrontend({ ...base, role: 'loadBalancer', sourceRanges: ['192.0.2.1'] }), undefined);
  for (const role of ['clusterIP', 'externalIP', 'loadBalancer'] as const)
    assert.deepEqual(renderFrontend({ ...base, role })?.endpoints, ['10.244.0.2 . 8080']);
});

test('TCP is refused at connect; what UDP sends is refused, and what is dropped is dropped, on its way', () => {
  const kind = (protocol: 'tcp' | 'udp', inside: 'reject' | 'drop') =>
    renderFrontend({ ...base, protocol, inside: { kind: inside } })?.kind;
  assert.deepEqual(
    [kind('tcp', 'reject'), kind('tcp', 'drop'), kind('udp', 'reject'), kind('udp', 'drop')],
    ['reject', 'pass', 'pass', 'pass'],
  );
});

test('only UDP and affinity need to know whether an endpoint is still one', () => {
  assert.equal(hasMembers(renderFrontend(base)!), false);
  assert.equal(hasMembers(renderFrontend({ ...base, protocol: 'udp' })!), true);
  assert.equal(hasMembers(renderFrontend({ ...base, affinitySeconds: 10 })!), true);
});
