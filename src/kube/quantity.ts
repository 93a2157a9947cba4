/**
 * Resource quantities ("100m", "1.5Gi", "2e3"), as k8s.io/apimachinery/pkg/api/resource writes them. Arithmetic is exact:
 * a value is a number of nano-units, the finest that Kubernetes knows; finer fractions are rounded up.
 */

const NANO = 1_000_000_000n;

/** The factor of a suffix, as numerator and denominator. */
const suffixes: Readonly<Record<string, readonly [bigint, bigint]>> = {
  '': [1n, 1n],
  n: [1n, NANO],
  u: [1n, 1_000_000n],
  m: [1n, 1000n],
  k: [10n ** 3n, 1n],
  M: [10n ** 6n, 1n],
  G: [10n ** 9n, 1n],
  T: [10n ** 12n, 1n],
  P: [10n ** 15n, 1n],
  E: [10n ** 18n, 1n],
  Ki: [1n << 10n, 1n],
  Mi: [1n << 20n, 1n],
  Gi: [1n << 30n, 1n],
  Ti: [1n << 40n, 1n],
  Pi: [1n << 50n, 1n],
  Ei: [1n << 60n, 1n],
};

const FORM = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3})|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?$/;

/** A quantity as nano-units. Throws TypeError on anything that is no quantity. */
export function parseQuantity(text: string | number): bigint {
  const match = FORM.exec(String(text));
  const [, sign, whole = '', fraction = '', exponent, suffix = ''] = match ?? [];
  if (!match || (whole === '' && fraction === ''))
    throw new TypeError(
      `quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$': ${JSON.stringify(text)}`,
    );
  let [numerator, denominator] = suffixes[suffix]!;
  const power = BigInt(exponent ?? 0);
  if (power >= 0n) numerator *= 10n ** power;
  else denominator *= 10n ** -power;
  denominator *= 10n ** BigInt(fraction.length);
  const nanos = divideUp(BigInt(whole + fraction) * numerator * NANO, denominator);
  return sign === '-' ? -nanos : nanos;
}

export function isQuantity(text: string): boolean {
  return FORM.test(text) && /\d/.test(text);
}

/** Whole units, rounded up: bytes of memory, numbers of pods. */
export function wholeUnits(quantity: string | number): number {
  return Number(divideUp(parseQuantity(quantity), NANO));
}

/** Thousandths, rounded up: milli-CPUs. */
export function milliUnits(quantity: string | number): number {
  return Number(divideUp(parseQuantity(quantity), NANO / 1000n));
}

/** The quantity divided by another, rounded up to a whole number, as resourceFieldRef's divisor asks for. */
export function quantityRatio(quantity: string | number, divisor: string | number): number {
  const by = parseQuantity(divisor);
  if (by <= 0n) throw new TypeError(`a divisor must be positive: ${JSON.stringify(divisor)}`);
  return Number(divideUp(parseQuantity(quantity), by));
}

function divideUp(value: bigint, by: bigint): bigint {
  const quotient = value / by;
  return value > 0n && quotient * by !== value ? quotient + 1n : quotient;
}
