import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { endpointIds, placeSlots } from './placement.ts';

const anyEndpoints = fc.uniqueArray(
  fc.nat(12).map((n) => `10.0.0.${n} . 80`),
  { maxLength: 12 },
);

describe('slots of endpoints', () => {
  it('hold each wanted endpoint once', () => {
    fc.assert(
      fc.property(anyEndpoints, anyEndpoints, (before, wanted) => {
        assert.deepEqual([...placeSlots(before, wanted)].sort(), [...wanted].sort());
      }),
    );
  });

  it('change no more than they must', () => {
    fc.assert(
      fc.property(anyEndpoints, anyEndpoints, (before, wanted) => {
        const after = placeSlots(before, wanted);
        after.forEach((text, slot) => {
          const old = before.indexOf(text);
          const mayStay = old >= 0 && old < wanted.length;
          if (mayStay) assert.equal(slot, old, 'an endpoint whose slot still exists keeps it');
        });
      }),
    );
  });

  it('fill the hole of a removed endpoint with the last one', () => {
    assert.deepEqual(placeSlots(['a', 'b', 'c'], ['b', 'c']), ['c', 'b']);
    assert.deepEqual(placeSlots(['a', 'b'], ['a', 'b', 'c']), ['a', 'b', 'c']);
    const same = ['a', 'b'];
    assert.equal(placeSlots(same, ['a', 'b']), same);
  });
});

describe('ids of endpoints', () => {
  it('are unique, do not depend on order, and tell frontends and pools apart', () => {
    fc.assert(
      fc.property(anyEndpoints, (endpoints) => {
        const ids = endpointIds('fe', endpoints, 'cluster');
        assert.equal(new Set(ids.values()).size, endpoints.length);
        assert.deepEqual(endpointIds('fe', endpoints.toReversed(), 'cluster'), ids);
        for (const [text, id] of endpointIds('fe', endpoints, 'local')) assert.equal(id, ids.get(text)! + 0x80000000);
      }),
    );
    assert.notEqual(endpointIds('a', ['x'], 'cluster').get('x'), endpointIds('b', ['x'], 'cluster').get('x'));
  });
});
