import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isQuantity, milliUnits, parseQuantity, quantityRatio, wholeUnits } from './quantity.ts';

test('quantities: whole units', () => {
  const table: readonly (readonly [string | number, number])[] = [
    ['0', 0],
    ['1', 1],
    [2, 2],
    ['1Ki', 1024],
    ['1k', 1000],
    ['1.5Gi', 1610612736],
    ['2e3', 2000],
    ['2E3', 2000],
    ['1E', 1e18],
    ['100m', 1],
    ['1e-3', 1],
    ['.5', 1],
    ['5.', 5],
    ['+3', 3],
    ['-3', -3],
  ];
  for (const [text, expected] of table) assert.equal(wholeUnits(text), expected, String(text));
});

test('quantities: milli units and ratios', () => {
  assert.equal(milliUnits('250m'), 250);
  assert.equal(milliUnits('0.1'), 100);
  assert.equal(milliUnits('1u'), 1);
  assert.equal(quantityRatio('64Mi', '1Mi'), 64);
  assert.equal(quantityRatio('250m', '1'), 1);
  assert.equal(quantityRatio('250m', '1m'), 250);
  assert.throws(() => quantityRatio('1', '0'), /divisor/);
});

test('quantities: what is none', () => {
  for (const text of ['', '.', 'm', '1x', '1 Gi', '1Gi ', 'Ki', '1e', '--1', '1KI', '0x10']) {
    assert.equal(isQuantity(text), false, text);
    assert.throws(() => parseQuantity(text), TypeError, text);
  }
});

test('quantities: any number of milli-units reads back', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1e9 }), (milli) => {
      assert.equal(milliUnits(`${milli}m`), milli);
      assert.equal(milliUnits((milli / 1000).toFixed(3)), milli);
    }),
  );
});
