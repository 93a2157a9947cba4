/**
 * `status.conditions` of ClusterNetworkPolicies: what the engine makes of a policy, where its author looks.
 *
 * The API leaves the types of conditions to the implementation ("Status is the status to be reported by the
 * implementation"). `Accepted` follows from the policy alone, so all nodes say the same and whoever comes first writes it;
 * `RulesNotLoaded.NODE` is there while the kernel of a node refuses its rules, and only then.
 *
 * Writes are few and may fail: each is made after a random moment, from the newest object that the informer knows, with its
 * resourceVersion, so that of many nodes one writes and the others find it written.
 */
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { Condition } from '../../kube/cluster-network-policy.ts';
import { isConflict, isNotFound } from '../../kube/status.ts';
import type { ClusterNetworkPolicy } from '../../kube/types.ts';
import type { Problem } from './compile.ts';

export interface PolicyStatusOptions {
  readonly nodeName: string;
  readonly client: Pick<KubeClient, 'updateStatus'>;
  readonly log: Logger;
  readonly clock: Clock;
  /** Between 0 and 1. */
  readonly random?: () => number;
}

/** A write waits up to so long, milliseconds; others may have said the same meanwhile. */
const spreadMs = 400;
const retryMs = 5000;
/** metav1.Condition's bound. */
const longestMessage = 32_768;

interface Known {
  policy: ClusterNetworkPolicy;
  problems: readonly Problem[];
}

export class PolicyStatus {
  readonly #options: PolicyStatusOptions;
  readonly #policies = new Map<string, Known>();
  readonly #waiting = new Set<string>();
  #trouble: string | undefined;
  #stopped = false;

  constructor(options: PolicyStatusOptions) {
    this.#options = options;
  }

  /** A policy as the informer has it now, and what the compiler says of it. */
  tell(policy: ClusterNetworkPolicy, problems: readonly Problem[]): void {
    const { name } = policy.metadata;
    this.#policies.set(name, { policy, problems });
    this.#consider(name);
  }

  forget(name: string): void {
    this.#policies.delete(name);
  }

  /** Why this node's kernel has not the rules that it shall have; undefined when it has. */
  tellTrouble(message: string | undefined): void {
    if (message === this.#trouble) return;
    this.#trouble = message;
    for (const name of this.#policies.keys()) this.#consider(name);
  }

  stop(): void {
    this.#stopped = true;
  }

  #consider(name: string): void {
    if (this.#waiting.has(name) || this.#stopped || !this.#outdated(name)) return;
    this.#waiting.add(name);
    this.#options.clock.after((this.#options.random ?? Math.random)() * spreadMs, () => {
      this.#waiting.delete(name);
      void this.#write(name);
    });
  }

  /** The conditions to be written; undefined when they stand there already, or the policy is gone. */
  #outdated(name: string): Condition[] | undefined {
    const known = this.#policies.get(name);
    if (!known) return undefined;
    const before = canonical(known.policy.status?.conditions ?? []);
    const after = this.#conditions(known, before);
    return JSON.stringify(before) === JSON.stringify(after) ? undefined : after;
  }

  async #write(name: string): Promise<void> {
    const conditions = this.#outdated(name);
    if (!conditions || this.#stopped) return;
    const { policy } = this.#policies.get(name)!;
    try {
      await this.#options.client.updateStatus('ClusterNetworkPolicy', { ...policy, status: { conditions } });
    } catch (error) {
      // Somebody else wrote; the informer tells of it, and then it is considered again.
      if (isConflict(error) || isNotFound(error)) return;
      this.#options.log.debug({ policy: name, error }, `status of a policy: ${messageOf(error)}`);
      this.#options.clock.after(retryMs, () => this.#consider(name));
    }
  }

  /** What others wrote stays; equal conditions keep the time of their last transition. */
  #conditions({ policy, problems }: Known, before: readonly Condition[]): Condition[] {
    const { nodeName } = this.#options;
    const here = `RulesNotLoaded.${nodeName}`;
    const observedGeneration = policy.metadata.generation;
    const of = (type: string, status: Condition['status'], reason: string, message: string): Condition => {
      const old = before.find((each) => each.type === type);
      const since = old?.status === status ? old.lastTransitionTime : timestamp(this.#options.clock.now());
      return {
        type,
        status,
        ...(observedGeneration === undefined ? {} : { observedGeneration }),
        lastTransitionTime: since,
        reason,
        message: message.slice(0, longestMessage),
      };
    };
    const own = [
      problems.length === 0
        ? of('Accepted', 'True', 'Accepted', 'every rule is understood and enforced')
        : of('Accepted', 'False', 'NotEnforceable', `not understood, so it fails closed: ${problemText(problems)}`),
      ...(this.#trouble === undefined ? [] : [of(here, 'True', 'KernelRefused', this.#trouble)]),
    ];
    const others = before.filter(({ type }) => type !== 'Accepted' && type !== here);
    return canonical([...own, ...others]);
  }
}

/** "spec.ingress[0].from[1]: must have a peer; …". */
export function problemText(problems: readonly Problem[]): string {
  return problems.map(({ field, message }) => `${field}: ${message}`).join('; ');
}

/** Conditions and their fields in one order, whoever stored them. */
function canonical(conditions: readonly Condition[]): Condition[] {
  return [...conditions].sort((a, b) => (a.type < b.type ? -1 : 1)).map(inOrder);
}

function inOrder({ type, status, observedGeneration, lastTransitionTime, reason, message }: Condition): Condition {
  const generation = observedGeneration === undefined ? {} : { observedGeneration };
  return { type, status, ...generation, lastTransitionTime, reason, message };
}

/** metav1.Time: seconds. */
function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
