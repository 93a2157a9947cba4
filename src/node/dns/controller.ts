/** The DNS of a node: indexes over the informers, the chain, the sockets, and the Service that leads to them. */
import { systemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { parseCidr } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { Informer } from '../../kube/informer.ts';
import { type AnswerListener, tellOfAnswers, tellOfOutside } from './answer-listener.ts';
import { AnswerCache } from './cache.ts';
import {
  cluster,
  createMetrics,
  type DnsMetrics,
  errors,
  type Handler,
  metrics,
  nothingOutside,
  ready,
  refuseOthers,
} from './chain.ts';
import { Forwarder, type Upstream } from './forward.ts';
import { clusterAddresses, ownerOf, podAddresses, sliceAddresses } from './model.ts';
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
  /** Told of the addresses that upstream servers gave, before the answer is sent. */
  readonly onAnswer?: AnswerListener;
  readonly log: Logger;
  /** Default 53. */
  readonly port?: number;
}

export class DnsController implements Startable {
  readonly metrics: DnsMetrics = createMetrics();
  readonly #options: DnsControllerOptions;
  readonly #listener: DnsListener;
  #generation = 0;

  constructor(options: DnsControllerOptions) {
    this.#options = options;
    addIndexes(options.informers);
    this.#followChanges(options.informers);
    const cache = new AnswerCache({ generation: () => this.#generation, counts: this.metrics });
    this.#listener = new DnsListener({
      addresses: options.nodeAddresses,
      port: options.port ?? 53,
      log: options.log,
      counts: this.metrics,
      cache,
      handler: this.#chain(cache),
    });
  }

  /** The port in use: of interest where 0 was asked for. */
  get port(): number {
    return this.#listener.port;
  }

  /** Resolves once the sockets are open; answers SERVFAIL until the informers have synced. */
  async start(signal: AbortSignal): Promise<void> {
    await this.#listener.start(signal);
    void this.#publish(signal);
  }

  #chain(cache: AnswerCache): Handler {
    const { informers, domain, dnsAddresses, podCidrs, serviceCidrs, upstreams = [], log } = this.#options;
    const zone = new Zone({
      domain,
      dnsAddresses,
      source: sourceOf(informers),
      reverseCidrs: [...podCidrs, ...serviceCidrs].map(parseCidr),
    });
    const forwarder = upstreams.length > 0 ? new Forwarder({ upstreams, counts: this.metrics }) : undefined;
    const { onAnswer } = this.#options;
    const { handler = refuseOthers, outside = nothingOutside } = forwarder ?? {};
    const answered = cluster(onAnswer && forwarder ? tellOfAnswers(handler, onAnswer) : handler, {
      zone,
      outside: onAnswer && forwarder ? tellOfOutside(outside, onAnswer) : outside,
    });
    const { services, slices, namespaces, pods } = informers;
    const synced = () => [services, slices, namespaces, pods].every((informer) => informer.hasSynced);
    return metrics(errors(ready(cache.link(answered), synced), log), this.metrics);
  }

  #followChanges(informers: DnsInformers): void {
    const changed = () => {
      this.#generation++;
    };
    for (const informer of [informers.services, informers.slices]) {
      informer.addHandler({ onAdd: changed, onUpdate: changed, onDelete: changed });
    }
    // Of these only the existence and the addresses matter; their status changes much more often.
    informers.namespaces.addHandler({ onAdd: changed, onDelete: changed });
    informers.pods.addHandler({
      onAdd: changed,
      onDelete: changed,
      onUpdate: (before, after) => {
        if (podAddresses(before).join() !== podAddresses(after).join()) changed();
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
  slices.addIndex('dns-service', (slice) => [ownerOf(slice) ?? []].flat());
  slices.addIndex('dns-address', sliceAddresses);
  pods.addIndex('dns-address', (pod) => podAddresses(pod).map((address) => `${pod.metadata.namespace}/${address}`));
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
