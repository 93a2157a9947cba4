/**
 * Kubernetes' resource quantities ("500m", "1Gi", "2e3"): parsed exactly, written canonically.
 * Source: k8s.io/apimachinery/pkg/api/resource. Values smaller than a nano round up, as there.
 */

const QUANTITY = /^([+-]?)(\d*)(?:\.(\d*))?(?:(Ki|Mi|Gi|Ti|Pi|Ei)|([numkMGTPE]?)|[eE]([+-]?\d+))$/;
const BINARY = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'] as const;
const DECIMAL: Readonly<Record<string, number>> = { n: -9, u: -6, m: -3, '': 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const NANO = 1_000_000_000n;

export type QuantityFormat = 'binary' | 'decimal' | 'exponent';

export interface Quantity {
  /** The value in billionths. */
  readonly nanos: bigint;
  readonly format: QuantityFormat;
}

export class QuantityError extends Error {
  override readonly name = 'QuantityError';
  constructor() {
    super("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
  }
}

export function parseQuantity(text: string): Quantity {
  const match = QUANTITY.exec(text);
  const [, sign, whole = '', fraction = '', binary, suffix, exponent] = match ?? [];
  if (!match || whole + fraction === '' || whole.length + fraction.length > 60) throw new QuantityError();
  const power = binary ? 0 : exponent === undefined ? DECIMAL[suffix ?? '']! : Number(exponent);
  if (Math.abs(power) > 60) throw new QuantityError();
  let numerator = BigInt(whole + fraction) * NANO;
  let denominator = 10n ** BigInt(fraction.length);
  if (binary) numerator *= 1024n ** BigInt(BINARY.indexOf(binary as (typeof BINARY)[number]));
  if (power > 0) numerator *= 10n ** BigInt(power);
  else denominator *= 10n ** BigInt(-power);
  const nanos = (numerator + denominator - 1n) / denominator;
  return {
    nanos: sign === '-' ? -nanos : nanos,
    format: binary ? 'binary' : exponent === undefined ? 'decimal' : 'exponent',
  };
}

/** The canonical text: the largest suffix that leaves no fraction. */
export function formatQuantity({ nanos, format }: Quantity): string {
  if (nanos === 0n) return '0';
  const negative = nanos < 0n ? '-' : '';
  const amount = nanos < 0n ? -nanos : nanos;
  // A binary amount that is no whole number, or less than 1 Ki, is written decimally, as Kubernetes does.
  if (format === 'binary' && amount % NANO === 0n && amount >= 1024n * NANO) {
    let value = amount / NANO;
    let power = 0;
    while (power < BINARY.length - 1 && value % 1024n === 0n) {
      value /= 1024n;
      power++;
    }
    return `${negative}${value}${BINARY[power]}`;
  }
  let value = amount;
  let power = -9;
  while (power < 18 && value % 1000n === 0n) {
    value /= 1000n;
    power += 3;
  }
  const suffix = Object.entries(DECIMAL).find(([, exponent]) => exponent === power)![0];
  return format === 'exponent'
    ? `${negative}${value}${power === 0 ? '' : `e${power}`}`
    : `${negative}${value}${suffix}`;
}

export function canonicalQuantity(text: string): string {
  return formatQuantity(parseQuantity(text));
}

/** Negative, 0 or positive as a is less than, equal to or more than b. */
export function compareQuantities(a: string, b: string): number {
  const difference = parseQuantity(a).nanos - parseQuantity(b).nanos;
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}
