/**
 * Load balancers' addresses on one node: watches Services, EndpointSlices and Nodes, beats, listens to the other nodes'
 * beats, and answers ARP and NDP for the addresses that fall to this node.
 *
 *     informers ------> model of each Service ----.
 *     beats -> Peers -> who lives ----------------+-> renderDuties -> Announcer -> ARP, NDP on the link
 *
 * Nothing beats and no socket is open while no Service has an address.
 */
import { type Clock, systemClock, type Timer } from '../../base/clock.ts';
import { ClockJumps } from '../../base/clock-jumps.ts';
import { messageOf } from '../../base/errors.ts';
import { type Family, familyOf, type IpAddress, isIp, parseIp } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { Informer } from '../../kube/informer.ts';
import { keyOf } from '../../kube/names.ts';
import { internalAddresses } from '../../kube/node-addresses.ts';
import type { EndpointSlice, Service } from '../../kube/types.ts';
import type { NetworkNamespace } from '../../linux/netns.ts';
import { type AnnouncedAddress, buildAddresses, isAnnounced, isCandidate, mergeAddresses } from './model.ts';
import { Peers } from './peers.ts';
import { Announcer } from './reconciler.ts';
import { NO_DUTIES, renderDuties } from './render.ts';
import type { UnusedPorts } from './unused-ports.ts';
import { clusterTag, type HeardBeat } from './wire/beat.ts';
import { type Link, type OpenLinkOptions, openLink } from './wire/link.ts';

export interface AnnounceControllerOptions {
  readonly nodeName: string;
  readonly informers: {
    readonly services: Informer<'Service'>;
    readonly endpointSlices: Informer<'EndpointSlice'>;
    readonly nodes: Informer<'Node'>;
    readonly namespaces: Informer<'Namespace'>;
  };
  /** Addresses of this node; the link that has the first of them is the one that addresses are announced on. */
  readonly nodeAddresses: readonly string[];
  readonly ns?: NetworkNamespace;
  /** Refuses what is sent to ports that no Service has; absent: such packets find no way. */
  readonly unusedPorts?: UnusedPorts;
  /** Told of each address that this node begins to answer for. */
  readonly onTaken?: (address: AnnouncedAddress, service: Service) => void;
  readonly log: Logger;
  /** Its `now` never goes back; default the machine's monotonic clock. */
  readonly clock?: Clock;
  readonly openLink?: (options: OpenLinkOptions) => Link;
}

/** Between two beats of a node, in milliseconds. */
export const BEAT_MS = 200;
/** An agent that was not heard for so long is away: its node's kernel is asked, and others speak for it if that is there. */
export const SILENT_MS = 600;
/** A node of which nothing was heard for so long is dead. Another one takes over after at most DEAD_MS + BEAT_MS. */
export const DEAD_MS = 1200;
/** So long an agent may be away before its node is left; a restart, a full disk or a starved machine take less. */
export const ABSENT_MS = 10_000;
/** An agent that could not beat for so long does not answer either: the others are about to take over. */
const FENCE_MS = DEAD_MS - BEAT_MS;
const SLICE_INDEX = 'node/announce: by service';
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
const CLUSTER_NAMESPACE = 'kube-system';

/** Time that only goes forward, for silence that is measured. */
export const monotonicClock: Clock = { ...systemClock, now: () => performance.now() };

export class AnnounceController implements Startable {
  readonly #options: AnnounceControllerOptions;
  readonly #clock: Clock;
  readonly #peers = new Peers({ silentMs: SILENT_MS, deadMs: DEAD_MS, absentMs: ABSENT_MS });
  readonly #jumps: ClockJumps;
  readonly #announcer: Announcer;
  /** This node's address of each family that it has. */
  readonly #own: ReadonlyMap<Family, IpAddress>;
  readonly #byService = new Map<string, readonly AnnouncedAddress[]>();
  #addresses: ReadonlyMap<IpAddress, AnnouncedAddress> = new Map();
  #changed = true;
  #planned = false;
  #link: Link | undefined;
  #timer: Timer | undefined;
  #lastBeat = Number.NEGATIVE_INFINITY;
  #cluster = '';
  #stopped = false;
  #troubled = false;

