/**
 * Follows the nodes' heartbeats and marks those that have gone silent.
 *
 * A heartbeat is a change of the node's Lease or of its Ready condition's lastHeartbeatTime, timed by this machine's clock
 * when it is seen: the nodes' clocks need not agree with ours. After a restart every node has a whole grace period again, and
 * time in which this machine stood still, as one that sleeps, is nobody's silence.
 */
import { ClockJumps } from '../../base/clock-jumps.ts';
import type { Startable } from '../../base/startable.ts';
import { type ReconcileResult, WorkQueue } from '../../base/work-queue.ts';
import { conditionOf, conditionStatus, isReady } from '../../kube/conditions.ts';
import { EventRecorder } from '../../kube/events.ts';
import { isNotFound } from '../../kube/status.ts';
import type { Lease, Node, Pod } from '../../kube/types.ts';
import { FreshStore } from '../fresh-store.ts';
import type { ControllerContext } from '../informers.ts';
import { metaTime } from '../pod-state.ts';
import { addPodsByNode, podsByNode } from '../pods-by-node.ts';
import { allDone, tolerant } from '../reconciling.ts';
import { desiredTaints, healthFacts, sameTaints, silentStatus } from './health.ts';

export const leaseNamespace = 'kube-node-lease';
/** Kubernetes' --node-monitor-grace-period at the time when nodes renew every 10 s. */
export const defaultGracePeriodMs = 40_000;
/** Between two looks at the clock at most, in milliseconds. */
const LONGEST_LOOK_MS = 5_000;

interface Heartbeat {
  readonly sign: string;
  readonly at: number;
}

export interface NodeLifecycleOptions {
  /** A node that is silent for longer is not ready, in milliseconds. */
  readonly gracePeriodMs?: number;
}

export class NodeLifecycle implements Startable {
  readonly #context: ControllerContext;
  readonly #nodes: FreshStore<'Node'>;
  readonly #gracePeriodMs: number;
  readonly #heartbeats = new Map<string, Heartbeat>();
  /** The Ready status that each node's pods have been told of. */
  readonly #told = new Map<string, string>();
  readonly #ready = new Set<string>();
  readonly #queue: WorkQueue;
  readonly #events: EventRecorder;
  readonly #jumps: ClockJumps;
  readonly #lookMs: number;

