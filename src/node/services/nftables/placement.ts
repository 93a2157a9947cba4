/**
 * Where a frontend's endpoints sit in the endpoint maps: each has a slot from 0 to count-1.
 *
 * A change moves as few of them as it can: those that stay keep their slots, new ones fill holes, and what is left of the
 * holes is filled from the end. So one endpoint more or less is one or two elements, whatever the count.
 */
import { type EndpointText, endpointText, type Frontend, type Target } from '../model.ts';
import { LOCAL_ID, MAX_ENDPOINTS } from './schema.ts';

/** A frontend and the slots of its endpoints. */
export interface Placement {
  readonly frontend: Frontend;
  /** The endpoints of `inside` by slot. */
  readonly inside: readonly EndpointText[];
  /** The endpoints of `outside` by slot, counted from the first local slot. */
  readonly outside: readonly EndpointText[];
}

export const NO_ENDPOINTS: readonly EndpointText[] = [];

function textsOf(target: Target | undefined): readonly EndpointText[] {
  if (target?.kind !== 'endpoints') return NO_ENDPOINTS;
  const { endpoints } = target;
  return (endpoints.length > MAX_ENDPOINTS ? endpoints.slice(0, MAX_ENDPOINTS) : endpoints).map(endpointText);
}

/** Places a frontend, as close as possible to where it was. */
export function place(frontend: Frontend, before?: Placement): Placement {
  return {
    frontend,
    inside: placeSlots(before?.inside ?? NO_ENDPOINTS, textsOf(frontend.inside)),
    outside: placeSlots(before?.outside ?? NO_ENDPOINTS, textsOf(frontend.outside)),
  };
}

/** The wanted endpoints, each once, by slot: from 0 to their number, with as few changes against `before` as possible. */
export function placeSlots(before: readonly EndpointText[], wanted: readonly EndpointText[]): readonly EndpointText[] {
  if (before.length === 0) return wanted;
  if (before.length === wanted.length && wanted.every((text, i) => before[i] === text)) return before;
  const rest = new Set(wanted);
  const slots: (EndpointText | undefined)[] = new Array(wanted.length).fill(undefined);
  const moving: EndpointText[] = [];
  before.forEach((text, slot) => {
    if (!rest.delete(text)) return;
    if (slot < slots.length) slots[slot] = text;
    else moving.push(text);
  });
  const fill = [...rest, ...moving];
  let next = 0;
  return slots.map((text) => text ?? fill[next++]!);
}

/**
 * The ids by which affinity remembers endpoints: a hash of frontend and endpoint, so that an agent that starts anew gives
 * the same ones; two endpoints of one hash are told apart in their sorted order. Ids of this node's pool have a bit more.
 */
export function endpointIds(
  frontend: string,
  endpoints: readonly EndpointText[],
  scope: 'cluster' | 'local',
): ReadonlyMap<EndpointText, number> {
  const taken = new Set<number>();
  const ids = new Map<EndpointText, number>();
  for (const text of [...endpoints].sort()) {
    let id = hash31(`${frontend} ${text}`);
    while (taken.has(id)) id = (id + 1) & 0x7fffffff;
    taken.add(id);
    ids.set(text, scope === 'local' ? id + LOCAL_ID : id);
  }
  return ids;
}

/** FNV-1a (RFC 9923), folded to 31 bits. */
function hash31(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash ^ (hash >>> 31)) & 0x7fffffff;
}
