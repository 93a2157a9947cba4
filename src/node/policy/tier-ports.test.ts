import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyPorts, type PortRange, type PortSet, portSet } from './ports.ts';
import { type OrderedPorts, resolveOrder, type TierDecision } from './tier-ports.ts';

const edge = fc.constantFrom(0, 1, 2, 3, 79, 80, 81, 65534, 65535);
const range = fc
  .record({ protocol: fc.constantFrom('tcp' as const, 'udp' as const), a: edge, b: edge })
  .map(({ protocol, a, b }): PortRange => ({ protocol, from: Math.min(a, b), to: Math.max(a, b) }));
const ports: fc.Arbitrary<PortSet> = fc.oneof(
  { weight: 1, arbitrary: fc.constant(anyPorts) },
  { weight: 4, arbitrary: fc.array(range, { maxLength: 3 }).map(portSet) },
);
const rules: fc.Arbitrary<OrderedPorts[]> = fc.array(
  fc.record({ ports, verdict: fc.constantFrom<TierDecision[]>('accept', 'deny 20', 'deny 21', 'pass') }),
  { maxLength: 6 },
);

/** The first rule that matches, asked one by one. */
function slowly(all: readonly OrderedPorts[], protocol: string, port: number): TierDecision {
  const first = all.find(
    (each) =>
      each.ports.any ||
      each.ports.ranges.some((one) => one.protocol === protocol && one.from <= port && port <= one.to),
  );
  return first?.verdict ?? 'pass';
}

test('one verdict for each port is the first matching rule’s', () => {
  fc.assert(
    fc.property(rules, fc.constantFrom('tcp', 'udp', 'sctp', 'icmp'), edge, (all, protocol, port) => {
      const { rest, exceptions } = resolveOrder(all);
      const found = exceptions.filter((one) => one.protocol === protocol && one.from <= port && port <= one.to);
      assert.ok(found.length <= 1, 'exceptions are disjoint');
      assert.equal(found[0]?.verdict ?? rest, slowly(all, protocol, port));
    }),
    { numRuns: 3000 },
  );
});

test('equal verdicts have equal keys, however they came about', () => {
  const tcp = (from: number, to: number) => portSet([{ protocol: 'tcp', from, to }]);
  const one = resolveOrder([{ ports: tcp(1, 100), verdict: 'deny 20' }]);
  const two = resolveOrder([
    { ports: tcp(1, 50), verdict: 'deny 20' },
    { ports: tcp(40, 100), verdict: 'deny 20' },
    { ports: tcp(60, 70), verdict: 'accept' },
    { ports: anyPorts, verdict: 'pass' },
  ]);
  assert.equal(one.key, two.key);
  assert.equal(resolveOrder([{ ports: anyPorts, verdict: 'pass' }]).key, '');
});
