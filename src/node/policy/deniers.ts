/**
 * Who denies: the elements whose counters tell how many packets each policy dropped, and the names behind them.
 *
 * A packet that NetworkPolicies drop is dropped by all that isolate the pod in that direction, because each of them alone
 * would have done it; it counts for each. A packet that a ClusterNetworkPolicy's rule drops counts for that policy alone.
 */
import type { Direction } from './compile.ts';
import type { Elements } from './elements.ts';

/** "denied_ingress": by class; "tier_denied_ingress": by the mark that stands for a ClusterNetworkPolicy. */
export type DeniedSet = `denied_${Direction}` | `tier_denied_${Direction}`;

export const deniedSets: readonly DeniedSet[] = [
  'denied_ingress',
  'denied_egress',
  'tier_denied_ingress',
  'tier_denied_egress',
];

export function directionOf(set: DeniedSet): Direction {
  return set.endsWith('ingress') ? 'ingress' : 'egress';
}

export class Deniers {
  readonly #elements: Elements;
  readonly #policies = new Map<string, readonly string[]>();

  constructor(elements: Elements) {
    this.#elements = elements;
  }

  /** `policies` as metrics name them: "namespace/name", a ClusterNetworkPolicy by its name alone. */
  add(set: DeniedSet, key: string, policies: readonly string[]): void {
    this.#policies.set(`${set} ${key}`, policies);
    this.#elements.put(set, key);
  }

  /** The name behind it is kept until `forget`: its last count is read when nothing refers to it any more. */
  delete(set: DeniedSet, key: string): void {
    this.#elements.delete(set, key, true);
  }

  /**
   * Empty for what isolates without a policy: an address of which nobody knows whose it is. Undefined for what the kernel
   * still has of a former life.
   */
  policies(set: DeniedSet, key: string): readonly string[] | undefined {
    return this.#policies.get(`${set} ${key}`);
  }

  forget(set: DeniedSet, key: string): void {
    if (this.#elements.get(set, key) === undefined) this.#policies.delete(`${set} ${key}`);
  }
}
