import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Deployment, ReplicaSet } from '../../kube/types.ts';
import { proportionalScaling, rollingStep, rolloutLimits, sizeOf } from './rollout.ts';
import { sameTemplate, templateHash, withTemplateHash } from './template.ts';

const template = { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'main', image: 'nginx' }] } };

function deployment(
  replicas: number,
  rollingUpdate: { maxSurge?: number | string; maxUnavailable?: number | string } = {},
) {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: 'default', uid: 'd', resourceVersion: '1', creationTimestamp: '' },
    spec: {
      replicas,
      selector: { matchLabels: { app: 'web' } },
      template,
      strategy: { type: 'RollingUpdate', rollingUpdate },
    },
  } as Deployment;
}

function set(name: string, replicas: number, available: number): ReplicaSet {
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name,
      namespace: 'default',
      uid: name,
      resourceVersion: '1',
      creationTimestamp: `2026-01-01T00:00:0${name}Z`,
    },
    spec: { replicas, selector: {}, template },
    status: { replicas, availableReplicas: available },
  };
}

const view = (scaling: ReadonlyMap<ReplicaSet, number>) =>
  Object.fromEntries([...scaling].map(([one, size]) => [one.metadata.name, size]));

test('limits: numbers, percents, defaults, and never a standstill', () => {
  const cases = [
    [deployment(10), 3, 2],
    [deployment(10, { maxSurge: '30%', maxUnavailable: '15%' }), 3, 1],
    [deployment(10, { maxSurge: 0, maxUnavailable: 0 }), 0, 1],
    [deployment(1), 1, 0],
    [deployment(0, { maxSurge: 1, maxUnavailable: 1 }), 1, 0],
    [deployment(3, { maxSurge: 0, maxUnavailable: 5 }), 0, 3],
  ] as const;
  for (const [one, maxSurge, maxUnavailable] of cases) {
    const limits = rolloutLimits(one);
    assert.deepEqual([limits.maxSurge, limits.maxUnavailable], [maxSurge, maxUnavailable]);
  }
});

test('rolling steps', () => {
  const ten = deployment(10, { maxSurge: 3, maxUnavailable: 2 });
  const cases = [
    ['the new set grows into the surge', set('2', 0, 0), [set('1', 10, 10)], { '2': 3 }],
    ['then the old one shrinks as far as allowed', set('2', 3, 0), [set('1', 10, 10)], { '1': 8 }],
    ['nothing while too few are available', set('2', 5, 0), [set('1', 8, 8)], {}],
    ['what became available lets others go', set('2', 5, 5), [set('1', 8, 8)], { '1': 3 }],
    ['sick old pods go first', set('2', 3, 0), [set('1', 8, 8), set('0', 2, 0)], { '0': 0 }],
    ['the last step', set('2', 10, 10), [set('1', 3, 3)], { '1': 0 }],
    ['done', set('2', 10, 10), [set('1', 0, 0)], {}],
    ['too large a new set shrinks', set('2', 12, 12), [], { '2': 10 }],
  ] as const;
  for (const [name, newSet, oldSets, expected] of cases) {
    assert.deepEqual(view(rollingStep(ten, newSet, oldSets)), expected, name);
  }
});

test('a rollout keeps its bounds at every step, ends, and does so with statuses that lag', () => {
  const size = fc.integer({ min: 0, max: 12 });
  fc.assert(
    fc.property(
      size,
      fc.nat(5),
      fc.nat(5),
      fc.array(fc.nat(5), { minLength: 400, maxLength: 400 }),
      (n, surge, missing, luck) => {
        const target = deployment(n, { maxSurge: surge, maxUnavailable: missing });
        const limits = rolloutLimits(target);
        // Of each set: what is asked for, what really serves, and what its status says.
        const state = [
          { name: '1', size: n, serving: n, told: n },
          { name: '2', size: 0, serving: 0, told: 0 },
        ];
        const [old, fresh] = state as [(typeof state)[0], (typeof state)[0]];
        for (const chance of luck) {
          if (chance === 0 && fresh.serving < fresh.size) fresh.serving++;
          if (chance === 1) fresh.told = fresh.serving;
          if (chance === 2) old.told = old.serving;
          if (chance < 3) continue;
          const sets = state.map((one) => set(one.name, one.size, one.told));
          const scaling = rollingStep(target, sets[1]!, [sets[0]!]);
          for (const [one, next] of scaling) {
            const mine = one.metadata.name === '1' ? old : fresh;
            mine.size = next;
            mine.serving = Math.min(mine.serving, next);
          }
          assert.ok(old.size + fresh.size <= n + Math.max(limits.maxSurge, 0), 'not too many');
          assert.ok(old.serving + fresh.serving >= n - limits.maxUnavailable, 'not too few');
        }
        for (let round = 0; round < 100 && (old.size > 0 || fresh.size < n); round++) {
          fresh.serving = fresh.size;
          const sets = state.map((one) => set(one.name, one.size, one.serving));
          for (const [one, next] of rollingStep(target, sets[1]!, [sets[0]!])) {
            const mine = one.metadata.name === '1' ? old : fresh;
            mine.size = next;
            mine.serving = Math.min(mine.serving, next);
          }
        }
        assert.deepEqual([old.size, fresh.size], [0, n]);
      },
    ),
    { numRuns: 100 },
  );
});

test('a change of size in the middle of a rollout is shared out', () => {
  const bigger = deployment(20, { maxSurge: 2, maxUnavailable: 0 });
  const scaling = proportionalScaling(bigger, set('2', 4, 4), [set('1', 8, 8)], () => 12);
  assert.deepEqual(view(scaling), { '1': 15, '2': 7 });
  const zero = deployment(0);
  assert.deepEqual(view(proportionalScaling(zero, set('2', 4, 4), [set('1', 8, 8)], () => 12)), { '1': 0, '2': 0 });
  const only = deployment(5);
  assert.deepEqual(view(proportionalScaling(only, set('2', 3, 3), [set('1', 0, 0)], () => 4)), { '2': 5 });
});

test('shares add up to what is allowed', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 5 });
  fc.assert(
    fc.property(sizes, fc.nat(60), fc.nat(4), (before, replicas, maxSurge) => {
      const target = deployment(replicas, { maxSurge, maxUnavailable: 1 });
      const sets = before.map((count, i) => set(String(i), count, 0));
      const previous = before.reduce((total, one) => total + one, 0);
      const scaling = proportionalScaling(target, sets[0], sets.slice(1), () => previous);
      const total = sets.reduce((sum, one) => sum + (scaling.get(one) ?? sizeOf(one)), 0);
      assert.equal(total, replicas > 0 ? replicas + maxSurge : 0);
      assert.ok([...scaling.values()].every((count) => count >= 0));
    }),
  );
});

test('template hashes: stable, blind for their own label, others on collision', () => {
  const hash = templateHash(template);
  assert.match(hash, /^[bcdfghjklmnpqrstvwxz2456789]{1,10}$/);
  assert.equal(templateHash(withTemplateHash(template, hash)), hash);
  assert.ok(sameTemplate(withTemplateHash(template, 'x'), template));
  assert.ok(
    sameTemplate(
      { spec: template.spec, metadata: { ...template.metadata, creationTimestamp: null as never } },
      template,
    ),
  );
  assert.notEqual(templateHash(template, 1), hash);
  assert.notEqual(templateHash({ ...template, spec: { containers: [{ name: 'main', image: 'other' }] } }), hash);
});
