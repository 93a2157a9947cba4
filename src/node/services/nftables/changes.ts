/**
 * From one placement of a frontend to the next, as element changes.
 *
 * Two transactions for what goes: the first takes a removed endpoint out of use (another endpoint takes its slot and the
 * count is lowered), the second deletes the last slot, which nothing counts any more. A packet looks up twice, first the
 * count and then the slot; in one transaction it could find the old count and no slot. What is to be deleted later is
 * kept in `Leftovers` and goes with the next transaction, or a few milliseconds later by itself.
 */

import type { EndpointText, Frontend } from '../model.ts';
import { chainOfCount } from './chains.ts';
import type { ElementChanges, TableState } from './element-changes.ts';
import { endpointIds, NO_ENDPOINTS, type Placement } from './placement.ts';
import { CODE_MASK, type ElementMap, insideCode, LOCAL_SLOT, outsideCode } from './schema.ts';

/** Writes the way from one placement of a frontend, by its key, to the next (either may be absent) into the changes. */
export function changeFrontend(
  key: string,
  before: Placement | undefined,
  after: Placement | undefined,
  table: TableState,
  changes: ElementChanges,
): void {
  changeTargets(key, before, after, table, changes);
  changeFirewall(key, before, after, changes);
  changeShared(before, after, table, changes);
  changeValue('services', key, before && insideCode(before.frontend), after && insideCode(after.frontend), changes);
  const outside = (placement: Placement | undefined) => placement && outsideCode(placement.frontend);
  changeValue('outside-services', key, outside(before), outside(after), changes);
  if (after) demandChains(after, table, changes);
}

function changeValue(
  map: ElementMap,
  key: string,
  before: number | string | undefined,
  after: number | string | undefined,
  changes: ElementChanges,
): void {
  if (before === after) return;
  if (before !== undefined) changes.delete(map, key);
  if (after !== undefined) changes.add(map, key, after);
}

function demandChains({ frontend, inside, outside }: Placement, table: TableState, changes: ElementChanges): void {
  const { family, affinitySeconds } = frontend;
  table.demandCode(insideCode(frontend) & CODE_MASK, changes);
  const code = outsideCode(frontend);
  if (code !== undefined) table.demandCode(code & CODE_MASK, changes);
  if (affinitySeconds === undefined) return;
  if (inside.length > 0) table.demand(chainOfCount(family, 'cluster', inside.length), changes);
  if (outside.length > 0) table.demand(chainOfCount(family, 'local', outside.length), changes);
}

/** The slots of both pools, in the maps for random choice or in those of affinity. */
function changeTargets(
  key: string,
  before: Placement | undefined,
  after: Placement | undefined,
  table: TableState,
  changes: ElementChanges,
): void {
  for (const pool of POOLS) {
    const firstSlot = pool === 'inside' ? 0 : LOCAL_SLOT;
    changeSlots('endpoints', key, firstSlot, slotsOf(before, pool, false), slotsOf(after, pool, false), table, changes);
    changeSticky(key, pool, slotsOf(before, pool, true), slotsOf(after, pool, true), table, changes);
  }
}

const POOLS = ['inside', 'outside'] as const;

/** The endpoints of a pool where the frontend has affinity (`sticky`) or has not, and none otherwise. */
function slotsOf(placement: Placement | undefined, pool: (typeof POOLS)[number], sticky: boolean) {
  if (!placement || (placement.frontend.affinitySeconds !== undefined) !== sticky) return NO_ENDPOINTS;
  return placement[pool];
}

function changeSlots(
  map: ElementMap,
  key: string,
  firstSlot: number,
  before: readonly (string | number)[],
  after: readonly (string | number)[],
  table: TableState,
  changes: ElementChanges,
): void {
  if (before === after) return;
  for (let slot = 0; slot < after.length; slot++) {
    const value = after[slot]!;
    if (before[slot] === value) continue;
    const number = firstSlot + slot;
    const isThere = slot < before.length || table.leftovers.take(map, key, number);
    if (isThere) changes.delete(map, `${key} . ${number}`);
    changes.addNumbered(map, key, number, value);
  }
  for (let slot = after.length; slot < before.length; slot++) table.leftovers.add(map, key, firstSlot + slot);
}

