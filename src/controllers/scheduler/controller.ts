/**
 * Watches for pods without a node and binds them.
 *
 * A decision is made at once and without waiting, on the cluster as it is including what was decided before; only the
 * binding waits for the server, so that a burst is decided in order and bound in parallel. Pods that fit nowhere wait in a
 * set, at most one entry a pod, and are tried again when a node or a placed pod changes.
 */
import { BoundedRunner } from '../../base/bounded-runner.ts';
import type { Startable } from '../../base/startable.ts';
import { type ReconcileResult, WorkQueue } from '../../base/work-queue.ts';
import { conditionOf, conditionStatus } from '../../kube/conditions.ts';
import { EventRecorder } from '../../kube/events.ts';
import { keyOf } from '../../kube/names.ts';
import { isConflict, isNotFound } from '../../kube/status.ts';
import type { Node, Pod, PodStatus } from '../../kube/types.ts';
import type { ControllerContext } from '../informers.ts';
import { isPodActive, metaTime } from '../pod-state.ts';
import { tolerant } from '../reconciling.ts';
import { ClusterState } from './cluster-state.ts';
import { schedule } from './schedule.ts';

const schedulerName = 'default-scheduler';
/** Bindings under way at the same time. */
const workers = 16;
/** Pods that fit nowhere are tried again at most this often. */
const retryIntervalMs = 50;
/** What was bound starts meanwhile undisturbed. */
const eventsLullMs = 200;

export class Scheduler implements Startable {
  readonly #context: ControllerContext;
  readonly #state = new ClusterState();
  readonly #queue: WorkQueue;
  readonly #unschedulable = new Set<string>();
  readonly #retry: BoundedRunner;
  readonly #events: EventRecorder;

  constructor(context: ControllerContext) {
    const { client, log, clock, informers } = context;
    this.#context = context;
    this.#events = new EventRecorder({ client, log, clock, component: schedulerName, lullMs: eventsLullMs });
    this.#queue = new WorkQueue({
      name: 'scheduler',
      log,
      clock,
      workers,
      reconcile: tolerant((key) => this.#reconcile(key)),
    });
    this.#retry = new BoundedRunner({
      name: 'scheduler-retry',
      log,
      clock,
      minIntervalMs: retryIntervalMs,
      run: () => this.#retryUnschedulable(),
    });
    informers.of('Namespace');
    informers.of('Node').addHandler({
      onAdd: (node) => this.#nodeChanged(undefined, node),
      onUpdate: (before, node) => this.#nodeChanged(before, node),
      onDelete: (node) => this.#state.removeNode(node.metadata.name),
    });
    informers.of('Pod').addHandler({
      onAdd: (pod) => this.#podChanged(undefined, pod),
      onUpdate: (before, pod) => this.#podChanged(before, pod),
      onDelete: (pod) => this.#podRemoved(pod),
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([
      informers.of('Namespace').start(signal),
      informers.of('Node').start(signal),
      informers.of('Pod').start(signal),
    ]);
    this.#retry.start(signal);
    this.#queue.start(signal);
  }

  #nodeChanged(before: Node | undefined, node: Node): void {
    this.#state.setNode(node);
    if (!before || schedulingFacts(before) !== schedulingFacts(node)) this.#retry.trigger();
  }

  #podChanged(before: Pod | undefined, pod: Pod): void {
    const key = keyOf(pod);
    this.#state.setPod(pod);
    if (pod.spec.nodeName) {
      this.#unschedulable.delete(key);
      const relevant = !before?.spec.nodeName || isPodActive(before) !== isPodActive(pod) || !sameLabels(before, pod);
      if (relevant && this.#unschedulable.size > 0) this.#retry.trigger();
    } else if (isOurs(pod) && !(before && onlyStatusChanged(before, pod))) this.#queue.add(key);
  }

  #podRemoved(pod: Pod): void {
    const key = keyOf(pod);
    this.#state.removePod(key);
    this.#unschedulable.delete(key);
    if (this.#unschedulable.size > 0) this.#retry.trigger();
  }

  #retryUnschedulable(): void {
    const keys = [...this.#unschedulable];
    this.#unschedulable.clear();
    for (const key of keys) this.#queue.add(key);
  }

  async #reconcile(key: string): Promise<ReconcileResult> {
    const { informers } = this.#context;
    const pod = informers.of('Pod').get(key);
    if (!pod || !isOurs(pod) || pod.spec.nodeName || !isPodActive(pod) || this.#state.isAssumed(key)) return;
    if (pod.spec.schedulingGates?.length) {
      return this.#report(pod, 'SchedulingGated', 'Scheduling is blocked due to non-empty scheduling gates');
    }
    const namespaceLabels = (name: string) => informers.of('Namespace').get(name)?.metadata.labels;
    const decision = schedule(pod, { nodes: this.#state.nodes, namespaceLabels });
    if (decision.type === 'bind') return this.#bind(pod, decision.nodeName);
    this.#unschedulable.add(key);
    this.#events.event(pod, 'Warning', 'FailedScheduling', decision.message);
    await this.#report(pod, 'Unschedulable', decision.message);
  }

  async #bind(pod: Pod, nodeName: string): Promise<ReconcileResult> {
    const { name, namespace, uid } = pod.metadata;
    this.#state.assume(pod, nodeName);
    try {
      await this.#context.client.bind({ name, namespace, uid }, nodeName);
    } catch (error) {
      this.#state.forget(pod);
      // Gone, or bound by someone else: the watch will tell. Should it be neither, look again.
      if (isNotFound(error)) return;
      if (isConflict(error)) return { requeueAfterMs: 100 };
      throw error;
    }
    this.#events.event(pod, 'Normal', 'Scheduled', `Successfully assigned ${keyOf(pod)} to ${nodeName}`);
  }

  /** Writes why the pod is not scheduled into its condition, once. */
  async #report(pod: Pod, reason: string, message: string): Promise<void> {
    const conditions = pod.status?.conditions ?? [];
    const old = conditionOf(conditions, 'PodScheduled');
    if (old?.status === 'False' && old.reason === reason && old.message === message) return;
    const now = metaTime(this.#context.clock.now());
    const lastTransitionTime = old?.status === 'False' ? old.lastTransitionTime : now;
    const condition = { type: 'PodScheduled', status: 'False', reason, message, lastTransitionTime };
    const status: PodStatus = {
      ...pod.status,
      conditions: [...conditions.filter((one) => one.type !== 'PodScheduled'), condition],
    };
    try {
      await this.#context.client.updateStatus('Pod', { ...pod, status });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

function isOurs(pod: Pod): boolean {
  return (pod.spec.schedulerName || schedulerName) === schedulerName;
}

/** What of a node decides about scheduling: heartbeats and images do not. */
function schedulingFacts(node: Node): string {
  const { metadata, spec, status } = node;
  const conditions = (status?.conditions ?? []).map(({ type }) => [type, conditionStatus(node, type)]);
  return JSON.stringify([metadata.labels, spec.taints, spec.unschedulable, status?.allocatable, conditions]);
}

function sameLabels(a: Pod, b: Pod): boolean {
  return JSON.stringify(a.metadata.labels) === JSON.stringify(b.metadata.labels);
}

/** Our own condition writes come back as changes: they are no reason to try again. */
function onlyStatusChanged(before: Pod, pod: Pod): boolean {
  return (
    before.metadata.generation === pod.metadata.generation &&
    sameLabels(before, pod) &&
    JSON.stringify(before.spec) === JSON.stringify(pod.spec)
  );
}
