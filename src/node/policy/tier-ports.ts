/**
 * Ordered rules over protocols and ports, brought to one verdict for each port: what a tier of ClusterNetworkPolicies does
 * to one peer. Rules in order, the first that matches decides, so a later rule gets only what is left.
 */
import { lastPort, type PortRange, type PortSet, type Protocol, protocols } from './ports.ts';

/** What a rule says. */
export type TierVerdict = 'accept' | 'deny' | 'pass';
/** The same in a class, where it is known which policy (by its number) denies: packets are counted for it. */
export type TierDecision = 'accept' | 'pass' | `deny ${number}`;

export interface OrderedPorts {
  readonly ports: PortSet;
  readonly verdict: TierDecision;
}

interface Segment {
  readonly from: number;
  readonly to: number;
  readonly verdict: TierDecision;
}

/**
 * One verdict for everything, and the ports where it is another. `pass` stands for what no rule decides too: both leave the
 * packet to the next tier.
 */
export interface TierPorts {
  /** Equal for equal verdicts; '' when all passes. */
  readonly key: string;
  /** What protocols without ports get, and every port that `exceptions` do not name. */
  readonly rest: TierDecision;
  readonly exceptions: readonly (PortRange & { readonly verdict: TierDecision })[];
}

export const passAll: TierPorts = { key: '', rest: 'pass', exceptions: [] };

const all: readonly Protocol[] = Object.keys(protocols) as Protocol[];

export function resolveOrder(rules: readonly OrderedPorts[]): TierPorts {
  const decided = new Map<Protocol, Segment[]>(all.map((protocol) => [protocol, []]));
  let rest: TierDecision | undefined;
  for (const { ports, verdict } of rules) {
    const ranges = ports.any ? all.map((protocol): PortRange => ({ protocol, from: 0, to: lastPort })) : ports.ranges;
    for (const range of ranges) claim(decided.get(range.protocol)!, range, verdict);
    if (!ports.any) continue;
    // Everything is decided from here on.
    rest = verdict;
    break;
  }
  return render(decided, rest ?? 'pass');
}

/** Adds the parts of the range that are free. Segments are kept in order. */
function claim(segments: Segment[], { from, to }: PortRange, verdict: TierDecision): void {
  const free: Segment[] = [];
  let next = from;
  for (const segment of segments) {
    if (segment.to < next) continue;
    if (segment.from > to) break;
    if (segment.from > next) free.push({ from: next, to: segment.from - 1, verdict });
    next = segment.to + 1;
  }
  if (next <= to) free.push({ from: next, to, verdict });
  segments.push(...free);
  segments.sort((a, b) => a.from - b.from);
}

function render(decided: ReadonlyMap<Protocol, readonly Segment[]>, rest: TierDecision): TierPorts {
  const exceptions = all.flatMap((protocol) =>
    joined(decided.get(protocol)!)
      .filter(({ verdict }) => verdict !== rest)
      .map((segment) => ({ protocol, ...segment })),
  );
  if (rest === 'pass' && exceptions.length === 0) return passAll;
  const texts = exceptions.map(({ protocol, from, to, verdict }) => `${protocol}:${from}-${to}=${verdict}`);
  return { key: [rest, ...texts].join(','), rest, exceptions };
}

/** Neighbours with one verdict as one. */
function joined(segments: readonly Segment[]): Segment[] {
  const result: Segment[] = [];
  for (const segment of segments) {
    const last = result.at(-1);
    if (last && last.verdict === segment.verdict && last.to + 1 === segment.from) {
      result[result.length - 1] = { ...last, to: segment.to };
    } else result.push(segment);
  }
  return result;
}
