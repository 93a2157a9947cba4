/** Keeps the slices of Endpoints objects that users wrote for Services without a selector. */
import type { Startable } from '../../base/startable.ts';
import { WorkQueue } from '../../base/work-queue.ts';
import { keyOf } from '../../kube/names.ts';
import type { EndpointSlice } from '../../kube/types.ts';
import { FreshStore } from '../fresh-store.ts';
import type { ControllerContext } from '../informers.ts';
import { allDone, tolerant } from '../reconciling.ts';
import { isMirrored, mirroredBy, mirroredSlices } from './mirroring.ts';
import { managedByLabel, serviceNameLabel } from './slice-packing.ts';

const byService = 'mirrored-slices-of-service';

export class EndpointSliceMirroring implements Startable {
  readonly #context: ControllerContext;
  readonly #slices: FreshStore<'EndpointSlice'>;
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext) {
    const { client, log, clock, informers } = context;
    this.#context = context;
    this.#slices = new FreshStore(informers.of('EndpointSlice'), client, clock);
    this.#slices.addIndex(byService, serviceKeyOf);
    this.#queue = new WorkQueue({
      name: 'endpoint-slice-mirroring',
      log,
      clock,
      workers: 4,
      reconcile: tolerant((key) => this.#reconcile(key)),
    });
    const changed = (object: Parameters<typeof keyOf>[0]) => this.#queue.add(keyOf(object));
    for (const kind of ['Service', 'Endpoints'] as const) {
      informers.of(kind).addHandler({ onAdd: changed, onUpdate: (_, object) => changed(object), onDelete: changed });
    }
    const sliceChanged = (slice: EndpointSlice) => {
      for (const key of serviceKeyOf(slice)) this.#queue.add(key);
    };
    informers.of('EndpointSlice').addHandler({
      onAdd: (slice) => this.#slices.isOwnWrite(slice) || sliceChanged(slice),
      onUpdate: (_, slice) => this.#slices.isOwnWrite(slice) || sliceChanged(slice),
      onDelete: sliceChanged,
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([
      informers.of('Service').start(signal),
      informers.of('Endpoints').start(signal),
      informers.of('EndpointSlice').start(signal),
    ]);
    this.#queue.start(signal);
  }

  async #reconcile(key: string): Promise<void> {
    const { informers } = this.#context;
    const endpoints = informers.of('Endpoints').get(key);
    const existing = this.#slices.byIndex(byService, key);
    const changes =
      endpoints && isMirrored(endpoints, informers.of('Service').get(key))
        ? mirroredSlices(endpoints, existing)
        : { create: [], update: [], delete: existing };
    await allDone([
      ...changes.create.map((draft) => this.#slices.create(draft)),
      ...changes.update.map((slice) => this.#slices.update(slice)),
    ]);
    await allDone(changes.delete.map((slice) => this.#slices.delete(slice)));
  }
}

function serviceKeyOf({ metadata }: EndpointSlice): readonly string[] {
  const name = metadata.labels?.[serviceNameLabel];
  return name && metadata.labels?.[managedByLabel] === mirroredBy
    ? [keyOf({ namespace: metadata.namespace, name })]
    : [];
}