  constructor(context: ControllerContext, options: NodeLifecycleOptions = {}) {
    const { client, log, clock, informers } = context;
    this.#context = context;
    this.#gracePeriodMs = options.gracePeriodMs ?? defaultGracePeriodMs;
    this.#lookMs = Math.min(LONGEST_LOOK_MS, this.#gracePeriodMs / 4);
    this.#jumps = new ClockJumps(clock, this.#lookMs);
    this.#nodes = new FreshStore(informers.of('Node'), client, clock);
    this.#events = new EventRecorder({ client, log, clock, component: 'node-controller' });
    this.#queue = new WorkQueue({
      name: 'node-lifecycle',
      log,
      clock,
      workers: 8,
      reconcile: tolerant((name) => this.#reconcile(name)),
    });
    addPodsByNode(context);
    informers.of('Node').addHandler({
      onAdd: (node) => this.#nodeAdded(node),
      onUpdate: (before, node) => this.#nodeChanged(before, node),
      onDelete: (node) => this.#nodeRemoved(node),
    });
    const beat = (lease: Lease) => {
      if (lease.metadata.namespace === leaseNamespace) this.#beat(lease.metadata.name);
    };
    informers.of('Lease').addHandler({ onAdd: beat, onUpdate: (_, lease) => beat(lease) });
    // A pod that reports itself ready from a node that is lost for us (bound late, or a write that was under way).
    informers
      .of('Pod')
      .addHandler({ onAdd: (pod) => this.#podChanged(pod), onUpdate: (_, pod) => this.#podChanged(pod) });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([
      informers.of('Node').start(signal),
      informers.of('Lease').start(signal),
      informers.of('Pod').start(signal),
    ]);
    this.#look(signal);
    this.#queue.start(signal);
  }

  #look(signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#wake();
    const timer = this.#context.clock.after(this.#lookMs, () => {
      signal.removeEventListener('abort', timer.cancel);
      this.#look(signal);
    });
    signal.addEventListener('abort', timer.cancel, { once: true });
  }

  /** The time. Whatever runs first after a standstill finds the heartbeats old; newer ones are still to be read. */
  #wake(): number {
    const jump = this.#jumps.look();
    if (jump !== 0)
      for (const [name, { sign, at }] of this.#heartbeats) this.#heartbeats.set(name, { sign, at: at + jump });
    return this.#context.clock.now();
  }

  #nodeAdded(node: Node): void {
    this.#beat(node.metadata.name);
    this.#told.set(node.metadata.name, conditionStatus(node, 'Ready'));
    this.#queue.add(node.metadata.name);
    this.#noteReady(node.metadata.name, isReady(node));
  }

  #nodeChanged(before: Node, node: Node): void {
    this.#beat(node.metadata.name);
    if (healthFacts(before) !== healthFacts(node)) this.#queue.add(node.metadata.name);
    this.#noteReady(node.metadata.name, isReady(node));
  }

  #nodeRemoved(node: Node): void {
    this.#heartbeats.delete(node.metadata.name);
    this.#told.delete(node.metadata.name);
    this.#noteReady(node.metadata.name, false);
  }

  #podChanged(pod: Pod): void {
    const node = pod.spec.nodeName && isReady(pod) ? this.#nodes.get(pod.spec.nodeName) : undefined;
    if (node && conditionStatus(node, 'Ready') === 'Unknown') this.#queue.add(node.metadata.name);
  }

  /** Whether anything may be evicted from a node depends on whether any other is ready. */
  #noteReady(name: string, ready: boolean): void {
    if (this.#ready.has(name) === ready) return;
    if (ready) this.#ready.add(name);
    else this.#ready.delete(name);
    if (this.#ready.size > 2) return;
    for (const node of this.#context.informers.of('Node').list()) this.#queue.add(node.metadata.name);
  }

  /** Notes a heartbeat if there is a new one. */
  #beat(name: string): void {
    const { informers } = this.#context;
    const now = this.#wake();
    const node = informers.of('Node').get(name);
    const lease = informers.of('Lease').get(`${leaseNamespace}/${name}`);
    const reported = conditionOf(node?.status?.conditions, 'Ready')?.lastHeartbeatTime;
    const sign = JSON.stringify([node?.metadata.uid, lease?.spec.renewTime, reported]);
    if (this.#heartbeats.get(name)?.sign !== sign) this.#heartbeats.set(name, { sign, at: now });
  }

  async #reconcile(name: string): Promise<ReconcileResult> {
    const known = this.#nodes.get(name);
    if (!known) return;
    const now = this.#wake();
    const silentAt = (this.#heartbeats.get(name)?.at ?? now) + this.#gracePeriodMs;
    const silent = silentAt <= now;
    try {
      const node = silent ? await this.#markSilent(known) : known;
      await this.#taint(node);
      await this.#tellPods(node);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    return silent ? undefined : { requeueAfterMs: silentAt - now };
  }

  async #markSilent(node: Node): Promise<Node> {
    if (conditionOf(node.status?.conditions, 'Ready')?.status === 'Unknown') return node;
    return this.#nodes.updateStatus({ ...node, status: silentStatus(node, this.#context.clock.now()) });
  }

  async #taint(node: Node): Promise<void> {
    const others = this.#ready.size - (this.#ready.has(node.metadata.name) ? 1 : 0);
    const mayEvict = others > 0;
    const taints = desiredTaints(node, mayEvict, this.#context.clock.now());
    if (sameTaints(taints, node.spec.taints ?? [])) return;
    const { uid, resourceVersion } = node.metadata;
    await this.#nodes.patch(node, { metadata: { uid, resourceVersion }, spec: { taints } });
  }

  /**
   * Pods of a node that is no longer ready are not ready either: Services drop them. A node that reports this itself is told
   * once, because it goes on reporting its pods; for a silent one nobody else speaks.
   */
  async #tellPods(node: Node): Promise<void> {
    const { name } = node.metadata;
    const ready = conditionStatus(node, 'Ready');
    const told = this.#told.get(name);
    if (ready === 'True' || (ready === 'False' && told !== 'True')) {
      this.#told.set(name, ready);
      return;
    }
    if (told === 'True') this.#events.event(node, 'Normal', 'NodeNotReady', `Node ${name} status is now: NodeNotReady`);
    const pods = this.#context.informers.of('Pod').byIndex(podsByNode, name).filter(isReady);
    await allDone(pods.map((pod) => this.#markNotReady(pod)));
    this.#told.set(name, ready);
  }

  async #markNotReady(pod: Pod): Promise<void> {
    const now = metaTime(this.#context.clock.now());
    const conditions = (pod.status?.conditions ?? []).map((condition) =>
      condition.type === 'Ready' ? { ...condition, status: 'False', lastTransitionTime: now } : condition,
    );
    try {
      await this.#context.client.updateStatus('Pod', { ...pod, status: { ...pod.status, conditions } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
      return;
    }
    this.#events.event(pod, 'Warning', 'NodeNotReady', 'Node is not ready');
  }
}