  constructor(options: AnnounceControllerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? monotonicClock;
    this.#jumps = new ClockJumps(this.#clock, BEAT_MS);
    const own = options.nodeAddresses.map(parseIp);
    this.#own = new Map(own.toReversed().map((address) => [familyOf(address), address]));
    this.#announcer = new Announcer({ log: options.log, clock: this.#clock });
    options.informers.endpointSlices.addIndex(SLICE_INDEX, serviceKeyOf);
  }

  /** Resolves when this node answers for what falls to it. */
  async start(signal: AbortSignal): Promise<void> {
    const { informers } = this.#options;
    await Promise.all(Object.values(informers).map((informer) => informer.start(signal)));
    const uid = informers.namespaces.get(CLUSTER_NAMESPACE)?.metadata.uid;
    this.#cluster = clusterTag(uid ?? '');
    const removals = this.#watch();
    signal.addEventListener('abort', () => this.#stop(removals), { once: true });
    this.#tick();
  }

  #watch(): readonly (() => void)[] {
    const { services, endpointSlices, nodes } = this.#options.informers;
    const touch = (service: Service) => this.#touch(keyOf(service));
    const touchSlice = (slice: EndpointSlice) => {
      for (const key of serviceKeyOf(slice)) if (this.#byService.has(key)) this.#touch(key);
    };
    const change = () => this.#plan();
    return [
      services.addHandler({ onAdd: touch, onUpdate: (_, service) => touch(service), onDelete: touch }),
      endpointSlices.addHandler({
        onAdd: touchSlice,
        onDelete: touchSlice,
        onUpdate(before, after) {
          touchSlice(before);
          touchSlice(after);
        },
      }),
      nodes.addHandler({
        onAdd: change,
        onDelete: change,
        onUpdate: (before, after) => isCandidate(before) !== isCandidate(after) && change(),
      }),
    ];
  }

  #touch(key: string): void {
    const { services, endpointSlices } = this.#options.informers;
    const service = services.get(key);
    if (service && isAnnounced(service)) {
      this.#byService.set(key, buildAddresses(service, endpointSlices.byIndex(SLICE_INDEX, key)));
    } else if (!this.#byService.delete(key)) return;
    this.#changed = true;
    this.#plan();
  }

  /** Decides once this turn's changes are all in. */
  #plan(): void {
    if (this.#planned || this.#stopped) return;
    this.#planned = true;
    queueMicrotask(() => {
      this.#planned = false;
      if (!this.#stopped) this.#decide();
    });
  }

  /**
   * The time. Whatever runs first after this process, or the whole machine, stood still finds the others silent for so long;
   * what they said meanwhile is still to be read.
   */
  #wake(): number {
    const now = this.#clock.now();
    const jump = this.#jumps.look();
    if (jump > 0) this.#peers.excuse(jump, now);
    return now;
  }

  #decide(): void {
    const now = this.#wake();
    if (this.#changed) {
      this.#changed = false;
      this.#addresses = mergeAddresses(this.#byService.values());
      this.#options.unusedPorts?.set([...this.#addresses.keys()]);
      this.#followAddresses(now);
    }
    this.#peers.setCandidates(this.#candidates(), now);
    if (!this.#link) return void this.#announcer.set(NO_DUTIES);
    this.#peers.heard(this.#options.nodeName, true, this.#link.mac, now);
    const taken = this.#announcer.set(renderDuties(this.#addresses, this.#peers.living(now), this.#options.nodeName));
    for (const address of taken) this.#tellTaken(address);
  }

  /** The nodes that may answer, each with the address that it is asked for: of a family that this node has as well. */
  #candidates(): ReadonlyMap<string, IpAddress | undefined> {
    const candidates = new Map<string, IpAddress | undefined>();
    for (const node of this.#options.informers.nodes.list()) {
      if (!isCandidate(node)) continue;
      const address = internalAddresses(node)
        .filter(isIp)
        .map(parseIp)
        .find((one) => this.#own.has(familyOf(one)));
      candidates.set(node.metadata.name, address);
    }
    return candidates;
  }

  /** Asks the kernels of nodes whose agents are silent whether they are there. */
  #askSilent(now: number): void {
    try {
      for (const { address, mac } of this.#peers.silent(now)) {
        this.#link?.ask(address, mac, this.#own.get(familyOf(address))!);
      }
    } catch (error) {
      this.#lose(error);
    }
  }