/** Affinity: count, slot -> id, id -> endpoint. An id goes at once: whoever was stuck to it picks anew. */
function changeSticky(
  key: string,
  pool: 'inside' | 'outside',
  before: readonly EndpointText[],
  after: readonly EndpointText[],
  table: TableState,
  changes: ElementChanges,
): void {
  if (before === after || before.length + after.length === 0) return;
  const scope = pool === 'inside' ? 'cluster' : 'local';
  const idsBefore = endpointIds(key, before, scope);
  const idsAfter = endpointIds(key, after, scope);
  for (const [text, id] of idsBefore)
    if (idsAfter.get(text) !== id) changes.delete('affinity-endpoints', `${key} . ${id}`);
  for (const [text, id] of idsAfter)
    if (idsBefore.get(text) !== id) changes.addNumbered('affinity-endpoints', key, id, text);
  const slots = (texts: readonly EndpointText[], ids: ReadonlyMap<string, number>) =>
    texts.map((text) => ids.get(text)!);
  const firstSlot = pool === 'inside' ? 0 : LOCAL_SLOT;
  changeSlots('affinity-picks', key, firstSlot, slots(before, idsBefore), slots(after, idsAfter), table, changes);
  const counts = pool === 'inside' ? 'affinity-counts' : 'affinity-local-counts';
  changeValue(counts, key, before.length || undefined, after.length || undefined, changes);
}

function changeFirewall(
  key: string,
  before: Placement | undefined,
  after: Placement | undefined,
  changes: ElementChanges,
): void {
  const old = before?.frontend.sourceRanges;
  const next = after?.frontend.sourceRanges;
  if (!old && !next) return;
  for (const range of old ?? []) if (!next?.includes(range)) changes.delete('firewall-allowed', `${key} . ${range}`);
  for (const range of next ?? []) if (!old?.includes(range)) changes.add('firewall-allowed', `${key} . ${range}`);
}

/** Elements that several frontends share: pods that may meet themselves, ClusterIPs outside the Services' CIDRs. */
function changeShared(
  before: Placement | undefined,
  after: Placement | undefined,
  table: TableState,
  changes: ElementChanges,
): void {
  const old = hairpinElements(before);
  const next = hairpinElements(after);
  if (old.size > 0 || next.size > 0) changeHairpin(old, next, table, changes);
  if (before?.frontend.role === after?.frontend.role) return;
  if (isStray(after?.frontend, table)) table.share('service-addresses', after!.frontend.address, changes);
  if (isStray(before?.frontend, table)) table.unshare('service-addresses', before!.frontend.address, changes);
}

function changeHairpin(
  old: ReadonlySet<string>,
  next: ReadonlySet<string>,
  table: TableState,
  changes: ElementChanges,
): void {
  for (const key of next) if (!old.has(key)) table.share('hairpin', key, changes);
  for (const key of old) if (!next.has(key)) table.unshare('hairpin', key, changes);
}

function isStray(frontend: Frontend | undefined, table: TableState): boolean {
  return frontend?.role === 'clusterIP' && !table.hasServiceAddress(frontend.address);
}

const NOTHING: ReadonlySet<string> = new Set();

/**
 * Pods that may meet themselves through this node: its own ones, those of which nobody knows where they are, and, where
 * pods are not masqueraded on the way to a node's address (externalTrafficPolicy Local), those of other nodes too.
 */
function hairpinElements(placement: Placement | undefined): ReadonlySet<string> {
  const { inside, outside } = placement?.frontend ?? {};
  let elements: Set<string> | undefined;
  for (const pool of POOLS) {
    const target = pool === 'inside' ? inside : outside;
    if (target?.kind !== 'endpoints') continue;
    for (const { address, local, unplaced } of target.endpoints) {
      if (!local && !unplaced && !outside) continue;
      elements ??= new Set();
      elements.add(`${address} . ${address}`);
    }
  }
  return elements ?? NOTHING;
}
