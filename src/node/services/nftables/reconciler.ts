/**
 * Brings the kernel's Service tables to what the models say, at a cost that depends on the change and not on the number of
 * Services: it keeps what it applied and writes the difference of the frontends that a change touched. The tables are never
 * listed in order to change them.
 *
 * After an error nothing is assumed: the tables are replaced as a whole, in one transaction. Connections do not notice,
 * because translation is decided once, by a connection's first packet. The same replacement takes over what an earlier
 * agent left.
 */

import { setImmediate as turn } from 'node:timers/promises';
import type { Family } from '../../../base/ip.ts';
import { isBusy } from '../../../linux/errors.ts';
import type { Nftables } from '../../../linux/nftables.ts';
import type { ElementChange, SetElements } from '../../../linux/set-elements.ts';
import { AppliedModels } from '../applied-models.ts';
import type { ClusterAddresses, KeyedModel, OpenRules, RulesContext, RulesStats, ServiceRules } from '../rules.ts';
import { changeFrontend } from './changes.ts';
import { ElementChanges, type TableState } from './element-changes.ts';
import { type Placement, place } from './placement.ts';
import { type RenderedRuleset, renderRuleset } from './render.ts';
import { tableOf } from './schema.ts';

export interface ReconcilerOptions extends RulesContext {
  /** Tables, chains and rules are text for `nft`; their elements are written without it. */
  readonly nft: Pick<Nftables, 'run' | 'runAsync' | 'list'> & {
    readonly elements: Pick<SetElements, 'commit' | 'commitAsync'>;
  };
}

/** The mode nftables, on a context that was opened in the node's namespace. */
export function nftablesRules(nft: ReconcilerOptions['nft']): OpenRules {
  return (context) => new ServicesReconciler({ ...context, nft });
}

/** Text longer than this, and more elements than that, are applied by a pool thread, so that the event loop goes on. */
const ASYNC_BYTES = 128 * 1024;
const ASYNC_ELEMENTS = 1500;
/** Frontends in one transaction of a bulk load: the next is computed while the kernel works on this one. */
const CHUNK_FRONTENDS = 1000;

