/** The shape of every benchmark's result, and the arithmetic of medians. */

export interface Distribution {
  /** The median. */
  readonly p50: number;
  readonly p99?: number;
  readonly samples: number;
}

export interface Metric {
  /** "ms", "us", "updates/s", "MB" … */
  readonly unit: string;
  /** Whether more is better (throughput); less is better when absent (time, memory). */
  readonly moreIsBetter?: boolean;
  readonly podwire: Distribution;
  /** What it was run against in the same run; absent where that is not on this machine. */
  readonly peer?: Distribution & { readonly name: string };
  /** A remark that belongs to the figure: what the peer is a shape of, why there is none. */
  readonly note?: string;
}

export type Metrics = Record<string, Metric>;

/** Median and 99th percentile (nearest rank) of samples. */
export function distribution(samples: readonly number[]): Distribution {
  if (samples.length === 0) throw new RangeError('no samples');
  const sorted = [...samples].sort((a, b) => a - b);
  const rank = (share: number) => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)]!;
  return { p50: rank(0.5), ...(sorted.length >= 20 ? { p99: rank(0.99) } : {}), samples: sorted.length };
}

/** How many times better podwire is than its peer at the median: 2 is twice as fast, or half the memory. */
export function ratio({ podwire, peer, moreIsBetter }: Metric): number | undefined {
  if (!peer) return undefined;
  const [better, worse] = moreIsBetter ? [podwire.p50, peer.p50] : [peer.p50, podwire.p50];
  return worse === 0 ? undefined : better / worse;
}
