/**
 * Keeps the kernel's policy rules of this node true: informers and the network plugin feed the model, changes are applied at
 * a bounded frequency, and a new pod waits until its rules are in the kernel.
 *
 * Nothing is applied before all informers have synced: a half-known cluster would open holes. Until then the rules of the
 * agent's former life stay in force.
 */
import { BoundedRunner } from '../../base/bounded-runner.ts';
import { type Clock, systemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { InformerHandler } from '../../kube/informer.ts';
import { keyOf } from '../../kube/names.ts';
import type { ClusterNetworkPolicy, Namespace, NetworkPolicy, Pod } from '../../kube/types.ts';
import type { Problem } from './compile.ts';
import { PolicyModel } from './model.ts';
import { canonicalAddresses } from './pod-facts.ts';
import { type Applied, type NftablesAccess, PolicyReconciler } from './reconciler.ts';
import { table } from './render.ts';

/** A pod's network on this node: the shape of the network plugin's hook. */
export interface AttachedPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly ips: readonly string[];
  readonly hostInterface: string;
}

/** What is needed of an informer. */
export interface PolicyInformer<T> {
  readonly hasSynced: boolean;
  start(signal: AbortSignal): Promise<void>;
  addHandler(handler: InformerHandler<T>): () => void;
}

export interface PolicyControllerOptions {
  readonly nodeName: string;
  /** Of the whole cluster. Started here too, which is harmless when they run already. */
  readonly informers: {
    readonly pods: PolicyInformer<Pod>;
    readonly namespaces: PolicyInformer<Namespace>;
    readonly policies: PolicyInformer<NetworkPolicy>;
    /** Absent where the API server does not know the kind. */
    readonly clusterPolicies?: PolicyInformer<ClusterNetworkPolicy>;
  };
  /** A context of its own in the node's namespace: it is busy while a long transaction runs. */
  readonly nft: NftablesAccess;
  readonly log: Logger;
  /** For events on policies that cannot be enforced as they are. */
  readonly events?: {
    event(
      object: NetworkPolicy | ClusterNetworkPolicy,
      type: 'Normal' | 'Warning',
      reason: string,
      message: string,
    ): void;
  };
  /** The pods whose interfaces exist already, from the network plugin's own store; asked once, before the first rules. */
  readonly attachments?: () => readonly AttachedPod[] | Promise<readonly AttachedPod[]>;
  /** Ends the flows of a pod's addresses (conntrack) when the pod is gone, so that no successor inherits them. */
  readonly forgetFlows?: (addresses: readonly string[]) => void | Promise<void>;
  readonly clock?: Clock;
  /** How long a new pod waits for the first sync before it is refused; default 20 s. */
  readonly syncTimeoutMs?: number;
  /** How long a new pod waits for its own API object before it starts isolated; default 2 s. */
  readonly podTimeoutMs?: number;
}

/** Under a storm of changes the kernel is written to at most once per this. A lone change goes at once. */
const minIntervalMs = 10;
/** Looks whether the table is still there, this often. */
const checkIntervalMs = 30_000;

export class PolicyController implements Startable {
  readonly #options: PolicyControllerOptions;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #model: PolicyModel;
  readonly #reconciler: PolicyReconciler;
  readonly #runner: BoundedRunner;
  readonly #ready = Promise.withResolvers<void>();
  readonly #waitingForPod = new Map<string, Set<() => void>>();
  #isReady = false;
  #applying: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #checkedAt = 0;

