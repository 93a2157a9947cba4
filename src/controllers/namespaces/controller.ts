/**
 * Empties a namespace that is being deleted, then lets it go.
 *
 * Pods go first and everything else only after the last of them, so that no pod outlives the NetworkPolicies, Secrets and
 * Services it relies on (KEP-5080). What remains is listed on the server itself, not in a copy, each time.
 */
import type { Startable } from '../../base/startable.ts';
import { type ReconcileResult, WorkQueue } from '../../base/work-queue.ts';
import { conditionOf } from '../../kube/conditions.ts';
import { apiResources } from '../../kube/names.ts';
import { isNotFound } from '../../kube/status.ts';
import type { KindName, Namespace } from '../../kube/types.ts';
import type { ControllerContext } from '../informers.ts';
import { metaTime } from '../pod-state.ts';
import { allDone, tolerant } from '../reconciling.ts';

const finalizer = 'kubernetes';
/** Pods that end in their grace period are looked at again when the watch tells of them, and at least this often. */
const againMs = 1000;

interface Remaining {
  readonly kind: KindName;
  readonly count: number;
  /** Finalizers that hold objects back, with how many each. */
  readonly finalizers: ReadonlyMap<string, number>;
}

export class NamespaceController implements Startable {
  readonly #context: ControllerContext;
  readonly #kinds: readonly KindName[];
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext) {
    const { log, clock, informers } = context;
    this.#context = context;
    this.#kinds = (Object.keys(apiResources) as KindName[]).filter((kind) => apiResources[kind].namespaced);
    this.#queue = new WorkQueue({
      name: 'namespaces',
      log,
      clock,
      workers: 4,
      reconcile: tolerant((name) => this.#reconcile(name)),
    });
    informers.of('Namespace').addHandler({
      onAdd: (namespace) => this.#changed(namespace),
      onUpdate: (_, namespace) => this.#changed(namespace),
    });
    informers.of('Pod').addHandler({
      onDelete: ({ metadata }) => {
        const namespace = informers.of('Namespace').get(metadata.namespace);
        if (namespace) this.#changed(namespace);
      },
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([informers.of('Namespace').start(signal), informers.of('Pod').start(signal)]);
    this.#queue.start(signal);
  }

  #changed({ metadata }: Namespace): void {
    if (metadata.deletionTimestamp) this.#queue.add(metadata.name);
  }

  async #reconcile(name: string): Promise<ReconcileResult> {
    const namespace = this.#context.informers.of('Namespace').get(name);
    if (!namespace?.metadata.deletionTimestamp || !namespace.spec?.finalizers?.includes(finalizer)) return;
    const remaining = await this.#empty(name);
    try {
      const current = await this.#context.client.get('Namespace', { name });
      if (current.metadata.uid !== namespace.metadata.uid) return;
      if (remaining.length > 0) {
        await this.#report(current, remaining);
        return { requeueAfterMs: againMs };
      }
      const finalizers = (current.spec?.finalizers ?? []).filter((one) => one !== finalizer);
      await this.#context.client.updateSubresource(
        'Namespace',
        { ...current, spec: { ...current.spec, finalizers } },
        'finalize',
      );
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  /** Deletes what is there; gives what is still there afterwards. */
  async #empty(namespace: string): Promise<readonly Remaining[]> {
    const pods = await this.#emptyOf('Pod', namespace);
    if (pods) return [pods];
    const others = this.#kinds.filter((kind) => kind !== 'Pod');
    const remaining = await allDone(others.map((kind) => this.#emptyOf(kind, namespace)));
    return remaining.filter((one) => one !== undefined);
  }

  async #emptyOf(kind: KindName, namespace: string): Promise<Remaining | undefined> {
    const { client } = this.#context;
    const { items } = await client.list(kind, { namespace });
    if (items.length === 0) return undefined;
    // Sixteen at a time: a large namespace must not take all of the server.
    const waiting = items.filter((item) => !item.metadata.deletionTimestamp).values();
    const worker = async () => {
      for (const item of waiting) await this.#delete(kind, item.metadata);
    };
    await allDone(Array.from({ length: 16 }, worker));
    const left = await client.list(kind, { namespace });
    if (left.items.length === 0) return undefined;
    const finalizers = new Map<string, number>();
    for (const { metadata } of left.items) {
      for (const name of metadata.finalizers ?? []) finalizers.set(name, (finalizers.get(name) ?? 0) + 1);
    }
    return { kind, count: left.items.length, finalizers };
  }

  async #delete(kind: KindName, at: { name: string; namespace?: string; uid: string }): Promise<void> {
    const options = { propagationPolicy: 'Background', preconditions: { uid: at.uid } } as const;
    try {
      await this.#context.client.delete(kind, at, options);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  /** Says in the conditions what the deletion waits for. */
  async #report(namespace: Namespace, remaining: readonly Remaining[]): Promise<void> {
    const content = remaining
      .map(({ kind, count }) => `${pluralName(kind)} has ${count} resource instances`)
      .sort()
      .join(', ');
    const held = new Map<string, number>();
    for (const { finalizers } of remaining) {
      for (const [name, count] of finalizers) held.set(name, (held.get(name) ?? 0) + count);
    }
    const holding = [...held].map(([name, count]) => `${name} in ${count} resource instances`).sort();
    const wanted = [
      this.#condition(namespace, 'NamespaceContentRemaining', true, {
        reason: 'SomeResourcesRemain',
        message: `Some resources are remaining: ${content}`,
      }),
      this.#condition(namespace, 'NamespaceFinalizersRemaining', holding.length > 0, {
        reason: holding.length > 0 ? 'SomeFinalizersRemain' : 'ContentHasNoFinalizers',
        message:
          holding.length > 0
            ? `Some content in the namespace has finalizers remaining: ${holding.join(', ')}`
            : 'All content-preserving finalizers finished',
      }),
    ];
    const types = wanted.map(({ type }) => type);
    const others = (namespace.status?.conditions ?? []).filter(({ type }) => !types.includes(type));
    const conditions = [...others, ...wanted];
    if (JSON.stringify(conditions) === JSON.stringify(namespace.status?.conditions)) return;
    await this.#context.client.updateStatus('Namespace', {
      ...namespace,
      status: { ...namespace.status, phase: 'Terminating', conditions },
    });
  }

  #condition(namespace: Namespace, type: string, holds: boolean, texts: { reason: string; message: string }) {
    const status = holds ? 'True' : 'False';
    const old = conditionOf(namespace.status?.conditions, type);
    if (old?.status === status && old.reason === texts.reason && old.message === texts.message) return old;
    const now = metaTime(this.#context.clock.now());
    return { type, status, lastTransitionTime: old?.status === status ? old.lastTransitionTime : now, ...texts };
  }
}

/** "pods." or "endpointslices.discovery.k8s.io", as Kubernetes writes it. */
function pluralName(kind: KindName): string {
  return `${apiResources[kind].plural}.${apiResources[kind].group}`;
}
