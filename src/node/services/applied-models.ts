/**
 * The models that a mode was given, and how they come into force: as a change of what the kernel has, or, at the start and when
 * nothing is certain any more, as a whole. What is done when the kernel refuses is the same in every mode that writes frontends.
 */
import { messageOf } from '../../base/errors.ts';
import { Claims, claimProblem } from './claims.ts';
import type { KeyedModel, RulesContext } from './rules.ts';

/** How a mode writes what is claimed. */
export interface ClaimsWriter {
  /** Brings the kernel to all that is claimed, whatever it holds. */
  load(): Promise<void>;
  /** Brings these frontends, by key, to what is claimed, and does what earlier calls left; the rest is as it was written. */
  change(dirty: ReadonlySet<string>): Promise<void>;
}

export class AppliedModels {
  readonly claims = new Claims();
  readonly stats = { transactions: 0, elements: 0, rebuilds: 0, failures: 0 };
  readonly #context: RulesContext;
  readonly #writer: ClaimsWriter;
  #isLoaded = false;

  constructor(context: RulesContext, writer: ClaimsWriter) {
    this.#context = context;
    this.#writer = writer;
  }

  /** Whether the kernel has what was written, as far as this process knows. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** The next `apply` writes everything anew. */
  invalidate(): void {
    this.#isLoaded = false;
  }

  /** As `ServiceRules.apply`. */
  async apply(models: Iterable<KeyedModel>): Promise<void> {
    const dirty = this.#isLoaded ? new Set<string>() : undefined;
    const keys: string[] = [];
    for (const [key, model] of models) {
      keys.push(key);
      this.claims.set(key, model, dirty);
    }
    for (const key of keys) for (const problem of this.claims.conflictProblems(key)) this.#context.onProblem?.(problem);
    if (!dirty) return this.#load();
    try {
      await this.#writer.change(dirty);
    } catch (error) {
      this.stats.failures++;
      this.#context.log.warn({ error }, `service rules: a change failed, writing all anew: ${messageOf(error)}`);
      this.#isLoaded = false;
      await this.#recover(keys);
    }
  }

  async #load(): Promise<void> {
    this.stats.rebuilds++;
    await this.#writer.load();
    this.#isLoaded = true;
  }

  /** Writes everything anew; if that fails too, once more without the Services of the change that failed. */
  async #recover(keys: readonly string[]): Promise<void> {
    try {
      await this.#load();
    } catch (error) {
      if (keys.length === 0 || keys.length === this.claims.size) throw error;
      for (const key of keys) {
        const model = this.claims.get(key);
        this.claims.set(key, undefined);
        if (model) this.#context.onProblem?.(claimProblem(model, 'KernelRefused', `not in force: ${messageOf(error)}`));
      }
      await this.#load();
    }
  }
}
