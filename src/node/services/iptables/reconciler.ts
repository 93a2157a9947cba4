/**
 * The mode iptables: Services as chains in kube-proxy's layout, written by `iptables-restore`. A sync writes the chains of the
 * groups that changed and single rules of the list chains; the kernel's table is read only for a full write, to see what an earlier
 * agent left.
 *
 * A table is a transaction, the tables of one sync are not. So packets are refused or restricted by the filter and mangle tables
 * before the nat table stops to translate them, and are let through only after it has begun to.
 */
import type { Family } from '../../../base/ip.ts';
import type { Xtables, XtablesTable } from '../../../linux/xtables.ts';
import { type FrontendBackend, type FrontendChange, FrontendRules } from '../frontend-rules.ts';
import type { Frontend } from '../model.ts';
import type { ClusterAddresses, RulesContext } from '../rules.ts';
import { CANARY_CHAIN, GROUP_TABLES, type GroupTable, LIST_CHAINS, layoutOf, tablesOf } from './layout.ts';
import { groupOf, type ListRule, type RenderedGroup, rangeRules, renderGroup } from './render.ts';
import { hasHook, ownChains, TableInput } from './restore-input.ts';
import { RuleList } from './rule-list.ts';

/** What a mode needs of iptables. */
export type XtablesPort = Pick<Xtables, 'restore' | 'restoreNow' | 'save' | 'saveNow' | 'extent'>;

/** The mode iptables, on programs that run in the node's namespace. */
export function iptablesRules(xtables: XtablesPort): (context: RulesContext) => FrontendRules {
  return (context) => new FrontendRules(new IptablesBackend(xtables, context.families ?? [4, 6]), context);
}

const NO_GROUP: RenderedGroup = {
  chains: { mangle: new Map(), filter: new Map(), nat: new Map() },
  rules: [],
};

/** What one family's tables hold. */
interface FamilyState {
  readonly family: Family;
  readonly groups: Map<string, Map<string, Frontend>>;
  readonly lists: ReadonlyMap<string, RuleList>;
  /** The extents of the tables after the last write. */
  extents: ReadonlyMap<XtablesTable, number>;
}

export class IptablesBackend implements FrontendBackend {
  readonly #xtables: XtablesPort;
  readonly #families: readonly Family[];
  #states: readonly FamilyState[] = [];
  #addresses: ClusterAddresses = { podCidrs: [], ownPodCidrs: [], serviceCidrs: [] };

  constructor(xtables: XtablesPort, families: readonly Family[]) {
    this.#xtables = xtables;
    this.#families = families;
  }