  constructor(options: PolicyControllerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#clock = options.clock ?? systemClock;
    this.#model = new PolicyModel({ nodeName: options.nodeName });
    this.#reconciler = new PolicyReconciler({ nft: options.nft, log: options.log });
    this.#runner = new BoundedRunner({
      name: 'policy',
      run: () => this.#runOnce(),
      log: options.log,
      minIntervalMs,
      maxIntervalMs: checkIntervalMs,
      clock: this.#clock,
    });
  }

  /** Resolves when the kernel has the rules of everything the informers know. */
  async start(signal: AbortSignal): Promise<void> {
    const { pods, namespaces, policies, clusterPolicies } = this.#options.informers;
    const attached = this.#options.attachments?.() ?? [];
    await Promise.all([
      pods.start(signal),
      namespaces.start(signal),
      policies.start(signal),
      clusterPolicies?.start(signal),
    ]);
    for (const pod of await attached) this.#attach(pod);
    this.#listen(signal);
    await this.#firstApply(signal);
    this.#isReady = true;
    this.#ready.resolve();
    this.#runner.start(signal);
  }

  #listen(signal: AbortSignal): void {
    const { pods, namespaces, policies, clusterPolicies } = this.#options.informers;
    const changed = () => {
      if (this.#isReady) this.#runner.trigger();
    };
    const setPod = (pod: Pod) => {
      this.#model.setPod(pod);
      for (const wake of this.#waitingForPod.get(keyOf(pod)) ?? []) wake();
      changed();
    };
    const setNamespace = (namespace: Namespace) => {
      this.#model.setNamespace(namespace);
      changed();
    };
    const setPolicy = (policy: NetworkPolicy, before?: NetworkPolicy) => {
      this.#tellProblems(policy, before, this.#model.setPolicy(policy).problems);
      changed();
    };
    const setClusterPolicy = (policy: ClusterNetworkPolicy, before?: ClusterNetworkPolicy) => {
      this.#tellProblems(policy, before, this.#model.setClusterPolicy(policy).problems);
      changed();
    };
    const removals = [
      clusterPolicies?.addHandler({
        onAdd: setClusterPolicy,
        onUpdate: (before, after) => setClusterPolicy(after, before),
        onDelete: (policy) => {
          this.#model.deleteClusterPolicy(policy.metadata.name);
          changed();
        },
      }),
      namespaces.addHandler({
        onAdd: setNamespace,
        onUpdate: (_, after) => setNamespace(after),
        onDelete: (namespace) => {
          this.#model.deleteNamespace(namespace.metadata.name);
          changed();
        },
      }),
      policies.addHandler({
        onAdd: setPolicy,
        onUpdate: (before, after) => setPolicy(after, before),
        onDelete: (policy) => {
          this.#model.deletePolicy(keyOf(policy));
          changed();
        },
      }),
      pods.addHandler({
        onAdd: setPod,
        onUpdate: (_, after) => setPod(after),
        onDelete: (pod) => {
          this.#model.deletePod(keyOf(pod));
          changed();
        },
      }),
    ];
    const stop = () => {
      for (const remove of removals) remove?.();
    };
    signal.addEventListener('abort', stop, { once: true });
  }

  /** Once for each new content: an event on the policy, where its author looks. */
  #tellProblems<T extends NetworkPolicy | ClusterNetworkPolicy>(
    policy: T,
    before: T | undefined,
    problems: readonly Problem[],
  ): void {
    if (problems.length === 0) return;
    if (before && JSON.stringify(before.spec) === JSON.stringify(policy.spec)) return;
    const text = problems.map(({ field, message }) => `${field}: ${message}`).join('; ');
    this.#log.warn(
      { policy: keyOf(policy), problems },
      'a policy cannot be enforced as it is; what is not understood fails closed',
    );
    this.#options.events?.event(
      policy,
      'Warning',
      'PolicyNotEnforceable',
      `Not understood, so it fails closed: ${text}`,
    );
  }

  async #firstApply(signal: AbortSignal): Promise<void> {
    for (let failures = 0; ; failures++) {
      try {
        await this.#apply();
        return;
      } catch (error) {
        this.#log.error({ error }, `policy rules could not be loaded: ${messageOf(error)}`);
        await this.#clock.sleep(Math.min(5000, 50 * 2 ** Math.min(failures, 10)), signal);
      }
    }
  }

  async #runOnce(): Promise<void> {
    const now = this.#clock.now();
    if (now - this.#checkedAt >= checkIntervalMs) {
      this.#checkedAt = now;
      if (!this.#applying && !this.#reconciler.checkIntact()) {
        this.#log.warn(`the table ${table} was removed or changed by somebody else; it is put back`);
      }
    }
    await this.#apply();
  }

  /**
   * Brings the kernel up to now. Calls during a run share the next one, so that a crowd of new pods costs two transactions.
   */
  #apply(): Promise<void> {
    if (!this.#applying) {
      this.#applying = this.#applyNow().finally(() => {
        this.#applying = undefined;
      });
      return this.#applying;
    }
    this.#next ??= this.#applying
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        return this.#apply();
      });
    return this.#next;
  }

  async #applyNow(): Promise<void> {
    // Let everything of this turn of the event loop join the same transaction.
    await Promise.resolve();
    this.#model.settle();
    const applied: Applied = await this.#reconciler.apply(this.#model.elements);
    if (applied.how !== 'nothing') this.#log.debug({ ...applied }, 'policy rules applied');
  }

  /**
   * The network plugin's hook: resolves when the pod's rules are in the kernel. A pod whose API object does not come in
   * time starts completely isolated until it does. Rejects, so that the pod does not start, when the rules of the node
   * are not known or cannot be loaded.
   */
  async attached(pod: AttachedPod): Promise<void> {
    this.#attach(pod);
    if (!this.#isReady) await this.#until(this.#ready.promise, this.#options.syncTimeoutMs ?? 20_000, 'first sync');
    await this.#apply();
    if (this.#model.hasPod(pod.uid)) return;
    if (await this.#podComes(pod)) await this.#apply();
    else
      this.#log.warn(
        { pod: keyOf(pod), uid: pod.uid },
        'the API does not know this new pod yet: it is isolated until then',
      );
  }

  /** The network plugin's hook: the pod's addresses mean nothing any more when this resolves. */
  async detached(pod: Pick<AttachedPod, 'uid' | 'ips'>): Promise<void> {
    this.#model.detach(pod.uid, canonicalAddresses(pod.ips));
    // Before the first sync the next agent's life decides: no new pod starts before it either.
    if (this.#isReady) await this.#apply();
    await this.#options.forgetFlows?.(pod.ips);
  }

  #attach({ uid, namespace, name, ips }: AttachedPod): void {
    this.#model.attach({ uid, namespace, name, addresses: canonicalAddresses(ips) });
  }

  async #podComes(pod: AttachedPod): Promise<boolean> {
    const key = keyOf(pod);
    const came = Promise.withResolvers<void>();
    const wake = () => {
      if (this.#model.hasPod(pod.uid)) came.resolve();
    };
    const waiting = this.#waitingForPod.get(key) ?? new Set();
    this.#waitingForPod.set(key, waiting.add(wake));
    try {
      await this.#until(came.promise, this.#options.podTimeoutMs ?? 2000, 'pod');
      return true;
    } catch {
      return false;
    } finally {
      waiting.delete(wake);
      if (waiting.size === 0) this.#waitingForPod.delete(key);
    }
  }

  async #until(promise: Promise<void>, ms: number, what: string): Promise<void> {
    const timeout = Promise.withResolvers<never>();
    const timer = this.#clock.after(ms, () =>
      timeout.reject(new Error(`policy: no ${what} within ${ms} ms; the pod must not start without its rules`)),
    );
    try {
      await Promise.race([promise, timeout.promise]);
    } finally {
      timer.cancel();
    }
  }

  /** Packets denied on this node since the table was loaded, by direction; undefined at moments when nft is at work. */
  deniedPackets(): { readonly ingress: number; readonly egress: number } | undefined {
    let listing: readonly unknown[];
    try {
      listing = this.#options.nft.listJson(`counters table ${table}`);
    } catch (error) {
      this.#log.debug({ error }, `counters: ${messageOf(error)}`);
      return undefined;
    }
    const counters = listing as { readonly counter?: { readonly name: string; readonly packets: number } }[];
    const of = (name: string) => counters.find(({ counter }) => counter?.name === name)?.counter?.packets ?? 0;
    return { ingress: of('ingress_denied'), egress: of('egress_denied') };
  }
}
