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
import type { KubeClient } from '../../kube/client.ts';
import type { InformerHandler } from '../../kube/informer.ts';
import { keyOf } from '../../kube/names.ts';
import type { ClusterNetworkPolicy, Namespace, NetworkPolicy, Node, Pod } from '../../kube/types.ts';
import type { Problem } from './compile.ts';
import { type DeniedByPolicy, DeniedCounts } from './denied-counts.ts';
import { DomainNames, type ResolvedAddress } from './domain-names.ts';
import { PolicyModel } from './model.ts';
import { PodArrivals, within } from './pod-arrivals.ts';
import { canonicalAddresses } from './pod-facts.ts';
import { PolicyStatus, problemText } from './policy-status.ts';
import { type Applied, type NftablesAccess, PolicyReconciler } from './reconciler.ts';
import { table } from './render.ts';
import { tablePlace } from './sets.ts';

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
    /** As peers of ClusterNetworkPolicies; without them no address is a node's. */
    readonly nodes?: PolicyInformer<Node>;
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
  /** For the status of ClusterNetworkPolicies; without it none is written. */
  readonly client?: Pick<KubeClient, 'updateStatus'>;
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
  readonly #counts: DeniedCounts;
  readonly #names: DomainNames;
  readonly #status: PolicyStatus | undefined;
  readonly #runner: BoundedRunner;
  readonly #ready = Promise.withResolvers<void>();
  /** Of ClusterNetworkPolicies, by name. */
  readonly #problems = new Map<string, readonly Problem[]>();
  readonly #arrivals: PodArrivals;
  #isReady = false;
  #applying: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #checkedAt = 0;

  constructor(options: PolicyControllerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#clock = options.clock ?? systemClock;
    this.#arrivals = new PodArrivals(this.#clock);
    this.#model = new PolicyModel({ nodeName: options.nodeName });
    this.#counts = new DeniedCounts({ nft: options.nft, deniers: this.#model.deniers });
    this.#reconciler = new PolicyReconciler({ nft: options.nft, log: options.log, counts: this.#counts });
    this.#names = new DomainNames({
      wants: (name) => this.#model.wantsName(name),
      set: (address, names) => this.#model.setNames(address, names),
      onExpired: () => this.#changed(),
      clock: this.#clock,
    });
    const { client, nodeName, log } = options;
    this.#status = client && new PolicyStatus({ client, nodeName, log, clock: this.#clock });
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
    const { pods, namespaces, policies, clusterPolicies, nodes } = this.#options.informers;
    const attached = this.#options.attachments?.() ?? [];
    await Promise.all([
      pods.start(signal),
      namespaces.start(signal),
      policies.start(signal),
      clusterPolicies?.start(signal),
      nodes?.start(signal),
    ]);
    for (const pod of await attached) this.#attach(pod);
    this.#listen(signal);
    await this.#firstApply(signal);
    this.#isReady = true;
    this.#ready.resolve();
    this.#runner.start(signal);
  }

  #changed(): void {
    if (this.#isReady) this.#runner.trigger();
  }

  #listen(signal: AbortSignal): void {
    const { pods, namespaces, policies, clusterPolicies, nodes } = this.#options.informers;
    const changed = () => this.#changed();
    const setNode = (node: Node) => {
      this.#model.setNode(node);
      changed();
    };
    const setPod = (pod: Pod) => {
      this.#model.setPod(pod);
      this.#arrivals.tell(keyOf(pod));
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
    const setClusterPolicy = (policy: ClusterNetworkPolicy, before?: ClusterNetworkPolicy) =>
      this.#setClusterPolicy(policy, before);
    const removals = [
      clusterPolicies?.addHandler({
        onAdd: setClusterPolicy,
        onUpdate: (before, after) => setClusterPolicy(after, before),
        onDelete: (policy) => {
          this.#model.deleteClusterPolicy(policy.metadata.name);
          this.#problems.delete(policy.metadata.name);
          this.#status?.forget(policy.metadata.name);
          changed();
        },
      }),
      nodes?.addHandler({
        onAdd: setNode,
        onUpdate: (_, after) => setNode(after),
        onDelete: (node) => {
          this.#model.deleteNode(node.metadata.name);
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
      this.#names.stop();
      this.#status?.stop();
    };
    signal.addEventListener('abort', stop, { once: true });
  }

  /** A new status is no new policy. */
  #setClusterPolicy(policy: ClusterNetworkPolicy, before: ClusterNetworkPolicy | undefined): void {
    const { name } = policy.metadata;
    if (!before || JSON.stringify(before.spec) !== JSON.stringify(policy.spec)) {
      const { problems } = this.#model.setClusterPolicy(policy);
      this.#problems.set(name, problems);
      this.#tellProblems(policy, before, problems);
      this.#changed();
    }
    this.#status?.tell(policy, this.#problems.get(name) ?? []);
  }

  /** Once for each new content: an event on the policy, where its author looks. */
  #tellProblems<T extends NetworkPolicy | ClusterNetworkPolicy>(
    policy: T,
    before: T | undefined,
    problems: readonly Problem[],
  ): void {
    if (problems.length === 0) return;
    if (before && JSON.stringify(before.spec) === JSON.stringify(policy.spec)) return;
    this.#log.warn(
      { policy: keyOf(policy), problems },
      'a policy cannot be enforced as it is; what is not understood fails closed',
    );
    this.#options.events?.event(
      policy,
      'Warning',
      'PolicyNotEnforceable',
      `Not understood, so it fails closed: ${problemText(problems)}`,
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
    const applied = await this.#reconcile();
    if (applied.how !== 'nothing') this.#log.debug({ ...applied }, 'policy rules applied');
  }

  async #reconcile(): Promise<Applied> {
    try {
      const applied = await this.#reconciler.apply(this.#model.elements);
      this.#status?.tellTrouble(undefined);
      return applied;
    } catch (error) {
      this.#status?.tellTrouble(messageOf(error));
      throw error;
    }
  }

  /**
   * The hook of the node's DNS server, before it sends an answer: `names` are the one that was asked and those its aliases
   * led to. Resolves when the addresses are allowed where policies allow the names; at once when no policy names them.
   * Never rejects: where the kernel refuses, the addresses stay denied.
   */
  async resolved(names: readonly string[], addresses: readonly ResolvedAddress[]): Promise<void> {
    if (!this.#isReady || !this.#names.learn(names, addresses)) return;
    try {
      await this.#apply();
    } catch (error) {
      this.#log.warn({ error, names }, `policy: the addresses of a name are not allowed yet: ${messageOf(error)}`);
    }
  }

  /**
   * The network plugin's hook: resolves when the pod's rules are in the kernel. A pod whose API object does not come in
   * time starts completely isolated until it does. Rejects, so that the pod does not start, when the rules of the node
   * are not known or cannot be loaded.
   */
  async attached(pod: AttachedPod): Promise<void> {
    this.#attach(pod);
    const { syncTimeoutMs = 20_000, podTimeoutMs = 2000 } = this.#options;
    if (!this.#isReady) await within(this.#ready.promise, syncTimeoutMs, this.#clock, 'first sync');
    const isKnown = () => this.#model.hasPod(pod.uid);
    const wasKnown = isKnown();
    await this.#apply();
    if (wasKnown) return;
    // It may have come during the transaction, too late to be in it.
    if (isKnown() || (await this.#arrivals.comes(keyOf(pod), isKnown, podTimeoutMs))) await this.#apply();
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

  /** Packets denied on this node since the table was loaded, by direction; undefined at moments when nft is at work. */
  deniedPackets(): { readonly ingress: number; readonly egress: number } | undefined {
    const { elements } = this.#options.nft;
    try {
      const of = (direction: string) => elements.counter(tablePlace, `${direction}_denied`);
      return { ingress: of('ingress'), egress: of('egress') };
    } catch (error) {
      this.#log.debug({ error }, `counters: ${messageOf(error)}`);
      return undefined;
    }
  }

  /**
   * The same by policy, exactly: a packet that NetworkPolicies deny counts for each one that isolates the pod, a packet that
   * a ClusterNetworkPolicy denies for that one. Undefined at moments when nft is at work.
   */
  deniedByPolicy(): DeniedByPolicy[] | undefined {
    try {
      return this.#counts.read();
    } catch (error) {
      this.#log.debug({ error }, `counters by policy: ${messageOf(error)}`);
      return undefined;
    }
  }
}
