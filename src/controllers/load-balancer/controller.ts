/**
 * Gives Services of type LoadBalancer their addresses, from the pools of the ConfigMap kube-system/podwire-load-balancer and
 * the cluster's default pool. The nodes announce them (node/announce).
 *
 * The Services' status is the only store: at a start every address in it is noted before the first one is given out. An
 * address is taken in the turn in which it is chosen and kept from then on, also while the write fails, so none is given
 * twice however many Services are worked on.
 */
import { isIp, parseIp } from '../../base/ip.ts';
import type { Startable } from '../../base/startable.ts';
import { WorkQueue } from '../../base/work-queue.ts';
import { EventRecorder } from '../../kube/events.ts';
import { Informer } from '../../kube/informer.ts';
import { keyOf } from '../../kube/names.ts';
import { isNotFound } from '../../kube/status.ts';
import type { ConfigMap, Service } from '../../kube/types.ts';
import { FreshStore } from '../fresh-store.ts';
import type { ControllerContext } from '../informers.ts';
import { tolerant } from '../reconciling.ts';
import { AddressBook } from './address-book.ts';
import { assignAddresses, isServed } from './assignment.ts';
import { parsePools } from './pools.ts';

export interface LoadBalancerOptions {
  /** CIDRs, ranges or addresses of the default pool; none: only the ConfigMap's. Throws when malformed. */
  readonly loadBalancerPool?: readonly string[];
  /** The cluster's own CIDRs (pods, Services): no pool may touch them. */
  readonly reservedCidrs?: readonly string[];
}

export const CONFIG_MAP = { namespace: 'kube-system', name: 'podwire-load-balancer' } as const;
const POOLS_KEY = 'pools';
/** Services written at the same time: the server puts their writes into one commit. */
const WORKERS = 16;

export class LoadBalancerController implements Startable {
  readonly #context: ControllerContext;
  readonly #options: LoadBalancerOptions;
  readonly #services: FreshStore<'Service'>;
  readonly #config: Informer<'ConfigMap'>;
  readonly #book = new AddressBook();
  readonly #queue: WorkQueue;
  readonly #events: EventRecorder;
  /** Services that lack an address, with the reason last told. */
  readonly #waiting = new Map<string, string>();
  #hasFaults = false;

