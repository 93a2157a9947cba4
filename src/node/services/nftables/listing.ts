/**
 * What a table holds, as sorted lines "map key : value": from the kernel (nft's JSON) and from what the reconciler believes.
 * For tests, and for a full verification on demand; never part of a sync, because listing costs seconds at size.
 */
import type { Family } from '../../../base/ip.ts';
import type { Nftables } from '../../../linux/nftables.ts';
import { frontendKey } from '../model.ts';
import type { ClusterAddresses } from '../rules.ts';
import { changeFrontend } from './changes.ts';
import { ElementChanges, TableState } from './element-changes.ts';
import type { Placement } from './placement.ts';
import { ELEMENT_MAPS, isPlainSet, LOCAL_SLOT, tableOf } from './schema.ts';

/** The elements that the placements of a family stand for. */
export function expectedListing(
  placements: Iterable<Placement>,
  family: Family,
  addresses: ClusterAddresses,
): readonly string[] {
  const table = new TableState(family, addresses.serviceCidrs);
  const changes = new ElementChanges(family);
  for (const placement of placements)
    if (placement.frontend.family === family)
      changeFrontend(frontendKey(placement.frontend), undefined, placement, table, changes);
  return [...changes.additions()].flatMap(([map, elements]) => elements.map((text) => `${map} ${text}`)).sort();
}

/**
 * The same for every order in which the state was reached: endpoints keep their slots through changes, so which of a
 * frontend's endpoints sits where depends on history. Slots are replaced by "*", that they are 0 … count-1 is checked.
 */
export function canonicalListing(lines: readonly string[]): readonly string[] {
  const slots = new Map<string, number[]>();
  const canonical = lines.map((line) => {
    const match = /^(endpoints|affinity-picks) (.*) \. (\d+) : (.*)$/.exec(line);
    if (!match) return line;
    const [, map, key, slot, value] = match as unknown as [string, string, string, string, string];
    const pool = Number(slot) >= LOCAL_SLOT ? 'local' : 'all';
    const id = `${map} ${key} ${pool}`;
    slots.set(id, [...(slots.get(id) ?? []), Number(slot) % LOCAL_SLOT]);
    return `${map} ${key} . ${pool} * : ${value}`;
  });
  for (const [id, used] of slots) {
    used.sort((a, b) => a - b);
    if (used.some((slot, i) => slot !== i)) throw new Error(`slots of ${id} have holes: ${used.join(' ')}`);
  }
  return canonical.sort();
}

/** The elements of a family's table in the kernel. */
export function kernelListing(nft: Pick<Nftables, 'listJson'>, family: Family): readonly string[] {
  const lines: string[] = [];
  for (const name of ELEMENT_MAPS) {
    const isMap = !isPlainSet(name);
    // One by one: libnftables 1.0.6 cannot print these tables' rules as JSON.
    const items = nft.listJson(`${isMap ? 'map' : 'set'} ${tableOf(family)} ${name}`) as Item[];
    for (const item of items)
      for (const element of (item.map ?? item.set)?.elem ?? []) lines.push(`${name} ${elementText(element, isMap)}`);
  }
  return lines.sort();
}

interface Item {
  readonly map?: Named;
  readonly set?: Named;
}
interface Named {
  readonly name: string;
  readonly elem?: readonly Json[];
}
type Json = string | number | readonly Json[] | { readonly [key: string]: Json };

function elementText(element: Json, isMap: boolean): string {
  if (isMap && Array.isArray(element)) return `${valueText(element[0])} : ${valueText(element[1])}`;
  return valueText(element);
}

function valueText(value: Json): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value);
  if (Array.isArray(value)) return value.map(valueText).join(' . ');
  const object = value as { readonly [key: string]: Json };
  if ('concat' in object) return valueText(object['concat']!);
  if ('elem' in object) return valueText((object['elem'] as { val: Json }).val);
  if ('prefix' in object) {
    const { addr, len } = object['prefix'] as { addr: string; len: number };
    return `${addr}/${len}`;
  }
  if ('goto' in object) return `goto ${(object['goto'] as { target: string }).target}`;
  if ('jump' in object) return `jump ${(object['jump'] as { target: string }).target}`;
  return JSON.stringify(object);
}
