/**
 * What the modes that write frontends one by one have in common: who owns a frontend, which ones a change touched, stale flows,
 * and what is done when the kernel refuses. A mode brings a `FrontendBackend` that knows how frontends look in its kernel.
 */
import { messageOf } from '../../base/errors.ts';
import type { Family } from '../../base/ip.ts';
import { Claims, claimProblem } from './claims.ts';
import { type EndpointText, endpointText, type Frontend, type Target } from './model.ts';
import type { ClusterAddresses, KeyedModel, RulesContext, ServiceRules } from './rules.ts';
import type { Served } from './stale-flows.ts';

/** A frontend that may have changed; neither before nor after: somebody came and went within one call. */
export interface FrontendChange {
  readonly id: string;
  readonly before: Frontend | undefined;
  readonly after: Frontend | undefined;
}

/** The frontends of a node in its kernel. Calls never overlap. */
export interface FrontendBackend {
  /** Brings the kernel to exactly these frontends whatever it holds. Returns what was written (rules, entries). */
  load(frontends: readonly Frontend[], addresses: ClusterAddresses): Promise<number>;
  /** Applies changes to what earlier calls wrote. Throws when the kernel does not hold that any more. */
  change(changes: readonly FrontendChange[]): Promise<number>;
  /** A cheap look (under a millisecond) at whether somebody took it away. */
  isIntact(): boolean;
  remove(): void;
  /** What is left to do by `change([])`, such as entries that are kept until their connections end. */
  readonly leftovers?: number;
}

export class FrontendRules implements ServiceRules {
  readonly #backend: FrontendBackend;
  readonly #context: RulesContext;
  readonly #families: readonly Family[];
  readonly #claims = new Claims();
  /** What the kernel holds, by frontend key. */
  readonly #served = new Map<string, Served>();
  #addresses: ClusterAddresses;
  #loaded = false;
  readonly stats = { transactions: 0, elements: 0, rebuilds: 0, failures: 0 };

  constructor(backend: FrontendBackend, context: RulesContext) {
    this.#backend = backend;
    this.#context = context;
    this.#families = context.families ?? [4, 6];
    this.#addresses = context.addresses;
  }

  get leftovers(): number {
    return this.#loaded ? (this.#backend.leftovers ?? 0) : 0;
  }

  get services(): number {
    return this.#claims.size;
  }

  get frontends(): number {
    return this.#served.size;
  }

  /** What the kernel holds now, as far as this process knows; for comparison with a fresh render. */
  get current(): readonly Frontend[] {
    return [...this.#served.values()].map(({ frontend }) => frontend);
  }

  endpointsOf(frontend: string): readonly string[] {
    const served = this.#served.get(frontend);
    return served ? [...served.inside, ...served.outside] : [];
  }

  setAddresses(addresses: ClusterAddresses): void {
    this.#addresses = addresses;
    this.#loaded = false;
  }

  invalidate(): void {
    this.#loaded = false;
  }

  isIntact(): boolean {
    return !this.#loaded || this.#backend.isIntact();
  }

  async apply(models: Iterable<KeyedModel>): Promise<void> {
    const dirty = new Set<string>();
    const keys: string[] = [];
    for (const [key, model] of models) {
      keys.push(key);
      this.#claims.set(key, model, dirty);
    }
    for (const key of keys)
      for (const problem of this.#claims.conflictProblems(key)) this.#context.onProblem?.(problem);
    if (!this.#loaded) return this.#load();
    try {
      await this.#change(dirty);
    } catch (error) {
      this.stats.failures++;
      this.#context.log.warn({ error }, `service rules: a change failed, writing all anew: ${messageOf(error)}`);
      this.#loaded = false;
      await this.#recover(keys);
    }
  }

  async #change(dirty: ReadonlySet<string>): Promise<void> {
    const changes = [...dirty].flatMap((id): FrontendChange[] => {
      const before = this.#served.get(id)?.frontend;
      const after = this.#winner(id);
      return before || after ? [{ id, before, after }] : [];
    });
    if (changes.length === 0 && this.leftovers === 0) return;
    const written = await this.#backend.change(changes);
    if (written > 0) this.stats.transactions++;
    this.stats.elements += written;
    for (const change of changes) this.#serve(change);
    this.#context.flows?.clear();
  }

  #serve({ id, after }: FrontendChange): void {
    const before = this.#served.get(id);
    const next = after && servedBy(after);
    this.#context.flows?.note(before, next);
    if (next) this.#served.set(id, next);
    else this.#served.delete(id);
  }

  #winner(id: string): Frontend | undefined {
    const frontend = this.#claims.winner(id);
    return frontend && this.#families.includes(frontend.family) ? frontend : undefined;
  }

  async #load(): Promise<void> {
    this.stats.rebuilds++;
    this.#served.clear();
    const ids = [...this.#claims.frontendKeys()].sort();
    const frontends: Frontend[] = [];
    for (const id of ids) {
      const frontend = this.#winner(id);
      if (!frontend) continue;
      frontends.push(frontend);
      this.#served.set(id, servedBy(frontend));
    }
    this.stats.elements += await this.#backend.load(frontends, this.#addresses);
    this.stats.transactions++;
    this.#loaded = true;
    this.#context.flows?.clearAll(this.#served);
  }

  /** Writes everything anew; if that fails too, once more without the Services of the change that failed. */
  async #recover(keys: readonly string[]): Promise<void> {
    try {
      await this.#load();
    } catch (error) {
      if (keys.length === 0 || keys.length === this.#claims.size) throw error;
      for (const key of keys) {
        const model = this.#claims.get(key);
        this.#claims.set(key, undefined, new Set());
        if (model) this.#context.onProblem?.(claimProblem(model, 'KernelRefused', `not in force: ${messageOf(error)}`));
      }
      await this.#load();
    }
  }

  remove(): void {
    this.#loaded = false;
    this.#backend.remove();
  }
}

const NO_ENDPOINTS: readonly EndpointText[] = [];

const textsOf = (target: Target | undefined): readonly EndpointText[] =>
  target?.kind === 'endpoints' ? target.endpoints.map(endpointText) : NO_ENDPOINTS;

function servedBy(frontend: Frontend): Served {
  return { frontend, inside: textsOf(frontend.inside), outside: textsOf(frontend.outside) };
}