export class ServicesReconciler implements ServiceRules {
  readonly #options: ReconcilerOptions;
  readonly #families: readonly Family[];
  readonly #models: AppliedModels;
  #addresses: ClusterAddresses;
  #placements = new Map<string, Placement>();
  #tables: ReadonlyMap<Family, TableState> = new Map();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#families = options.families ?? [4, 6];
    this.#addresses = options.addresses;
    this.#models = new AppliedModels(options, {
      load: () => this.#load(),
      change: (dirty) => this.#applyFrontends([...dirty]),
    });
  }

  get stats(): RulesStats {
    return this.#models.stats;
  }

  /** Elements that the next `apply` will delete. */
  get leftovers(): number {
    return [...this.#tables.values()].reduce((sum, table) => sum + table.leftovers.size, 0);
  }

  get services(): number {
    return this.#models.claims.size;
  }

  get frontends(): number {
    return this.#placements.size;
  }

  /** What the kernel holds now, by frontend key, as far as this process knows. */
  get placements(): ReadonlyMap<string, Placement> {
    return this.#placements;
  }

  endpointsOf(frontend: string): readonly string[] {
    const placement = this.#placements.get(frontend);
    return placement ? [...placement.inside, ...placement.outside] : [];
  }

  /** Changes the CIDRs of pods and Services; the next `apply` writes everything anew. */
  setAddresses(addresses: ClusterAddresses): void {
    this.#addresses = addresses;
    this.invalidate();
  }

  /** Says that the kernel may have lost what was applied: the next `apply` writes everything anew. */
  invalidate(): void {
    this.#models.invalidate();
  }

  /**
   * Applies the models of some Services, and deletes what earlier calls left. Throws a KernelError when the kernel refuses
   * also the whole ruleset; the models are kept, and calling again (with none) tries again.
   */
  apply(models: Iterable<KeyedModel>): Promise<void> {
    return this.#models.apply(models);
  }

  async #applyFrontends(ids: readonly string[]): Promise<void> {
    if (ids.length <= CHUNK_FRONTENDS) await this.#applyChunk(ids);
    else await this.#applyInChunks(ids);
    this.#options.flows?.clear();
  }

  /** At most two chunks are under way: one in the kernel, one being computed. Ends when both have ended, also in failure. */
  async #applyInChunks(ids: readonly string[]): Promise<void> {
    let before: Promise<void> = Promise.resolve();
    for (let i = 0; i < ids.length; i += CHUNK_FRONTENDS) {
      const chunk = this.#applyChunk(ids.slice(i, i + CHUNK_FRONTENDS));
      const ended = chunk.catch(() => {});
      try {
        await before;
      } catch (error) {
        await ended;
        throw error;
      }
      before = chunk;
      await turn();
    }
    await before;
  }

  /**
   * The elements are one transaction. Where they need chains that are not there yet, these come before them in one of their
   * own: it adds chains to which nothing leads.
   */
  async #applyChunk(ids: readonly string[]): Promise<void> {
    const changes = new Map(this.#families.map((family) => [family, new ElementChanges(family)]));
    for (const table of this.#tables.values()) table.leftovers.begin();
    for (const id of ids) this.#changeOne(id, changes);
    for (const [family, table] of this.#tables) table.leftovers.end(changes.get(family)!);
    const all = [...changes.values()];
    const chains = all.map((each) => each.renderChains()).join('');
    if (chains !== '') await this.#run(chains);
    await this.#write(all.flatMap((each) => each.elements()));
  }

  #changeOne(id: string, changes: ReadonlyMap<Family, ElementChanges>): void {
    const before = this.#placements.get(id);
    const frontend = this.#models.claims.winner(id);
    const after = frontend && place(frontend, before);
    const family = (after ?? before)?.frontend.family;
    const table = family && this.#tables.get(family);
    if (!table) return;
    changeFrontend(id, before, after, table, changes.get(family)!);
    this.#options.flows?.note(before, after);
    if (after) this.#placements.set(id, after);
    else this.#placements.delete(id);
  }

  /** Replaces what the tables hold. Where none are there yet nobody is served yet either, and a large load goes in parts. */
  async #load(): Promise<void> {
    const ids = [...this.#models.claims.frontendKeys()];
    const isTakeover = this.#tablesExist();
    const frontends = isTakeover ? ids.sort().map((id) => this.#models.claims.winner(id)!) : [];
    const ruleset = renderRuleset(frontends, this.#families, this.#addresses);
    this.#tables = ruleset.tables;
    this.#placements = ruleset.placements;
    if (!isTakeover || !(await this.#takeOver(ruleset))) await this.#run(ruleset.replace());
    if (!isTakeover) await this.#applyFrontends(ids);
    this.#options.flows?.clearAll(this.#placements);
  }

  /** Tries to keep the tables and what affinity remembers in them; false when their layout is another one. */
  async #takeOver({ takeover }: RenderedRuleset): Promise<boolean> {
    try {
      await this.#run(takeover.rules);
      await this.#write(takeover.elements());
      return true;
    } catch (error) {
      this.#options.log.info({ error }, 'service rules: the tables cannot be refilled and are replaced');
      return false;
    }
  }

  #tablesExist(): boolean {
    return this.#families.some((family) => this.#listDispatch(family) !== undefined);
  }

  /**
   * Whether nobody has deleted or flushed the tables (as a firewall's `flush ruleset` does), told by the smallest map in
   * them: listing one small map costs 0.1 ms, a chain or the names of tables cost libnftables 1.0.6 a dump of everything.
   */
  isIntact(): boolean {
    return (
      !this.#models.isLoaded || this.#families.every((family) => this.#listDispatch(family)?.includes('goto refuse'))
    );
  }

  #listDispatch(family: Family): string | undefined {
    try {
      return this.#options.nft.list(`map ${tableOf(family)} dispatch`);
    } catch (error) {
      if (isBusy(error)) return 'goto refuse';
      return undefined;
    }
  }

  async #run(text: string): Promise<void> {
    this.#models.stats.transactions++;
    const { nft } = this.#options;
    if (text.length > ASYNC_BYTES) return nft.runAsync(text);
    await orQueued(
      () => nft.run(text),
      () => nft.runAsync(text),
    );
  }

  async #write(changes: readonly ElementChange[]): Promise<void> {
    if (changes.length === 0) return;
    const { elements } = this.#options.nft;
    const count = changes.reduce((sum, each) => sum + (each.elements === 'all' ? 0 : each.elements.length), 0);
    this.#models.stats.transactions++;
    if (count > ASYNC_ELEMENTS) await elements.commitAsync(changes);
    else
      await orQueued(
        () => elements.commit(changes),
        () => elements.commitAsync(changes),
      );
    this.#models.stats.elements += count;
  }

  /** Deletes the tables: nothing of podwire's Services stays in the kernel. */
  remove(): void {
    this.invalidate();
    this.#options.nft.run(
      this.#families.map((family) => `add table ${tableOf(family)}\ndelete table ${tableOf(family)}\n`).join(''),
    );
  }
}

/** Does it at once, or, where a transaction of another is in the pool, behind that. */
async function orQueued(now: () => void, queued: () => Promise<void>): Promise<void> {
  try {
    now();
  } catch (error) {
    if (!isBusy(error)) throw error;
    await queued();
  }
}
