/**
 * Tells somebody of the addresses in answers from upstream, and waits for it before the answer goes on: who allows packets
 * by the names of their destinations must be ready when the client has the address.
 */
import type { Handler, Outside } from './chain.ts';
import { decodeResponse } from './decode.ts';
import { Rcode, type ResourceRecord } from './wire.ts';

/**
 * `names` are the one that was asked and those that aliases led to, in order; `ttl` in seconds, the shortest on the way.
 * Must not reject.
 */
export type AnswerListener = (
  names: readonly string[],
  addresses: readonly { readonly address: string; readonly ttl: number }[],
) => void | Promise<void>;

/** A link that tells of what the next one answers. */
export function tellOfAnswers(next: Handler, listener: AnswerListener): Handler {
  return async (query, transport, packet) => {
    const response = await next(query, transport, packet);
    const decoded = decodeResponse(response);
    if (decoded?.rcode === Rcode.noError) await tell(query.name, decoded.answers, listener);
    return response;
  };
}

/** The same where an ExternalName leads to. */
export function tellOfOutside(outside: Outside, listener: AnswerListener): Outside {
  return async (name, type) => {
    const answer = await outside(name, type);
    if (answer.rcode === Rcode.noError) await tell(name, answer.answers, listener);
    return answer;
  };
}

async function tell(question: string, records: readonly ResourceRecord[], listener: AnswerListener): Promise<void> {
  const { names, ttl } = followAliases(question, records);
  const isAsked = new Set(names.map(folded));
  const addresses = records.flatMap((record) =>
    (record.type === 'A' || record.type === 'AAAA') && isAsked.has(folded(record.name))
      ? [{ address: record.address, ttl: Math.min(record.ttl, ttl) }]
      : [],
  );
  if (addresses.length > 0) await listener(names, addresses);
}

/** Records of other names, which an upstream server may add, say nothing about the one that was asked. */
function followAliases(question: string, records: readonly ResourceRecord[]): { names: string[]; ttl: number } {
  const names = [question];
  let ttl = Number.POSITIVE_INFINITY;
  for (let at = question; ; ) {
    const alias = records.find((record) => record.type === 'CNAME' && folded(record.name) === folded(at));
    if (alias?.type !== 'CNAME' || names.some((name) => folded(name) === folded(alias.target))) return { names, ttl };
    names.push(alias.target);
    ttl = Math.min(ttl, alias.ttl);
    at = alias.target;
  }
}

/** Names are compared without regard to case (RFC 4343), and to the dot at the end. */
function folded(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}