  /** What a kernel says of its node's address. */
  #onAnswer(address: IpAddress, mac: string): void {
    if (this.#peers.answered(address, mac, this.#wake())) this.#plan();
  }

  #tellTaken(address: IpAddress): void {
    const model = this.#addresses.get(address)!;
    const service = this.#options.informers.services.get(model.service);
    this.#options.log.info({ address, service: model.service }, 'answering for a load balancer address');
    if (service) this.#options.onTaken?.(model, service);
  }

  /** Opens the link with the first address, closes it with the last. */
  #followAddresses(now: number): void {
    if (this.#addresses.size === 0) {
      if (this.#link) this.#beat(false);
      this.#closeLink();
    } else if (!this.#link) {
      // Nobody beat while there was nothing to announce.
      this.#peers.forgive(now);
      this.#openLink();
      this.#beat(true);
    }
  }

  #tick(): void {
    if (this.#stopped) return;
    const now = this.#wake();
    if (this.#addresses.size > 0) {
      if (!this.#link) this.#openLink();
      this.#beat(true);
      this.#askSilent(now);
    }
    this.#decide();
    this.#timer = this.#clock.after(BEAT_MS, () => this.#tick());
  }

  #beat(active: boolean): void {
    try {
      this.#link?.sendBeat({ cluster: this.#cluster, node: this.#options.nodeName, active });
      if (this.#link) this.#lastBeat = this.#clock.now();
      this.#troubled = false;
    } catch (error) {
      this.#lose(error);
    }
  }

  #openLink(): void {
    const { ns, nodeAddresses, openLink: open = openLink } = this.#options;
    try {
      this.#link = open({
        ns,
        address: nodeAddresses[0] ?? '',
        events: {
          onArp: (packet) => {
            if (packet.operation === 'reply') this.#onAnswer(packet.sender, packet.senderMac);
            if (!this.#isFenced()) this.#announcer.onArp(packet);
          },
          onNeighbour: (message) => {
            if (message.type === 'advertisement') this.#onAnswer(message.target, message.senderMac);
            if (!this.#isFenced()) this.#announcer.onNeighbour(message);
          },
          onBeat: (beat) => this.#onBeat(beat),
          onError: (error) => this.#lose(error),
        },
      });
      this.#announcer.setLink(this.#link);
    } catch (error) {
      this.#lose(error);
    }
  }

  /** Whether this process was away for so long that others may answer by now: its next beat calls them off. */
  #isFenced(): boolean {
    return this.#clock.now() - this.#lastBeat > FENCE_MS;
  }

  #onBeat({ cluster, node, active, mac }: HeardBeat): void {
    if (cluster !== this.#cluster) return;
    if (node === this.#options.nodeName) {
      if (!this.#troubled) this.#options.log.warn({ node }, 'another node beats under this one’s name');
      this.#troubled = true;
      return;
    }
    const now = this.#wake();
    const changed = this.#peers.heard(node, active, mac, now);
    if (!active) this.#askSilent(now);
    if (changed) this.#plan();
  }

  /** The link is down or gone: tried again at the next tick. */
  #lose(error: unknown): void {
    if (!this.#troubled) this.#options.log.warn({ error }, `announcing: ${messageOf(error)}`);
    this.#troubled = true;
    this.#closeLink();
  }

  #closeLink(): void {
    this.#announcer.set(NO_DUTIES);
    this.#announcer.setLink(undefined);
    this.#link?.close();
    this.#link = undefined;
  }

  #stop(removals: readonly (() => void)[]): void {
    this.#stopped = true;
    for (const remove of removals) remove();
    this.#timer?.cancel();
    this.#announcer.stop();
    if (this.#link) this.#beat(false);
    this.#closeLink();
  }

  /** The addresses that this node answers for, sorted. */
  get owned(): readonly IpAddress[] {
    return this.#announcer.owned;
  }

  get metrics() {
    return { addresses: this.#addresses.size, owned: this.#announcer.owned.length, ...this.#announcer.stats };
  }
}

function serviceKeyOf(slice: EndpointSlice): readonly string[] {
  const name = slice.metadata.labels?.[SERVICE_NAME_LABEL];
  return name ? [`${slice.metadata.namespace}/${name}`] : [];
}