  constructor(context: ControllerContext, options: LoadBalancerOptions = {}) {
    const { client, log, clock, informers } = context;
    this.#context = context;
    this.#options = options;
    this.#services = new FreshStore(informers.of('Service'), client, clock);
    this.#config = new Informer('ConfigMap', {
      client,
      log,
      clock,
      namespace: CONFIG_MAP.namespace,
      fieldSelector: `metadata.name=${CONFIG_MAP.name}`,
    });
    this.#events = new EventRecorder({ client, log, clock, component: 'podwire-load-balancer' });
    const reconcile = tolerant((key) => this.#reconcile(key));
    this.#queue = new WorkQueue({ name: 'load-balancer', log, clock, reconcile, workers: WORKERS });
    this.#readPools(undefined);
  }

  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#context;
    const [services, nodes] = [informers.of('Service'), informers.of('Node')];
    await Promise.all([services.start(signal), nodes.start(signal), this.#config.start(signal)]);
    this.#adopt([...services.list()]);
    const readPools = (config: ConfigMap | undefined) => this.#readPools(config);
    this.#config.addHandler({
      onAdd: readPools,
      onUpdate: (_, config) => readPools(config),
      onDelete: () => readPools(undefined),
    });
    services.addHandler({
      onAdd: (service) => this.#changed(service),
      onUpdate: (before, service) => (isServed(before) || isServed(service)) && this.#queue.add(keyOf(service)),
      onDelete: (service) => this.#changed(service),
    });
    this.#queue.start(signal);
  }

  #changed(service: Service): void {
    if (service.spec.type === 'LoadBalancer' || ingressOf(service).length > 0) this.#queue.add(keyOf(service));
  }

  /** Notes what the Services have; of two with one address the older keeps it. */
  #adopt(services: readonly Service[]): void {
    const byAge = services.filter(isServed).sort((a, b) => (ageKey(a) < ageKey(b) ? -1 : 1));
    for (const service of byAge)
      for (const { ip } of ingressOf(service)) if (ip && isIp(ip)) this.#book.take(parseIp(ip), keyOf(service));
  }

  #nodeAddresses(): ReadonlySet<string> {
    const addresses = [...this.#context.informers.of('Node').list()].flatMap(({ status }) => status?.addresses ?? []);
    return new Set(
      addresses
        .map(({ address }) => address)
        .filter(isIp)
        .map(parseIp),
    );
  }

  #readPools(config: ConfigMap | undefined): void {
    const { loadBalancerPool: defaults = [], reservedCidrs: reserved = [] } = this.#options;
    const { pools, problems } = parsePools(config?.data?.[POOLS_KEY], { defaults, reserved });
    this.#hasFaults = problems.length > 0;
    this.#book.setPools(pools);
    for (const problem of problems) {
      this.#context.log.warn({ configMap: CONFIG_MAP.name }, problem);
      if (config) this.#events.event(config, 'Warning', 'InvalidPools', problem);
    }
    for (const service of this.#context.informers.of('Service').list()) this.#changed(service);
  }

  async #reconcile(key: string): Promise<void> {
    const service = this.#services.get(key);
    if (!service || !isServed(service)) {
      this.#waiting.delete(key);
      // Taken back before it is free for others.
      if (service) await this.#clear(service);
      if (this.#book.releaseAll(key)) this.#wake();
      return;
    }
    const assignment = assignAddresses(service, {
      book: this.#book,
      excluded: this.#nodeAddresses(),
      keepStrays: this.#hasFaults,
    });
    const ingress = assignment.addresses.map((ip) => ({ ip, ipMode: 'VIP' }));
    const before = ingressOf(service);
    if (JSON.stringify(before) !== JSON.stringify(ingress)) {
      await this.#write(service, ingress);
      const added = assignment.addresses.filter((ip) => !before.some((one) => one.ip === ip));
      if (added.length > 0) this.#events.event(service, 'Normal', 'IPAllocated', `Assigned IP ${added.join(', ')}`);
    }
    this.#tell(service, assignment.problems);
    if (assignment.released.length > 0) this.#wake();
  }

  /** A Service that is no load balancer any more has no addresses; one of another class is left to its own controller. */
  async #clear(service: Service): Promise<void> {
    if (service.spec.type === 'LoadBalancer' || ingressOf(service).length === 0) return;
    await this.#write(service, []);
  }

  async #write(service: Service, ingress: readonly { ip: string; ipMode: string }[]): Promise<void> {
    try {
      await this.#services.updateStatus({
        ...service,
        status: { ...service.status, loadBalancer: ingress.length > 0 ? { ingress: [...ingress] } : {} },
      });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  /** An event for each new reason; a Service that lacks an address looks again when one is released or pools change. */
  #tell(service: Service, problems: readonly string[]): void {
    const key = keyOf(service);
    const reason = problems.join('; ');
    if (reason === '') this.#waiting.delete(key);
    else if (this.#waiting.get(key) !== reason) {
      this.#waiting.set(key, reason);
      this.#events.event(service, 'Warning', 'AllocationFailed', reason);
    }
  }

  #wake(): void {
    for (const key of this.#waiting.keys()) this.#queue.add(key);
  }
}

type Ingress = { readonly ip?: string; readonly ipMode?: string };

function ingressOf(service: Service): readonly Ingress[] {
  return service.status?.loadBalancer?.ingress ?? [];
}

const ageKey = ({ metadata }: Service): string => `${metadata.creationTimestamp} ${keyOf({ metadata })}`;
