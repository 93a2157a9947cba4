/**
 * The whole ruleset of a node from its frontends: what a start, a rebuild and the golden test write. Equal input gives equal
 * bytes: frontends, endpoints, elements and chains are sorted.
 */
import type { Family } from '../../../base/ip.ts';
import type { ElementChange } from '../../../linux/set-elements.ts';
import { type Frontend, frontendKey } from '../model.ts';
import type { ClusterAddresses } from '../rules.ts';
import { renderTable } from './chains.ts';
import { changeFrontend } from './changes.ts';
import { ElementChanges, TableState } from './element-changes.ts';
import { type Placement, place } from './placement.ts';
import { CIDR_SETS, tableOf } from './schema.ts';

export interface RenderedRuleset {
  /**
   * One transaction of nft that replaces the tables, whether or not they are there, with all elements in it. Clients' affinity
   * is forgotten.
   */
  replace(): string;
  /**
   * The same for tables of this very layout, and it leaves the remembered clients alone. First nft makes all rules anew while
   * the elements that are there go on; the kernel refuses that for tables of another layout, and nft where CIDRs changed so
   * that old and new overlap: then `replace`. Then one transaction of elements puts the new ones in the place of the old.
   */
  readonly takeover: { readonly rules: string; elements(): readonly ElementChange[] };
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
    const key = frontendKey(frontend);
    placements.set(key, placement);
    changeFrontend(key, undefined, placement, table, changes.get(frontend.family)!);
  }
  const elements = [...changes.values()].reduce((sum, each) => sum + each.size, 0);
  const ofAll = (render: (family: Family, changes: ElementChanges) => string) =>
    families.map((family) => render(family, changes.get(family)!)).join('');
  return {
    replace: () => ofAll((family, each) => `${replaceTable(family)}${renderTable(family, addresses)}${each.render()}`),
    takeover: {
      rules: ofAll((family, each) => `${renewRules(family, addresses)}${each.renderChains('sorted')}`),
      elements: () => [...changes.values()].flatMap((each) => each.replacement()),
    },
    tables,
    placements,
    elements,
  };
}

/** Deletes a table whether it is there or not: nft 1.0.6 has no `destroy`, but adding what is there is no error. */
export function replaceTable(family: Family): string {
  return `add table ${tableOf(family)}\ndelete table ${tableOf(family)}\n`;
}

/** Makes the fixed chains and the sets of CIDRs anew. Chains of endpoint counts stay as long as elements lead to them. */
function renewRules(family: Family, addresses: ClusterAddresses): string {
  const table = tableOf(family);
  const text = renderTable(family, addresses);
  const chains = [...text.matchAll(/^ {2}chain (\S+) \{$/gm)].map(([, name]) => `flush chain ${table} ${name}\n`);
  const sets = CIDR_SETS.map((name) => `flush set ${table} ${name}\n`);
  return `${chains.join('')}${sets.join('')}${text}`;
}
