/**
 * The whole ruleset of a node from its frontends: what a start, a rebuild and the golden test write. Equal input gives equal
 * bytes: frontends, endpoints, elements and chains are sorted.
 */
import type { Family } from '../../../base/ip.ts';
import { type Frontend, frontendKey } from '../model.ts';
import type { ClusterAddresses } from '../rules.ts';
import { renderTable } from './chains.ts';
import { changeFrontend } from './changes.ts';
import { ElementChanges, TableState } from './element-changes.ts';
import { type Placement, place } from './placement.ts';
import { ELEMENT_MAPS, FIXED_MAPS, isPlainSet, tableOf } from './schema.ts';

export interface RenderedRuleset {
  /** One transaction that replaces the tables, whether or not they are there. Clients' affinity is forgotten. */
  readonly replace: string;
  /**
   * One transaction that empties and refills tables of this very layout and leaves the remembered clients alone. The kernel
   * refuses it for tables of another layout, and nft where CIDRs changed so that old and new overlap: then `replace`.
   */
  readonly refill: string;
  readonly tables: ReadonlyMap<Family, TableState>;
  /** By frontend key. */
  readonly placements: Map<string, Placement>;
  /** Elements of frontends. */
  readonly elements: number;
}

/** Renders frontends whose keys are distinct. */
export function renderRuleset(
  frontends: Iterable<Frontend>,
  families: readonly Family[],
  addresses: ClusterAddresses,
): RenderedRuleset {
  const placements = new Map<string, Placement>();
  const tables = new Map<Family, TableState>();
  const changes = new Map<Family, ElementChanges>();
  for (const family of families) {
    tables.set(family, new TableState(family, addresses.serviceCidrs));
    changes.set(family, new ElementChanges(family));
  }
  for (const frontend of frontends) {
    const table = tables.get(frontend.family);
    if (!table) continue;
    const placement = place(frontend);
    placements.set(frontendKey(frontend), placement);
    changeFrontend(undefined, placement, table, changes.get(frontend.family)!);
  }
  const render = (before: (family: Family) => string) =>
    families
      .map((family) => `${before(family)}${renderTable(family, addresses)}${changes.get(family)!.render('sorted')}`)
      .join('');
  const elements = [...changes.values()].reduce((sum, each) => sum + each.size, 0);
  return { replace: render(replaceTable), refill: render(emptyTable), tables, placements, elements };
}

/** Deletes a table whether it is there or not: nft 1.0.6 has no `destroy`, but adding what is there is no error. */
export function replaceTable(family: Family): string {
  return `add table ${tableOf(family)}\ndelete table ${tableOf(family)}\n`;
}

/** Takes all rules and elements out of a table, but for the clients that affinity remembers. */
function emptyTable(family: Family): string {
  const table = tableOf(family);
  const sets = [...ELEMENT_MAPS, ...FIXED_MAPS].map(
    (name) => `flush ${isPlainSet(name) ? 'set' : 'map'} ${table} ${name}\n`,
  );
  return `flush table ${table}\n${sets.join('')}`;
}
