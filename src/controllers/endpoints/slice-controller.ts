/** Keeps the EndpointSlices of every Service that selects pods. */
import type { Startable } from '../../base/startable.ts';
import { keyOf } from '../../kube/names.ts';
import type { EndpointSlice } from '../../kube/types.ts';
import { FreshStore } from '../fresh-store.ts';
import type { ControllerContext } from '../informers.ts';
import { allDone } from '../reconciling.ts';
import { isManaged, podsOf } from './selection.ts';
import { defaultMinIntervalMs, ServiceQueue, zoneLabel } from './service-queue.ts';
import { managedByLabel, serviceNameLabel } from './slice-packing.ts';
import { desiredSlices, managedBy } from './slices.ts';
import { TriggerTimes } from './trigger-times.ts';

const byService = 'managed-slices-of-service';

export class EndpointSliceController implements Startable {
  readonly #context: ControllerContext;
  readonly #slices: FreshStore<'EndpointSlice'>;
  readonly #queue: ServiceQueue;
  readonly #triggers = new TriggerTimes();

  constructor(context: ControllerContext, options: { readonly minIntervalMs?: number } = {}) {
    const { client, clock, informers } = context;
    this.#context = context;
    this.#slices = new FreshStore(informers.of('EndpointSlice'), client, clock);
    this.#slices.addIndex(byService, (slice) => serviceKeyOf(slice));
    this.#queue = new ServiceQueue(context, {
      name: 'endpoint-slices',
      minIntervalMs: options.minIntervalMs ?? defaultMinIntervalMs,
      zones: true,
      reconcile: (key) => this.#reconcile(key),
    });
    const changed = (slice: EndpointSlice) => {
      for (const key of serviceKeyOf(slice)) this.#queue.add(key);
    };
    informers.of('EndpointSlice').addHandler({
      onAdd: (slice) => this.#slices.isOwnWrite(slice) || changed(slice),
      onUpdate: (before, slice) => {
        if (this.#slices.isOwnWrite(slice)) return;
        changed(before);
        changed(slice);
      },
      onDelete: changed,
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([
      informers.of('Service').start(signal),
      informers.of('Pod').start(signal),
      informers.of('Node').start(signal),
      informers.of('EndpointSlice').start(signal),
    ]);
    await this.#queue.start(signal);
  }

  async #reconcile(key: string): Promise<boolean> {
    const { informers } = this.#context;
    const service = informers.of('Service').get(key);
    const existing = this.#slices.byIndex(byService, key);
    if (!service) {
      this.#triggers.forget(key);
      await allDone(existing.map((slice) => this.#slices.delete(slice)));
      return existing.length > 0;
    }
    if (!isManaged(service) || service.metadata.deletionTimestamp) return false;
    const nodes = informers.of('Node');
    const zoneOf = (name: string) => nodes.get(name)?.metadata.labels?.[zoneLabel];
    const pods = podsOf(service, informers.of('Pod'));
    const changedAt = this.#triggers.next(key, service, pods);
    const changes = desiredSlices({ service, pods, existing, zoneOf, changedAt });
    // Additions first: an endpoint that moves is for a moment in two slices rather than in none.
    await allDone([
      ...changes.create.map((draft) => this.#slices.create(draft)),
      ...changes.update.map((slice) => this.#slices.update(slice)),
    ]);
    await allDone(changes.delete.map((slice) => this.#slices.delete(slice)));
    return changes.create.length + changes.update.length + changes.delete.length > 0;
  }
}

function serviceKeyOf({ metadata }: EndpointSlice): readonly string[] {
  const name = metadata.labels?.[serviceNameLabel];
  return name && metadata.labels?.[managedByLabel] === managedBy
    ? [keyOf({ namespace: metadata.namespace, name })]
    : [];
}
