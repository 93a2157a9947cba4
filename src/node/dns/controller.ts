/** The DNS of a node: indexes over the informers, the chain, the sockets, and the Service that leads to them. */
import { systemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { isIp, parseCidr, parseIp } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { Informer } from '../../kube/informer.ts';
import {
  cache,
  cluster,
  createMetrics,
  type DnsMetrics,
  errors,
  type Handler,
  metrics,
  ready,
  refuseOthers,
} from './chain.ts';
import { forward, type Upstream } from './forward.ts';
import { clusterAddresses } from './model.ts';
import { publishDns } from './publisher.ts';
import { DnsListener } from './server.ts';
import { Zone, type ZoneSource } from './zone.ts';

export interface DnsInformers {
  readonly services: Informer<'Service'>;
  readonly slices: Informer<'EndpointSlice'>;
  readonly namespaces: Informer<'Namespace'>;
  readonly pods: Informer<'Pod'>;
}

export interface DnsControllerOptions {
  readonly client: KubeClient;
  readonly informers: DnsInformers;
  readonly nodeName: string;
  readonly nodeAddresses: readonly string[];
  readonly dnsAddresses: readonly string[];
  readonly domain: string;
  readonly podCidrs: readonly string[];
  readonly serviceCidrs: readonly string[];
  /** Who answers other names; nobody in an isolated cluster. */
  readonly upstreams?: readonly Upstream[];
  readonly log: Logger;
  /** Default 53. */
  readonly port?: number;
}

const SERVICE_NAME = 'kubernetes.io/service-name';

export class DnsController implements Startable {
  readonly metrics: DnsMetrics = createMetrics();
  readonly #options: DnsControllerOptions;
  readonly #listener: DnsListener;
  #generation = 0;

  constructor(options: DnsControllerOptions) {
    this.#options = options;
    addIndexes(options.informers);
    this.#followChanges(options.informers);
    const { nodeAddresses: addresses, log, port = 53 } = options;
    this.#listener = new DnsListener({ addresses, port, log, handler: this.#chain() });
  }

  get port(): number {
    return this.#listener.port;
  }

  /** Resolves once the sockets are open; answers SERVFAIL until the informers have synced. */
  async start(signal: AbortSignal): Promise<void> {
    await this.#listener.start(signal);
    void this.#publish(signal);
  }

  #chain(): Handler {
    const { informers, domain, dnsAddresses, podCidrs, serviceCidrs, upstreams = [], log } = this.#options;
    const zone = new Zone({
      domain,
      dnsAddresses,
      source: sourceOf(informers),
      reverseCidrs: [...podCidrs, ...serviceCidrs].map(parseCidr),
    });
    const others = upstreams.length > 0 ? forward({ upstreams, counts: this.metrics }) : refuseOthers;
    const synced = () => Object.values(informers).every((informer) => informer.hasSynced);
    const answered = cache(cluster(others, zone), () => this.#generation, this.metrics);
    return errors(metrics(ready(answered, synced), this.metrics), log);
  }

  #followChanges(informers: DnsInformers): void {
    const changed = () => {
      this.#generation++;
    };
    for (const informer of [informers.services, informers.slices, informers.namespaces]) {
      informer.addHandler({ onAdd: changed, onUpdate: changed, onDelete: changed });
    }
    informers.pods.addHandler({
      onAdd: changed,
      onDelete: changed,
      onUpdate: (before, after) => {
        if (before.status?.podIP !== after.status?.podIP) changed();
      },
    });
  }

  async #publish(signal: AbortSignal): Promise<void> {
    for (let wait = 50; !signal.aborted; wait = Math.min(5000, wait * 2)) {
      try {
        return await publishDns(this.#options);
      } catch (error) {
        this.#options.log.warn({ error }, `dns: cannot publish kube-dns yet: ${messageOf(error)}`);
        await systemClock.sleep(wait, signal).catch(() => {});
      }
    }
  }
}

function addIndexes({ services, slices, pods }: DnsInformers): void {
  services.addIndex('dns-address', clusterAddresses);
  slices.addIndex('dns-service', ({ metadata }) => {
    const owner = metadata.labels?.[SERVICE_NAME];
    return owner ? [`${metadata.namespace}/${owner}`] : [];
  });
  slices.addIndex('dns-address', ({ endpoints }) => [
    ...new Set(
      (endpoints ?? []).flatMap((endpoint) => endpoint.addresses.filter(isIp).map((address) => parseIp(address))),
    ),
  ]);
  pods.addIndex('dns-address', ({ metadata, status }) =>
    (status?.podIPs ?? []).flatMap(({ ip }) => (ip ? [`${metadata.namespace}/${ip}`] : [])),
  );
}

function sourceOf({ services, slices, namespaces, pods }: DnsInformers): ZoneSource {
  return {
    service: (namespace, name) => services.get(`${namespace}/${name}`),
    slices: (namespace, service) => slices.byIndex('dns-service', `${namespace}/${service}`),
    hasNamespace: (name) => namespaces.get(name) !== undefined,
    hasPod: (namespace, address) => pods.byIndex('dns-address', `${namespace}/${address}`).length > 0,
    serviceAt: (address) => services.byIndex('dns-address', address)[0],
    slicesAt: (address) => slices.byIndex('dns-address', address),
  };
}
