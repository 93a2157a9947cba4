import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { IpAddress } from '../../base/ip.ts';
import { Claims } from './claims.ts';
import type { ServiceModel } from './model.ts';

/** A model that asks for ports of one address. */
function model(key: string, created: string, ports: readonly number[]): ServiceModel {
  const frontends = ports.map((port) => ({
    family: 4 as const,
    address: '203.0.113.1' as IpAddress,
    protocol: 'tcp' as const,
    port,
    role: 'externalIP' as const,
    inside: { kind: 'reject' as const },
    masquerade: false,
  }));
  return { key, created, problems: [], frontends };
}

const id = (port: number): string => `203.0.113.1 . tcp . ${port}`;

function claimed(...models: readonly ServiceModel[]): Claims {
  const claims = new Claims();
  for (const each of models) claims.set(each.key, each);
  return claims;
}

describe('claims to one frontend', () => {
  const older = model('a/z', '2026-01-01T00:00:00Z', [80]);
  const younger = model('a/a', '2026-01-02T00:00:00Z', [80, 81]);
  const twin = model('a/b', '2026-01-02T00:00:00Z', [80]);
  const pod = model('pod:a/a', '2025-01-01T00:00:00Z', [80]);

  it('are won by the older Service, of equal ones by the first name, and by any Service before a pod', () => {
    for (const order of [
      [older, younger, twin, pod],
      [pod, twin, younger, older],
    ]) {
      const claims = claimed(...order);
      const owners = [older, younger, twin, pod].map(({ key }) => {
        const owner = claims.ownerOf(id(80));
        claims.set(key, undefined);
        return owner;
      });
      assert.deepEqual(owners, ['a/z', 'a/a', 'a/b', 'pod:a/a']);
      assert.equal(claims.winner(id(80)), undefined);
    }
  });

  it('are told for as long as there are several', () => {
    const claims = claimed(younger, older);
    assert.deepEqual(claims.conflictsOf('a/a'), [{ frontend: id(80), owner: 'a/z' }]);
    assert.deepEqual(claims.conflictsOf('a/z'), []);
    claims.set('a/b', twin);
    claims.set('a/z', undefined);
    assert.deepEqual(claims.conflictsOf('a/b'), [{ frontend: id(80), owner: 'a/a' }]);
    claims.set('a/a', model('a/a', younger.created, [81]));
    assert.deepEqual([claims.conflictsOf('a/a'), claims.conflictsOf('a/b')], [[], []]);
    claims.set('a/z', older);
    assert.deepEqual(claims.conflictProblems('a/b'), [
      {
        kind: 'Service',
        namespace: 'a',
        name: 'b',
        reason: 'FrontendConflict',
        message: '203.0.113.1 tcp 80 already belongs to a/z',
      },
    ]);
  });

  it('touch the frontends of before and after', () => {
    const claims = claimed(younger);
    const dirty = new Set<string>();
    claims.set('a/a', model('a/a', younger.created, [81, 82]), dirty);
    assert.deepEqual([...dirty].sort(), [id(80), id(81), id(82)]);
    assert.deepEqual([...claims.frontendKeys()].sort(), [id(81), id(82)]);
  });
});
