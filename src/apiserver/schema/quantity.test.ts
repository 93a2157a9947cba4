import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { canonicalQuantity, compareQuantities, parseQuantity, QuantityError } from './quantity.ts';

describe('quantities', () => {
  const canonical: readonly [string, string][] = [
    ['1000m', '1'],
    ['0.5', '500m'],
    ['1.5', '1500m'],
    ['1024Mi', '1Gi'],
    ['1Gi', '1Gi'],
    ['1.5Gi', '1536Mi'],
    ['1000', '1k'],
    ['0', '0'],
    ['-0.1', '-100m'],
    ['2e3', '2e3'],
    ['1E', '1E'],
    ['100n', '100n'],
    ['.5', '500m'],
    ['5.', '5'],
    ['0.1n', '1n'],
    ['1Ki', '1Ki'],
  ];
  for (const [text, expected] of canonical)
    it(`${text} is ${expected}`, () => assert.equal(canonicalQuantity(text), expected));

  for (const text of ['', 'x', '1X', '1 Gi', '1.2.3', '--1', '.', '1e', 'Gi', '1e999'])
    it(`refuses ${JSON.stringify(text)}`, () => assert.throws(() => parseQuantity(text), QuantityError));

  it('canonical text keeps the value and is stable', () => {
    const suffix = fc.constantFrom('', 'm', 'k', 'M', 'G', 'Ki', 'Mi', 'Gi', 'u', 'n', 'e3');
    fc.assert(
      fc.property(fc.integer({ min: -100_000, max: 100_000 }), suffix, (number, unit) => {
        const text = `${number}${unit}`;
        const once = canonicalQuantity(text);
        assert.equal(compareQuantities(text, once), 0);
        assert.equal(canonicalQuantity(once), once);
      }),
    );
  });
});
