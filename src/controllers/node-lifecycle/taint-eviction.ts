/** Deletes pods from nodes whose NoExecute taints they do not tolerate, or no longer. */
import type { Startable } from '../../base/startable.ts';
import { type ReconcileResult, WorkQueue } from '../../base/work-queue.ts';
import { EventRecorder } from '../../kube/events.ts';
import { keyOf } from '../../kube/names.ts';
import { isNotFound } from '../../kube/status.ts';
import type { Node, Pod } from '../../kube/types.ts';
import { withDisruptionTarget } from '../disruption.ts';
import type { ControllerContext } from '../informers.ts';
import { isPodTerminal } from '../pod-state.ts';
import { addPodsByNode, podsByNode } from '../pods-by-node.ts';
import { tolerant } from '../reconciling.ts';
import { evictionTime } from './eviction.ts';

export class TaintEviction implements Startable {
  readonly #context: ControllerContext;
  readonly #restartGraceMs: number;
  readonly #planned = new Set<string>();
  readonly #queue: WorkQueue;
  readonly #events: EventRecorder;
  #notBefore = 0;

  /** @param options.restartGraceMs after a start, silent nodes have this long to report before pods are evicted */
  constructor(context: ControllerContext, options: { readonly restartGraceMs: number }) {
    const { client, log, clock, informers } = context;
    this.#context = context;
    this.#restartGraceMs = options.restartGraceMs;
    this.#events = new EventRecorder({ client, log, clock, component: 'taint-eviction-controller' });
    this.#queue = new WorkQueue({
      name: 'taint-eviction',
      log,
      clock,
      workers: 8,
      reconcile: tolerant((key) => this.#reconcile(key)),
    });
    addPodsByNode(context);
    informers.of('Pod').addHandler({
      onAdd: (pod) => this.#queue.add(keyOf(pod)),
      onUpdate: (before, pod) => {
        const moved =
          before.spec.nodeName !== pod.spec.nodeName || before.metadata.generation !== pod.metadata.generation;
        if (moved) this.#queue.add(keyOf(pod));
      },
      onDelete: (pod) => this.#planned.delete(keyOf(pod)),
    });
    informers.of('Node').addHandler({
      onAdd: (node) => this.#nodeChanged(node),
      onUpdate: (before, node) => {
        if (JSON.stringify(before.spec.taints) !== JSON.stringify(node.spec.taints)) this.#nodeChanged(node);
      },
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers, clock } = this.#context;
    await Promise.all([informers.of('Node').start(signal), informers.of('Pod').start(signal)]);
    this.#notBefore = clock.now() + this.#restartGraceMs;
    this.#queue.start(signal);
  }

  #nodeChanged(node: Node): void {
    for (const pod of this.#context.informers.of('Pod').byIndex(podsByNode, node.metadata.name)) {
      this.#queue.add(keyOf(pod));
    }
  }

  async #reconcile(key: string): Promise<ReconcileResult> {
    const { informers, clock } = this.#context;
    const pod = informers.of('Pod').get(key);
    const node = pod?.spec.nodeName ? informers.of('Node').get(pod.spec.nodeName) : undefined;
    if (!pod || !node || pod.metadata.deletionTimestamp || isPodTerminal(pod)) return;
    const eviction = evictionTime(pod, node, this.#notBefore, clock.now());
    if (eviction.type === 'never') {
      if (this.#planned.delete(key)) {
        this.#events.event(pod, 'Normal', 'TaintManagerEviction', `Cancelling deletion of Pod ${key}`);
      }
      return;
    }
    const wait = eviction.at - clock.now();
    if (wait > 0) {
      this.#planned.add(key);
      return { requeueAfterMs: wait };
    }
    await this.#evict(pod);
  }

  async #evict(pod: Pod): Promise<void> {
    const { client, clock } = this.#context;
    const { uid } = pod.metadata;
    this.#events.event(pod, 'Normal', 'TaintManagerEviction', `Marking for deletion Pod ${keyOf(pod)}`);
    const target = {
      reason: 'DeletionByTaintManager',
      message: 'Taint manager: deleting due to NoExecute taint',
    };
    try {
      await client.updateStatus('Pod', withDisruptionTarget(pod, target, clock.now()));
      await client.delete('Pod', pod.metadata, { preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}
