/** `policy check`: may FROM reach TO, who decides, and what would change it. Pure: the oracle over a snapshot. */
import { UserError } from '../../base/errors.ts';
import { type Decision, evaluator, type Packet, type Verdict } from '../../node/policy/oracle.ts';
import {
  addressPairs,
  type DestinationReference,
  type EndpointReference,
  type Place,
  placeOf,
  type Target,
  type TransportProtocol,
  targetsOf,
} from './endpoints.ts';
import type { PolicySnapshot } from './snapshot.ts';
import { type Suggestion, suggest } from './suggest.ts';

export interface CheckedPair {
  readonly from: string;
  readonly to: string;
  readonly through?: string;
  readonly packet: Packet;
  readonly verdict: Verdict;
  readonly suggestions: readonly Suggestion[];
}

export interface CheckResult {
  /** deny when any pair is denied: a client of a Service meets all its endpoints. */
  readonly verdict: Decision | 'mixed';
  readonly pairs: readonly CheckedPair[];
}

export interface CheckQuestion {
  readonly from: EndpointReference;
  readonly to: DestinationReference;
  readonly protocol: TransportProtocol;
}

export function check({ from, to, protocol }: CheckQuestion, snapshot: PolicySnapshot): CheckResult {
  const source = placeOf(from, snapshot);
  const evaluate = evaluator(snapshot);
  const pairs = targetsOf(to, protocol, snapshot).flatMap((target) =>
    addressPairs(source, target).map(({ srcIp, dstIp }) => {
      const packet: Packet = { srcIp, dstIp, protocol, ...(target.port === undefined ? {} : { dport: target.port }) };
      const verdict = evaluate(packet);
      return {
        from: source.label,
        to: target.label,
        ...(target.through ? { through: target.through } : {}),
        packet,
        verdict,
        suggestions: suggest({ packet, verdict, ...podsOf(source, target) }, snapshot),
      };
    }),
  );
  if (pairs.length === 0) throw new UserError('the two ends have no address family in common');
  const verdicts = new Set(pairs.map((pair) => pair.verdict.verdict));
  return { verdict: verdicts.size > 1 ? 'mixed' : pairs[0]!.verdict.verdict, pairs };
}

function podsOf(source: Place, target: Target) {
  return { ...(source.pod ? { source: source.pod } : {}), ...(target.pod ? { target: target.pod } : {}) };
}
