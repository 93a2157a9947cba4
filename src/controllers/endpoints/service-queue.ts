/**
 * The queue of Services whose endpoints may have changed: fed by Services, Pods and Nodes, worked on at once when it has
 * rested, and for one Service at most once per `minIntervalMs` under a storm.
 */
import type { Startable } from '../../base/startable.ts';
import { WorkQueue } from '../../base/work-queue.ts';
import { keyOf } from '../../kube/names.ts';
import type { Node, Pod } from '../../kube/types.ts';
import type { ControllerContext } from '../informers.ts';
import { podsByNode } from '../pods-by-node.ts';
import { tolerant } from '../reconciling.ts';
import { endpointFacts } from './endpoint-of-pod.ts';
import { addSelectionIndexes, servicesOf } from './selection.ts';

export const zoneLabel = 'topology.kubernetes.io/zone';

/** The least time between two writes for one Service. */
export const defaultMinIntervalMs = 20;

export interface ServiceQueueOptions {
  readonly name: string;
  readonly minIntervalMs: number;
  /** Resolves to whether anything was written. */
  readonly reconcile: (key: string) => Promise<boolean>;
  /** Whether zones of nodes matter. */
  readonly zones: boolean;
}

export class ServiceQueue implements Startable {
  readonly #context: ControllerContext;
  readonly #options: ServiceQueueOptions;
  readonly #queue: WorkQueue;
  readonly #lastWrite = new Map<string, number>();

  constructor(context: ControllerContext, options: ServiceQueueOptions) {
    const { log, clock, informers } = context;
    this.#context = context;
    this.#options = options;
    this.#queue = new WorkQueue({
      name: options.name,
      log,
      clock,
      workers: 8,
      reconcile: tolerant((key) => this.#paced(key)),
    });
    addSelectionIndexes(context);
    informers.of('Service').addHandler({
      onAdd: (service) => this.add(keyOf(service)),
      onUpdate: (_, service) => this.add(keyOf(service)),
      onDelete: (service) => this.add(keyOf(service)),
    });
    informers.of('Pod').addHandler({
      onAdd: (pod) => this.#podChanged(pod),
      onUpdate: (before, pod) => this.#podUpdated(before, pod),
      onDelete: (pod) => this.#podChanged(pod),
    });
    if (options.zones) {
      informers.of('Node').addHandler({
        onAdd: (node) => this.#nodeChanged(node),
        onUpdate: (before, node) => {
          if (before.metadata.labels?.[zoneLabel] !== node.metadata.labels?.[zoneLabel]) this.#nodeChanged(node);
        },
        onDelete: (node) => this.#nodeChanged(node),
      });
    }
  }

  async start(signal: AbortSignal): Promise<void> {
    this.#queue.start(signal);
  }

  add(key: string): void {
    this.#queue.add(key);
  }

  #podUpdated(before: Pod, pod: Pod): void {
    const relabelled = JSON.stringify(before.metadata.labels) !== JSON.stringify(pod.metadata.labels);
    if (!relabelled && endpointFacts(before) === endpointFacts(pod)) return;
    if (relabelled) this.#podChanged(before);
    this.#podChanged(pod);
  }

  #podChanged({ metadata }: Pod): void {
    for (const key of servicesOf(metadata.namespace, metadata.labels, this.#context.informers.of('Service'))) {
      this.add(key);
    }
  }

  #nodeChanged(node: Node): void {
    for (const pod of this.#context.informers.of('Pod').byIndex(podsByNode, node.metadata.name)) this.#podChanged(pod);
  }

  async #paced(key: string) {
    const { clock, informers } = this.#context;
    const wait = (this.#lastWrite.get(key) ?? Number.NEGATIVE_INFINITY) + this.#options.minIntervalMs - clock.now();
    if (wait > 0) return { requeueAfterMs: wait };
    const wrote = await this.#options.reconcile(key);
    if (wrote && informers.of('Service').get(key)) this.#lastWrite.set(key, clock.now());
    else this.#lastWrite.delete(key);
  }
}
