/**
 * Who owns which frontend. Two Services may ask for one external address and port (the API cannot forbid it), or a Service
 * and a host port for one port of a node: the smaller claim has it, whatever the order in which they came, and when it
 * goes the next one gets it.
 */
import { type Frontend, frontendKey, type Problem, type ServiceModel } from './model.ts';

interface Claim {
  /** Whose it is. */
  readonly key: string;
  readonly frontend: Frontend;
}

const NO_CONFLICTS: readonly { readonly frontend: string; readonly owner: string }[] = [];

const NO_PROBLEMS: readonly Problem[] = [];

export class Claims {
  readonly #claimants = new Map<string, ServiceModel>();
  /** The only claim, as nearly always, or several. */
  readonly #byFrontend = new Map<string, Claim | readonly Claim[]>();
  /** Frontends with several claims. */
  #contested = 0;

  /** Services (and pods with host ports) that are known. */
  get size(): number {
    return this.#claimants.size;
  }

  /** The keys of all frontends that anybody claims. */
  frontendKeys(): IterableIterator<string> {
    return this.#byFrontend.keys();
  }

  get(key: string): ServiceModel | undefined {
    return this.#claimants.get(key);
  }

  /** Puts or removes what one Service asks for; every frontend that may have changed is added to `dirty`, if anybody asks. */
  set(key: string, model: ServiceModel | undefined, dirty?: Set<string>): void {
    const before = this.#claimants.get(key);
    if (before) this.#leave(key, before, dirty);
    if (!model) {
      this.#claimants.delete(key);
      return;
    }
    for (const frontend of model.frontends) {
      const id = frontendKey(frontend);
      dirty?.add(id);
      this.#enter(id, { key, frontend });
    }
    this.#claimants.set(key, model);
  }

  #leave(key: string, { frontends }: ServiceModel, dirty: Set<string> | undefined): void {
    for (const frontend of frontends) {
      const id = frontendKey(frontend);
      dirty?.add(id);
      this.#withdraw(id, key);
    }
  }

  #enter(id: string, claim: Claim): void {
    const known = this.#byFrontend.get(id);
    if (known !== undefined && !isSeveral(known)) this.#contested++;
    this.#byFrontend.set(id, known === undefined ? claim : [...claimsOf(known), claim]);
  }

  #withdraw(id: string, key: string): void {
    const known = this.#byFrontend.get(id)!;
    const others = claimsOf(known).filter((claim) => claim.key !== key);
    if (isSeveral(known) && others.length < 2) this.#contested--;
    if (others.length === 0) this.#byFrontend.delete(id);
    else this.#byFrontend.set(id, others.length === 1 ? others[0]! : others);
  }

  /** The frontend of whoever owns the address and port, if anybody does. */
  winner(id: string): Frontend | undefined {
    return this.#best(id)?.frontend;
  }

  /** The key of the Service that owns a frontend. */
  ownerOf(id: string): string | undefined {
    return this.#best(id)?.key;
  }

  #best(id: string): Claim | undefined {
    const known = this.#byFrontend.get(id);
    if (!isSeveral(known)) return known;
    const model = ({ key }: Claim) => this.#claimants.get(key)!;
    return known.reduce((best, other) => (isBefore(model(other), model(best)) ? other : best));
  }

  /** What is to be told of a Service whose frontends somebody else owns. */
  conflictProblems(key: string): readonly Problem[] {
    const conflicts = this.conflictsOf(key);
    if (conflicts.length === 0) return NO_PROBLEMS;
    const model = this.get(key)!;
    return conflicts.map(({ frontend, owner }) =>
      claimProblem(model, 'FrontendConflict', `${frontend.replaceAll(' . ', ' ')} already belongs to ${owner}`),
    );
  }

  /** The frontends of a Service that somebody else owns. */
  conflictsOf(key: string): typeof NO_CONFLICTS {
    let conflicts = NO_CONFLICTS;
    if (this.#contested === 0) return conflicts;
    for (const frontend of this.#claimants.get(key)?.frontends ?? []) {
      const id = frontendKey(frontend);
      if (!isSeveral(this.#byFrontend.get(id))) continue;
      const owner = this.ownerOf(id)!;
      if (owner !== key) conflicts = [...conflicts, { frontend: id, owner }];
    }
    return conflicts;
  }
}

/** Services before host ports, then the older, then by name. */
function isBefore(a: ServiceModel, b: ServiceModel): boolean {
  if (isOfPod(a) !== isOfPod(b)) return isOfPod(b);
  return a.created === b.created ? a.key < b.key : a.created < b.created;
}

function isOfPod({ key }: Pick<ServiceModel, 'key'>): boolean {
  return key.startsWith('pod:');
}

function isSeveral(known: Claim | readonly Claim[] | undefined): known is readonly Claim[] {
  return Array.isArray(known);
}

function claimsOf(known: Claim | readonly Claim[]): readonly Claim[] {
  return isSeveral(known) ? known : [known];
}

/** Something to be told of a Service, or of a pod with host ports. */
export function claimProblem({ key }: ServiceModel, reason: Problem['reason'], message: string): Problem {
  const [namespace, name] = key.replace(/^pod:/, '').split('/') as [string, string];
  return { kind: isOfPod({ key }) ? 'Pod' : 'Service', namespace, name, reason, message };
}
