/**
 * How many packets each policy denied on this node, exactly: the kernel counts in the elements of the denied sets (`Deniers`),
 * this adds up what it says. Counters that go are read a last time when nothing leads to them any more, so nothing is lost
 * when a pod's policies change; only a table that somebody else removed takes what was not read yet with it.
 */
import { type DeniedSet, type Deniers, deniedSets, directionOf } from './deniers.ts';
import type { ElementChange } from './elements.ts';
import type { NftablesAccess } from './reconciler.ts';
import { layoutOf } from './sets.ts';

export interface DeniedByPolicy {
  readonly direction: 'ingress' | 'egress';
  /** "namespace/name"; a ClusterNetworkPolicy by its name alone; '' for pods that nobody knows yet. */
  readonly policy: string;
  readonly packets: number;
}

export interface DeniedCountsOptions {
  readonly nft: Pick<NftablesAccess, 'elements'>;
  readonly deniers: Deniers;
  /** So many policies have a count of their own; default 10,000. The oldest of those that are gone make room. */
  readonly most?: number;
}

const usualMost = 10_000;

export class DeniedCounts {
  readonly #options: DeniedCountsOptions;
  /** By "direction policy". */
  readonly #totals = new Map<string, number>();
  /** What each counter said last, by "set key". */
  readonly #last = new Map<string, number>();

  constructor(options: DeniedCountsOptions) {
    this.#options = options;
  }

  /** Reads the counters and returns all counts, sorted. Throws a KernelError. */
  read(): DeniedByPolicy[] {
    for (const set of deniedSets) this.#readSet(set);
    return [...this.#totals.keys()].sort().map((key) => {
      const [direction, policy] = key.split(' ') as ['ingress' | 'egress', string];
      return { direction, policy, packets: this.#totals.get(key)! };
    });
  }

  /** Whether these changes take counters away: then `read` must come between what leads to them and their end. */
  concerns(changes: readonly ElementChange[]): boolean {
    return changes.some(({ set, after }) => after === undefined && (deniedSets as readonly string[]).includes(set));
  }

  /** These counters are gone; those of the same names that may come begin at 0. */
  forget(changes: readonly ElementChange[]): void {
    for (const { set, key, after } of changes) {
      if (after !== undefined || !(deniedSets as readonly string[]).includes(set)) continue;
      this.#last.delete(`${set} ${key}`);
      this.#options.deniers.forget(set as DeniedSet, key);
    }
  }

  /** The whole table is new: every counter begins at 0. */
  restart(): void {
    this.#last.clear();
  }

  #readSet(set: DeniedSet): void {
    const { nft, deniers } = this.#options;
    for (const [key, packets] of nft.elements.counters(layoutOf(set))) {
      const policies = deniers.policies(set, key);
      if (!policies) continue;
      const name = `${set} ${key}`;
      const more = packets - (this.#last.get(name) ?? 0);
      this.#last.set(name, packets);
      for (const policy of policies.length ? policies : ['']) this.#add(`${directionOf(set)} ${policy}`, more);
    }
  }

  /** A policy is listed from its first moment, with 0, so that a rate can be made of its first packet. */
  #add(key: string, packets: number): void {
    this.#totals.set(key, (this.#totals.get(key) ?? 0) + packets);
    if (this.#totals.size <= (this.#options.most ?? usualMost)) return;
    this.#totals.delete(this.#totals.keys().next().value!);
  }
}
