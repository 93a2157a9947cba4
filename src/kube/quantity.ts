/**
 * Resource quantities such as "100m", "1.5Gi", "2e3". Grammar and rounding as k8s.io/apimachinery/pkg/api/resource: a
 * quantity that is finer than the unit asked for is rounded up.
 */

const suffixes: Readonly<Record<string, readonly [base: bigint, exponent: number]>> = {
  n: [10n, -9],
  u: [10n, -6],
  m: [10n, -3],
  '': [10n, 0],
  k: [10n, 3],
  M: [10n, 6],
  G: [10n, 9],
  T: [10n, 12],
  P: [10n, 15],
  E: [10n, 18],
  Ki: [2n, 10],
  Mi: [2n, 20],
  Gi: [2n, 30],
  Ti: [2n, 40],
  Pi: [2n, 50],
  Ei: [2n, 60],
};

interface Fraction {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/** In whole units (bytes, pods), rounded up. Throws TypeError on what is no quantity. */
export function quantityValue(quantity: string | number): number {
  return Number(ceiling(parseFraction(String(quantity))));
}

/** In thousandths (millicores), rounded up. Throws TypeError on what is no quantity. */
export function quantityMilli(quantity: string | number): number {
  const { numerator, denominator } = parseFraction(String(quantity));
  return Number(ceiling({ numerator: numerator * 1000n, denominator }));
}

/**
 * The quantity divided by another, rounded up to a whole number, as resourceFieldRef's divisor asks for. Throws TypeError
 * on what is no quantity, and on a divisor that is not positive.
 */
export function quantityRatio(quantity: string | number, divisor: string | number): number {
  const a = parseFraction(String(quantity));
  const b = parseFraction(String(divisor));
  if (b.numerator <= 0n) throw new TypeError(`a divisor must be positive: ${JSON.stringify(divisor)}`);
  return Number(ceiling({ numerator: a.numerator * b.denominator, denominator: a.denominator * b.numerator }));
}

function parseFraction(text: string): Fraction {
  const match = /^([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)$/.exec(text);
  if (!match) throw new TypeError(`not a quantity: ${JSON.stringify(text)}`);
  const [, sign, digits, decimal, suffix] = match;
  const [whole, part = ''] = digits!.split('.');
  const mantissa = BigInt(`${whole}${part}`) * (sign === '-' ? -1n : 1n);
  const [base, exponent] = decimal === undefined ? suffixes[suffix ?? '']! : [10n, Number(decimal)];
  const scale = base ** BigInt(Math.abs(exponent));
  const denominator = 10n ** BigInt(part.length);
  return exponent < 0
    ? { numerator: mantissa, denominator: denominator * scale }
    : { numerator: mantissa * scale, denominator };
}

function ceiling({ numerator, denominator }: Fraction): bigint {
  const quotient = numerator / denominator;
  return numerator > 0n && numerator % denominator !== 0n ? quotient + 1n : quotient;
}
