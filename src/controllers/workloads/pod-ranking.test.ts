import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '../../kube/types.ts';
import { pod, running } from '../fixtures.ts';
import { rankForDeletion } from './pod-ranking.ts';

const now = Date.parse('2026-01-02T00:00:00Z');
const placed = { spec: { nodeName: 'n1' } };

function up(
  name: string,
  options: { since?: string; cost?: string; restarts?: number; node?: string; made?: string } = {},
): Pod {
  const status = {
    ...running(['10.0.0.1'], true, options.since ?? '2026-01-01T00:00:00Z'),
    containerStatuses: [{ name: 'main', restartCount: options.restarts ?? 0, ready: true, image: '', imageID: '' }],
  };
  const annotations: Record<string, string> = options.cost
    ? { 'controller.kubernetes.io/pod-deletion-cost': options.cost }
    : {};
  const creationTimestamp = options.made ?? '2026-01-01T00:00:00Z';
  return pod(name, { spec: { nodeName: options.node ?? 'n1' }, status, metadata: { annotations, creationTimestamp } });
}

test('which pod goes first', () => {
  const cases: [string, Pod, Pod][] = [
    ['unassigned', pod('a', { status: { phase: 'Pending' } }), pod('b', { ...placed, status: { phase: 'Pending' } })],
    [
      'pending',
      pod('a', { ...placed, status: { phase: 'Pending' } }),
      pod('b', { ...placed, status: running(['x'], false) }),
    ],
    ['not ready', pod('a', { ...placed, status: running(['x'], false) }), up('b')],
    ['cheap', up('a', { cost: '-5' }), up('b')],
    ['crowded', up('a', { node: 'full' }), up('b')],
    ['ready for a short time', up('a', { since: '2026-01-01T23:59:00Z' }), up('b')],
    ['often restarted', up('a', { restarts: 3 }), up('b')],
    ['young', up('a', { made: '2026-01-01T23:59:00Z' }), up('b')],
    ['by name', up('a'), up('b')],
  ];
  for (const [name, first, second] of cases) {
    const crowd = (one: Pod) => (one.spec.nodeName === 'full' ? 2 : 1);
    for (const order of [
      [first, second],
      [second, first],
    ]) {
      assert.equal(rankForDeletion(order, crowd, now)[0]!.metadata.name, 'a', name);
    }
  }
});
