/** Keeps the Endpoints object of every Service that selects pods. */
import type { Startable } from '../../base/startable.ts';
import { keyOf } from '../../kube/names.ts';
import type { Draft, Endpoints } from '../../kube/types.ts';
import { FreshStore } from '../fresh-store.ts';
import type { ControllerContext } from '../informers.ts';
import { desiredEndpoints, overCapacityAnnotation } from './endpoints-object.ts';
import { isManaged, podsOf } from './selection.ts';
import { ServiceQueue } from './service-queue.ts';

/** Nothing of podwire reads Endpoints: they may lag a little more than the slices, and cost less. */
const minIntervalMs = 100;

export class EndpointsController implements Startable {
  readonly #context: ControllerContext;
  readonly #endpoints: FreshStore<'Endpoints'>;
  readonly #queue: ServiceQueue;

  constructor(context: ControllerContext) {
    const { client, clock, informers } = context;
    this.#context = context;
    this.#endpoints = new FreshStore(informers.of('Endpoints'), client, clock);
    this.#queue = new ServiceQueue(context, {
      name: 'endpoints',
      minIntervalMs,
      zones: false,
      reconcile: (key) => this.#reconcile(key),
    });
    const changed = (endpoints: Endpoints) => {
      if (!this.#endpoints.isOwnWrite(endpoints)) this.#queue.add(keyOf(endpoints));
    };
    informers.of('Endpoints').addHandler({
      onUpdate: (_, endpoints) => changed(endpoints),
      onDelete: (endpoints) => this.#queue.add(keyOf(endpoints)),
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    await Promise.all([
      informers.of('Service').start(signal),
      informers.of('Pod').start(signal),
      informers.of('Endpoints').start(signal),
    ]);
    // An object whose Service went while nobody watched.
    for (const endpoints of informers.of('Endpoints').list()) {
      if (isOurs(endpoints)) this.#queue.add(keyOf(endpoints));
    }
    await this.#queue.start(signal);
  }

  async #reconcile(key: string): Promise<boolean> {
    const { informers } = this.#context;
    const service = informers.of('Service').get(key);
    const existing = this.#endpoints.get(key);
    if (!service) {
      if (!existing || !isOurs(existing)) return false;
      return this.#endpoints.delete(existing);
    }
    if (!isManaged(service) || service.metadata.deletionTimestamp) return false;
    const desired = desiredEndpoints(service, podsOf(service, informers.of('Pod')));
    if (!existing) {
      await this.#endpoints.create(desired);
      return true;
    }
    const next = merged(existing, desired);
    if (holdsAlready(existing, next)) return false;
    await this.#endpoints.update(next);
    return true;
  }
}

/** Made by this controller, or by Kubernetes' own, whose place it takes. */
function isOurs({ metadata }: Endpoints): boolean {
  return metadata.labels?.['endpoints.kubernetes.io/managed-by'] === 'endpoint-controller';
}

/** Labels and subsets are the Service's and pods'; of the annotations only our own is touched. */
function merged(existing: Endpoints, desired: Draft<Endpoints>): Endpoints {
  const { [overCapacityAnnotation]: _old, ...annotations } = existing.metadata.annotations ?? {};
  const metadata = {
    ...existing.metadata,
    labels: desired.metadata.labels,
    annotations: { ...annotations, ...desired.metadata.annotations },
  };
  return { ...existing, metadata, subsets: desired.subsets };
}

function holdsAlready(existing: Endpoints, next: Endpoints): boolean {
  const content = ({ metadata, subsets }: Endpoints) =>
    JSON.stringify([sorted(metadata.labels), sorted(metadata.annotations), canonicalSubsets(subsets)]);
  return content(existing) === content(next);
}

const sorted = (map: Readonly<Record<string, string>> | undefined) => Object.entries(map ?? {}).sort();

/** The subsets with their keys in one order: the server may answer in another. */
function canonicalSubsets(subsets: Endpoints['subsets']): unknown {
  const address = (one: NonNullable<NonNullable<Endpoints['subsets']>[number]['addresses']>[number]) => [
    one.ip,
    one.hostname,
    one.nodeName,
    one.targetRef?.kind,
    one.targetRef?.name,
    one.targetRef?.uid,
  ];
  return (subsets ?? []).map((subset) => [
    (subset.addresses ?? []).map(address),
    (subset.notReadyAddresses ?? []).map(address),
    (subset.ports ?? []).map((port) => [port.name ?? '', port.port, port.protocol ?? 'TCP', port.appProtocol]),
  ]);
}
