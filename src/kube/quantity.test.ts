import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { quantityMilli, quantityValue } from './quantity.ts';

test('quantities in units and thousandths', () => {
  const cases: [string, number, number][] = [
    ['0', 0, 0],
    ['100m', 1, 100],
    ['1', 1, 1000],
    ['1.5', 2, 1500],
    ['.5', 1, 500],
    ['2e3', 2000, 2_000_000],
    ['2E3', 2000, 2_000_000],
    ['1E', 1e18, 1e21],
    ['1k', 1000, 1_000_000],
    ['1Ki', 1024, 1_024_000],
    ['1.5Gi', 1_610_612_736, 1_610_612_736_000],
    ['100u', 1, 1],
    ['1n', 1, 1],
    ['-1500m', -1, -1500],
    ['+3', 3, 3000],
  ];
  for (const [text, value, milli] of cases) {
    assert.equal(quantityValue(text), value, text);
    assert.equal(quantityMilli(text), milli, text);
  }
});

test('what is no quantity is refused', () => {
  for (const text of ['', 'm', '1mm', '1 Gi', '1ki', '0x10', 'NaN', '1e', '--1', '1e9999']) {
    assert.throws(() => quantityValue(text), TypeError, text);
  }
});

test('whole numbers of millicores survive', () => {
  fc.assert(fc.property(fc.nat(), (milli) => quantityMilli(`${milli}m`) === milli));
});
