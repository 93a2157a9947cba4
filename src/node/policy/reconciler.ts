/**
 * Brings the kernel's table to what the model wants, by the smallest transactions. After a restart the old table is taken
 * over element by element, so that nothing that is right is touched; after an error everything is put in place anew, in one
 * transaction. Until a transaction is committed the last state stays in force: there is no moment without rules.
 *
 * Elements are written without nft. The table itself, its chains and its declarations are text for nft, which is needed at the
 * agent's start, and where a table must be replaced as a whole: nothing else can do that in one transaction.
 */
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { isNotFound } from '../../linux/errors.ts';
import type { SetElements } from '../../linux/set-elements.ts';
import { loadOf, type Transaction, transactionsOf } from './changes.ts';
import type { DeniedCounts } from './denied-counts.ts';
import type { ElementChange, Elements } from './elements.ts';
import { readKernelState, takeoverChanges } from './kernel-state.ts';
import { type Logging, layoutChain, renderEmptyTable, renderReplacement, table } from './render.ts';
import { logGroup, tableName, tablePlace } from './sets.ts';

/** What is needed of src/linux's Nftables. */
export interface NftablesAccess {
  run(text: string): void;
  runAsync(text: string): Promise<void>;
  listJson(what: string): unknown[];
  readonly elements: Pick<SetElements, 'commit' | 'commitAsync' | 'hasChain' | 'counter' | 'counters'>;
}

export interface ReconcilerOptions {
  readonly nft: NftablesAccess;
  readonly log: Logger;
  /** Reads the counters of elements that are about to go. */
  readonly counts?: Pick<DeniedCounts, 'read' | 'concerns' | 'forget' | 'restart'>;
}

export interface Applied {
  /** 'adopted' after a restart, 'replaced' when there was no table of this layout or after an error. */
  readonly how: 'nothing' | 'changes' | 'adopted' | 'replaced';
  readonly transactions: number;
  readonly elements: number;
}

/** Longer texts (about 1 ms of kernel work) run on a pool thread and leave the event loop free. */
const longText = 32 * 1024;
/** So do more elements (about 4 ms). Two hundred new pods have 1,200 and are kept waiting by a change of threads. */
const manyElements = 1500;

/** A table that is gone at the end of its transaction: refused as a whole where the kernel has no log groups. */
const logProbe = `add table inet ${tableName}-probe
add chain inet ${tableName}-probe c
add rule inet ${tableName}-probe c log group ${logGroup}
delete table inet ${tableName}-probe
`;

export class PolicyReconciler {
  readonly #nft: NftablesAccess;
  readonly #log: Logger;
  /** What is known of the kernel: nothing yet; exactly what was applied; that something went wrong. */
  #kernel: 'unknown' | 'exact' | 'broken' = 'unknown';
  /** Whether the kernel has log groups; asked once. */
  #logging: Logging | undefined;

  readonly #counts: ReconcilerOptions['counts'];

  constructor({ nft, log, counts }: ReconcilerOptions) {
    this.#nft = nft;
    this.#log = log;
    this.#counts = counts;
  }

  /** One call at a time. Throws when even the replacement fails; the kernel then has its last state. */
  async apply(elements: Elements): Promise<Applied> {
    if (this.#kernel === 'unknown') return this.#takeOver(elements);
    if (this.#kernel === 'broken') return this.#replace(elements);
    const changes = elements.take();
    if (changes.length === 0) return { how: 'nothing', transactions: 0, elements: 0 };
    return this.#change('changes', changes, elements);
  }

  /**
   * Whether the table is still there, asked by the chain that names its layout: 20 us, while a listing would cost as much as
   * the table is large. When somebody removed it, the next `apply` puts it back.
   */
  checkIntact(): boolean {
    if (this.#kernel !== 'exact') return false;
    try {
      if (this.#nft.elements.hasChain(tablePlace, layoutChain(this.#loggingHere()))) return true;
    } catch (error) {
      this.#log.debug({ error }, `the table cannot be asked for: ${messageOf(error)}`);
    }
    this.#kernel = 'broken';
    return false;
  }

  async #takeOver(elements: Elements): Promise<Applied> {
    const kernel = this.#readKernel();
    if (kernel === 'absent') return this.#load(elements);
    if (!kernel?.layoutMatches) return this.#replace(elements);
    elements.take();
    const changes = takeoverChanges(elements, kernel);
    return this.#change('adopted', changes, elements);
  }

  #readKernel() {
    try {
      return readKernelState(this.#nft.listJson(`table ${table}`), this.#loggingHere());
    } catch (error) {
      this.#log.debug({ error }, `no table to take over: ${messageOf(error)}`);
      return isNotFound(error) ? 'absent' : undefined;
    }
  }

  /**
   * Where there is no table nobody is isolated yet, and nobody is by a table whose sets are empty: so first the table, then all
   * elements in one transaction.
   */
  async #load(elements: Elements): Promise<Applied> {
    elements.take();
    const content = loadOf(elements);
    try {
      await this.#run(renderEmptyTable(this.#loggingHere()));
      await this.#write(content);
    } catch (error) {
      this.#log.warn({ error }, `policy rules could not be loaded, trying them as text: ${messageOf(error)}`);
      return this.#replace(elements);
    }
    this.#kernel = 'exact';
    return { how: 'replaced', transactions: 2, elements: content.size };
  }

  async #change(how: Applied['how'], changes: readonly ElementChange[], elements: Elements): Promise<Applied> {
    const transactions = transactionsOf(changes);
    try {
      for (const transaction of transactions) {
        // Counters go in the second transaction, when packets do not come to them any more.
        if (this.#counts?.concerns(transaction.changes)) this.#readCounts();
        await this.#write(transaction);
        this.#counts?.forget(transaction.changes);
      }
    } catch (error) {
      this.#log.warn({ error }, `policy rules could not be changed, putting all in place anew: ${messageOf(error)}`);
      this.#kernel = 'broken';
      return this.#replace(elements);
    }
    this.#kernel = 'exact';
    return { how, transactions: transactions.length, elements: changes.length };
  }

  async #replace(elements: Elements): Promise<Applied> {
    const changes = elements.take();
    this.#kernel = 'broken';
    this.#readCounts();
    await this.#run(renderReplacement(elements, this.#loggingHere()));
    this.#counts?.restart();
    this.#counts?.forget(changes);
    this.#kernel = 'exact';
    return { how: 'replaced', transactions: 1, elements: elements.size };
  }

  #readCounts(): void {
    try {
      this.#counts?.read();
    } catch (error) {
      this.#log.debug({ error }, `the counters of denied packets cannot be read: ${messageOf(error)}`);
    }
  }

  #loggingHere(): Logging {
    if (this.#logging) return this.#logging;
    try {
      this.#nft.run(logProbe);
      this.#logging = 'log';
    } catch (error) {
      this.#log.warn({ error }, `denied packets cannot be logged on this kernel, only counted: ${messageOf(error)}`);
      this.#logging = 'silent';
    }
    return this.#logging;
  }

  async #write({ writes, size }: Pick<Transaction, 'writes' | 'size'>): Promise<void> {
    const { elements } = this.#nft;
    if (size > manyElements) await elements.commitAsync(writes);
    else elements.commit(writes);
  }

  async #run(text: string): Promise<void> {
    if (text.length > longText) await this.#nft.runAsync(text);
    else this.#nft.run(text);
  }
}
