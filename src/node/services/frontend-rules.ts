/**
 * What the modes that write frontends one by one have in common: which ones a change touched, from what to what, and stale flows. A
 * mode brings a `FrontendBackend` that knows how frontends look in its kernel.
 */
import type { Family } from '../../base/ip.ts';
import { AppliedModels } from './applied-models.ts';
import { type EndpointText, endpointText, type Frontend, type Target } from './model.ts';
import type { ClusterAddresses, KeyedModel, RulesContext, RulesStats, ServiceRules } from './rules.ts';
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
  readonly #models: AppliedModels;
  /** What the kernel holds, by frontend key. */
  readonly #served = new Map<string, Served>();
  #addresses: ClusterAddresses;

  constructor(backend: FrontendBackend, context: RulesContext) {
    this.#backend = backend;
    this.#context = context;
    this.#families = context.families ?? [4, 6];
    this.#addresses = context.addresses;
    this.#models = new AppliedModels(context, {
      load: () => this.#load(),
      change: (dirty) => this.#change(dirty),
    });
  }

  get stats(): RulesStats {
    return this.#models.stats;
  }

  get leftovers(): number {
    return this.#models.isLoaded ? (this.#backend.leftovers ?? 0) : 0;
  }

  get services(): number {
    return this.#models.claims.size;
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
    this.invalidate();
  }

  invalidate(): void {
    this.#models.invalidate();
  }

  isIntact(): boolean {
    return !this.#models.isLoaded || this.#backend.isIntact();
  }

  apply(models: Iterable<KeyedModel>): Promise<void> {
    return this.#models.apply(models);
  }

  async #change(dirty: ReadonlySet<string>): Promise<void> {
    const changes = [...dirty].flatMap((id): FrontendChange[] => {
      const before = this.#served.get(id)?.frontend;
      const after = this.#winner(id);
      return before || after ? [{ id, before, after }] : [];
    });
    if (changes.length === 0 && this.leftovers === 0) return;
    const written = await this.#backend.change(changes);
    if (written > 0) this.#models.stats.transactions++;
    this.#models.stats.elements += written;
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
    const frontend = this.#models.claims.winner(id);
    return frontend && this.#families.includes(frontend.family) ? frontend : undefined;
  }

  async #load(): Promise<void> {
    this.#served.clear();
    const ids = [...this.#models.claims.frontendKeys()].sort();
    const frontends: Frontend[] = [];
    for (const id of ids) {
      const frontend = this.#winner(id);
      if (!frontend) continue;
      frontends.push(frontend);
      this.#served.set(id, servedBy(frontend));
    }
    this.#models.stats.elements += await this.#backend.load(frontends, this.#addresses);
    this.#models.stats.transactions++;
    this.#context.flows?.clearAll(this.#served);
  }

  remove(): void {
    this.invalidate();
    this.#backend.remove();
  }
}

const NO_ENDPOINTS: readonly EndpointText[] = [];

const textsOf = (target: Target | undefined): readonly EndpointText[] =>
  target?.kind === 'endpoints' ? target.endpoints.map(endpointText) : NO_ENDPOINTS;

function servedBy(frontend: Frontend): Served {
  return { frontend, inside: textsOf(frontend.inside), outside: textsOf(frontend.outside) };
}
