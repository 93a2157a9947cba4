/**
 * Sets of (protocol, port) as the rules of a policy grant them, always normalised: disjoint ranges in order, so that equal
 * sets have equal keys and their kernel elements never overlap (overlapping elements of an interval set are refused).
 */

/** The protocols that NetworkPolicy knows, by the kernel's numbers (RFC 5237). */
export const protocols = { tcp: 6, udp: 17, sctp: 132 } as const;
export type Protocol = keyof typeof protocols;

/** The highest port; the lowest is 0, so that "every port of the protocol" is 0 to 65535. */
export const lastPort = 65535;

export interface PortRange {
  readonly protocol: Protocol;
  readonly from: number;
  /** Inclusive. */
  readonly to: number;
}

/** A named port of a rule, to be resolved on a pod. */
export interface PortName {
  readonly protocol: Protocol;
  readonly name: string;
}

export interface PortSet {
  /** Equal for equal sets; '' for the empty one. */
  readonly key: string;
  /** Everything, also protocols without ports. Then `ranges` is empty. */
  readonly any: boolean;
  readonly ranges: readonly PortRange[];
}

export const noPorts: PortSet = { key: '', any: false, ranges: [] };
export const anyPorts: PortSet = { key: 'any', any: true, ranges: [] };

/** The protocol of the API ("TCP", absent means TCP) in the kernel's spelling; undefined when unknown. */
export function protocolOf(text: string | undefined): Protocol | undefined {
  const name = (text ?? 'TCP').toLowerCase();
  return name in protocols && text !== name ? (name as Protocol) : undefined;
}

export function portSet(ranges: readonly PortRange[]): PortSet {
  const merged: PortRange[] = [];
  for (const protocol of Object.keys(protocols) as Protocol[]) {
    const own = ranges.filter((range) => range.protocol === protocol && range.from <= range.to);
    merged.push(...mergeRanges(own));
  }
  if (merged.length === 0) return noPorts;
  return { key: merged.map(formatRange).join(','), any: false, ranges: merged };
}

/**
 * Joins ranges that overlap. Neighbours are joined only when both are true ranges: single ports stay single, because they
 * live in hash sets, which are cheap to change.
 */
function mergeRanges(ranges: readonly PortRange[]): PortRange[] {
  const sorted = [...ranges].sort((a, b) => a.from - b.from || b.to - a.to);
  const result: PortRange[] = [];
  for (const range of sorted) {
    const last = result.at(-1);
    const touches = last && last.from < last.to && range.from < range.to && range.from === last.to + 1;
    if (last && (range.from <= last.to || touches)) {
      if (range.to > last.to) result[result.length - 1] = { ...last, to: range.to };
    } else result.push(range);
  }
  return result;
}

function formatRange({ protocol, from, to }: PortRange): string {
  if (from === 0 && to === lastPort) return protocol;
  return from === to ? `${protocol}:${from}` : `${protocol}:${from}-${to}`;
}

export function unionPorts(sets: Iterable<PortSet>): PortSet {
  const distinct = new Map<string, PortSet>();
  for (const set of sets) {
    if (set.any) return anyPorts;
    if (set.key) distinct.set(set.key, set);
  }
  if (distinct.size <= 1) return distinct.values().next().value ?? noPorts;
  return portSet([...distinct.values()].flatMap((set) => set.ranges));
}