  async load(frontends: readonly Frontend[], addresses: ClusterAddresses): Promise<number> {
    this.#addresses = addresses;
    let written = 0;
    const states = [];
    for (const family of this.#families) {
      const state = emptyState(family);
      for (const frontend of frontends) if (frontend.family === family) putFrontend(state, frontend);
      const saved = new Map<XtablesTable, string>();
      for (const table of tablesOf(family)) saved.set(table, await this.#xtables.save(family, table));
      const { text, size } = renderWhole(state, addresses, saved);
      await this.#xtables.restore(family, text);
      written += size;
      state.extents = this.#extents(family);
      states.push(state);
    }
    this.#states = states;
    return written;
  }

  async change(changes: readonly FrontendChange[]): Promise<number> {
    let written = 0;
    for (const state of this.#states) {
      const own = changes.filter(({ before, after }) => (after ?? before)?.family === state.family);
      if (own.length === 0) continue;
      const { text, size } = changeText(state, own, this.#addresses);
      if (text === '') continue;
      await this.#xtables.restore(state.family, text);
      state.extents = this.#extents(state.family);
      written += size;
    }
    return written;
  }

  isIntact(): boolean {
    return this.#states.every(({ family, extents }) =>
      [...extents].every(([table, extent]) => this.#xtables.extent(family, table, CANARY_CHAIN) >= extent),
    );
  }

  remove(): void {
    for (const family of this.#families) {
      const text = tablesOf(family)
        .map((table) => renderRemoval(table, family, this.#addresses, this.#xtables.saveNow(family, table)))
        .join('');
      if (text !== '') this.#xtables.restoreNow(family, text);
    }
    this.#states = [];
  }

  #extents(family: Family): ReadonlyMap<XtablesTable, number> {
    return new Map(tablesOf(family).map((table) => [table, this.#xtables.extent(family, table, CANARY_CHAIN)]));
  }
}

const listKey = (table: XtablesTable, chain: string): string => `${table} ${chain}`;

function emptyState(family: Family): FamilyState {
  const lists = GROUP_TABLES.flatMap((table) =>
    LIST_CHAINS[table].map((chain) => [listKey(table, chain), new RuleList(chain)] as const),
  );
  return { family, groups: new Map(), lists: new Map(lists), extents: new Map() };
}

function putFrontend({ groups }: FamilyState, frontend: Frontend): void {
  const id = groupOf(frontend);
  const group = groups.get(id);
  const key = `${frontend.address} ${frontend.port}`;
  if (group) group.set(key, frontend);
  else groups.set(id, new Map([[key, frontend]]));
}

function dropFrontend({ groups }: FamilyState, frontend: Frontend): void {
  const id = groupOf(frontend);
  const group = groups.get(id);
  group?.delete(`${frontend.address} ${frontend.port}`);
  if (group?.size === 0) groups.delete(id);
}

function renderOf({ groups }: FamilyState, id: string, addresses: ClusterAddresses): RenderedGroup {
  const group = groups.get(id);
  return group ? renderGroup([...group.values()], addresses) : NO_GROUP;
}

interface Text {
  readonly text: string;
  readonly size: number;
}

/** Everything of a family; chains of ours that are in the tables and not in here go. */
function renderWhole(state: FamilyState, addresses: ClusterAddresses, saved: ReadonlyMap<XtablesTable, string>): Text {
  const tables = tablesOf(state.family);
  const inputs = new Map(tables.map((table) => [table, new TableInput(table)]));
  const kept = new Map(tables.map((table) => [table, new Set<string>()]));
  const fill = (table: XtablesTable, chain: string, rules: readonly string[]) => {
    kept.get(table)!.add(chain);
    inputs.get(table)!.fill(chain, rules);
  };
  for (const rule of rangeRules(state.family, addresses)) listOf(state, rule).add(rule.key, rule.rule);
  for (const id of [...state.groups.keys()].sort()) {
    const group = renderOf(state, id, addresses);
    for (const rule of group.rules) listOf(state, rule).add(rule.key, rule.rule);
    for (const table of GROUP_TABLES) for (const [chain, rules] of group.chains[table]) fill(table, chain, rules);
  }
  for (const table of tables) {
    const input = inputs.get(table)!;
    const layout = layoutOf(table, state.family, addresses);
    for (const chain of LIST_CHAINS[table]) fill(table, chain, state.lists.get(listKey(table, chain))!.rules);
    for (const [chain, rules] of layout.chains) fill(table, chain, rules);
    const text = saved.get(table) ?? '';
    // Each to the top of its chain, so the last one first.
    for (const hook of layout.hooks.toReversed())
      if (!hasHook(text, hook)) input.command(`-I ${hook.chain} 1 ${hook.rule}`);
    for (const chain of ownChains(text)) if (!kept.get(table)!.has(chain)) input.delete(chain);
  }
  return together([...inputs.values()]);
}

function listOf(state: FamilyState, { table, chain }: ListRule): RuleList {
  return state.lists.get(listKey(table, chain))!;
}

function together(inputs: readonly TableInput[]): Text {
  return {
    text: inputs.map((input) => input.render()).join(''),
    size: inputs.reduce((sum, input) => sum + input.size, 0),
  };
}

/**
 * The difference that changes make. The filter and mangle tables get what they add before nat changes, and lose the rest after:
 * in between there is always a rule for a packet.
 */
function changeText(state: FamilyState, changes: readonly FrontendChange[], addresses: ClusterAddresses): Text {
  const ids = new Set(
    changes.flatMap(({ before, after }) => [before, after].flatMap((each) => (each ? [groupOf(each)] : []))),
  );
  const before = [...ids].map((id) => renderOf(state, id, addresses));
  for (const change of changes) if (change.before) dropFrontend(state, change.before);
  for (const change of changes) if (change.after) putFrontend(state, change.after);
  const after = [...ids].map((id) => renderOf(state, id, addresses));
  const first = { mangle: new TableInput('mangle'), filter: new TableInput('filter') };
  const nat = new TableInput('nat');
  const last = { mangle: new TableInput('mangle'), filter: new TableInput('filter') };
  const additions = (table: GroupTable) => (table === 'nat' ? nat : first[table]);
  const removals = (table: GroupTable) => (table === 'nat' ? nat : last[table]);
  changeLists(
    state,
    before.flatMap(({ rules }) => rules),
    after.flatMap(({ rules }) => rules),
    additions,
    removals,
  );
  before.forEach((old, i) => {
    const next = after[i]!;
    nat.change(old.chains.nat, next.chains.nat);
    for (const table of ['mangle', 'filter'] as const) {
      const gone = [...old.chains[table].keys()].filter((chain) => !next.chains[table].has(chain));
      first[table].change(
        new Map([...old.chains[table]].filter(([chain]) => !gone.includes(chain))),
        next.chains[table],
      );
      for (const chain of gone) last[table].delete(chain);
    }
  });
  return together([first.mangle, first.filter, nat, last.filter, last.mangle]);
}

type Where = (table: GroupTable) => TableInput;

function changeLists(
  state: FamilyState,
  before: readonly ListRule[],
  after: readonly ListRule[],
  additions: Where,
  removals: Where,
): void {
  const idOf = ({ table, chain, key }: ListRule) => `${table} ${chain} ${key}`;
  // An address may be asked for by several frontends: as many as it loses it may gain.
  const gone = new Map<string, ListRule[]>();
  for (const rule of before) {
    const same = gone.get(idOf(rule));
    if (same) same.push(rule);
    else gone.set(idOf(rule), [rule]);
  }
  const added = after.filter((rule) => {
    if (!gone.get(idOf(rule))?.pop()) return true;
    additions(rule.table).command(...listOf(state, rule).replace(rule.key, rule.rule));
    return false;
  });
  for (const rule of added) additions(rule.table).command(...listOf(state, rule).add(rule.key, rule.rule));
  for (const rule of [...gone.values()].flat()) removals(rule.table).command(...listOf(state, rule).remove(rule.key));
}

/** Takes every chain of ours out of a table, and what leads to them. */
function renderRemoval(table: XtablesTable, family: Family, addresses: ClusterAddresses, saved: string): string {
  const input = new TableInput(table);
  for (const hook of layoutOf(table, family, addresses).hooks)
    if (hasHook(saved, hook)) input.command(`-D ${hook.chain} ${hook.rule}`);
  for (const chain of ownChains(saved)) input.delete(chain);
  return input.render();
}
