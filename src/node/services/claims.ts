/**
 * Who owns which frontend. Two Services may ask for one external address and port (the API cannot forbid it), or a Service
 * and a host port for one port of a node: the smaller claim has it, whatever the order in which they came, and when it
 * goes the next one gets it.
 */
import { type Frontend, frontendKey, type Problem, type ServiceModel } from './model.ts';

interface Claimant {
  readonly model: ServiceModel;
  readonly frontends: ReadonlyMap<string, Frontend>;
}

const NO_FRONTENDS: ReadonlyMap<string, Frontend> = new Map();

export class Claims {
  readonly #claimants = new Map<string, Claimant>();
  /** The key of the only claimant, as nearly always, or a set of keys. */
  readonly #byFrontend = new Map<string, string | Set<string>>();

  /** Services (and pods with host ports) that are known. */
  get size(): number {
    return this.#claimants.size;
  }

  /** The keys of all frontends that anybody claims. */
  frontendKeys(): IterableIterator<string> {
    return this.#byFrontend.keys();
  }

  get(key: string): ServiceModel | undefined {
    return this.#claimants.get(key)?.model;
  }

  /** Puts or removes what one Service asks for; every frontend that may have changed is added to `dirty`. */
  set(key: string, model: ServiceModel | undefined, dirty: Set<string>): void {
    const before = this.#claimants.get(key)?.frontends ?? NO_FRONTENDS;
    const frontends = model ? new Map(model.frontends.map((each) => [frontendKey(each), each])) : NO_FRONTENDS;
    for (const id of before.keys()) {
      dirty.add(id);
      if (!frontends.has(id)) this.#withdraw(id, key);
    }
    for (const id of frontends.keys()) {
      dirty.add(id);
      if (!before.has(id)) this.#enter(id, key);
    }
    if (model) this.#claimants.set(key, { model, frontends });
    else this.#claimants.delete(key);
  }

  #enter(id: string, key: string): void {
    const known = this.#byFrontend.get(id);
    if (known === undefined) this.#byFrontend.set(id, key);
    else if (typeof known === 'string') this.#byFrontend.set(id, new Set([known, key]));
    else known.add(key);
  }

  #withdraw(id: string, key: string): void {
    const known = this.#byFrontend.get(id);
    if (known === key) this.#byFrontend.delete(id);
    else if (known instanceof Set) {
      known.delete(key);
      if (known.size === 1) this.#byFrontend.set(id, [...known][0]!);
    }
  }

  /** The frontend of whoever owns the address and port, if anybody does. */
  winner(id: string): Frontend | undefined {
    const owner = this.ownerOf(id);
    return owner === undefined ? undefined : this.#claimants.get(owner)?.frontends.get(id);
  }

  /** The key of the Service that owns a frontend. */
  ownerOf(id: string): string | undefined {
    const known = this.#byFrontend.get(id);
    if (!(known instanceof Set)) return known;
    const claim = (key: string) => this.#claimants.get(key)!.model.claim;
    return [...known].reduce((best, key) => (claim(key) < claim(best) ? key : best));
  }

  /** What is to be told of a Service whose frontends somebody else owns. */
  conflictProblems(key: string): readonly Problem[] {
    const model = this.get(key);
    if (!model) return [];
    return this.conflictsOf(key).map(({ frontend, owner }) =>
      claimProblem(model, 'FrontendConflict', `${frontend.replaceAll(' . ', ' ')} already belongs to ${owner}`),
    );
  }

  /** The frontends of a Service that somebody else owns. */
  conflictsOf(key: string): readonly { readonly frontend: string; readonly owner: string }[] {
    const conflicts = [];
    for (const id of this.#claimants.get(key)?.frontends.keys() ?? []) {
      if (typeof this.#byFrontend.get(id) === 'string') continue;
      const owner = this.ownerOf(id);
      if (owner !== undefined && owner !== key) conflicts.push({ frontend: id, owner });
    }
    return conflicts;
  }
}

/** Something to be told of a Service, or of a pod with host ports. */
export function claimProblem({ key }: ServiceModel, reason: Problem['reason'], message: string): Problem {
  const [namespace, name] = key.replace(/^pod:/, '').split('/') as [string, string];
  return { kind: key.startsWith('pod:') ? 'Pod' : 'Service', namespace, name, reason, message };
}
