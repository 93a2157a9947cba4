/**
 * Services on one node: watches Services, EndpointSlices, this node's Pods (for their host ports) and its Node object, and
 * keeps the kernel's tables as they say.
 *
 *     informers -> dirty keys -> BoundedRunner -> model of each dirty key -> reconciler -> one nftables transaction
 *
 * Nothing is applied before all informers have synced. The set of dirty keys is bounded by the number of objects; what
 * becomes dirty during a run is done by the next one.
 */
import { BoundedRunner } from '../../base/bounded-runner.ts';
import { type Clock, systemClock, type Timer } from '../../base/clock.ts';
import { isCidr, isIp, parseCidr, parseIp } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { Informer, InformerSource } from '../../kube/informer.ts';
import { keyOf } from '../../kube/names.ts';
import type { EndpointSlice, Node, Pod } from '../../kube/types.ts';
import type { Conntrack } from '../../linux/conntrack.ts';
import { Durations } from './durations.ts';
import { HealthChecks, type Listen } from './health.ts';
import { buildHostPorts, hasHostPorts, hostPortKey } from './host-ports.ts';
import { buildService, type NodeView, type Problem, type ServiceModel } from './model.ts';
import type { ClusterAddresses, KeyedModel, OpenRules, ServiceRules } from './rules.ts';
import { StaleFlows } from './stale-flows.ts';

export interface ServicesInformers {
  readonly services: Informer<'Service'>;
  readonly endpointSlices: Informer<'EndpointSlice'>;
  /** All pods, or only this node's. */
  readonly pods: InformerSource<Pod>;
  /** All nodes, or only this one. */
  readonly nodes: Informer<'Node'>;
}

export interface ServicesControllerOptions {
  readonly nodeName: string;
  readonly informers: ServicesInformers;
  /** The mode of the proxy. */
  readonly rules: OpenRules;
  readonly conntrack?: Pick<Conntrack, 'list' | 'delete' | 'deleteFlows' | 'count'> | undefined;
  /** The whole cluster's pod CIDRs, both families. */
  readonly podCidrs: readonly string[];
  readonly serviceCidrs: readonly string[];
  /** Where NodePorts and host ports are served; when absent, the addresses in the Node's status. */
  readonly nodeAddresses?: readonly string[] | undefined;
  readonly log: Logger;
  /** Told of things in the API that are ignored, once for each message. */
  readonly onGarbage?: (problem: Problem) => void;
  /** Told after each sync of the highest resourceVersion of EndpointSlices whose change is in force in the kernel. */
  readonly onSynced?: (resourceVersion: number) => void;
  readonly listen?: Listen;
  readonly clock?: Clock;
}

/** The least time between two syncs: a lone change is done at once, a storm in batches. */
const MIN_SYNC_MS = 2;
/** How long removed endpoints' last slots wait for the second transaction when no other sync takes them along. */
const SWEEP_MS = 10;
/** How often the rules are looked at when nothing changes, for foreign changes. */
const PROBE_MS = 30_000;
const SLICE_INDEX = 'node/services: by service';
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
const ZONE_LABEL = 'topology.kubernetes.io/zone';

export class ServicesController implements Startable {
  readonly #options: ServicesControllerOptions;
  readonly #clock: Clock;
  readonly #rules: ServiceRules;
  readonly #flows: StaleFlows | undefined;
  readonly #health: HealthChecks;
  readonly #runner: BoundedRunner;
  readonly #dirty = new Set<string>();
  readonly #told = new Map<string, Set<string>>();
  readonly #syncMs = new Durations();
  readonly #first = Promise.withResolvers<void>();
  #addresses: ClusterAddresses;
  #fixedNodeAddresses: readonly string[] | undefined;
  #node: NodeView;
  #sweep: Timer | undefined;
  #lastProbe = 0;
  /** The highest resourceVersion of a slice that the informer has told of. */
  #sliceVersion = 0;
  #syncs = 0;

  constructor(options: ServicesControllerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const { log, conntrack } = options;
    this.#addresses = {
      podCidrs: options.podCidrs.map(parseCidr),
      ownPodCidrs: [],
      serviceCidrs: options.serviceCidrs.map(parseCidr),
    };
    this.#fixedNodeAddresses = options.nodeAddresses;
    this.#node = { name: options.nodeName, nodePortAddresses: [] };
    const { serviceCidrs } = this.#addresses;
    this.#flows = conntrack && new StaleFlows({ conntrack, serviceCidrs, log, clock: this.#clock });
    this.#rules = options.rules({
      flows: this.#flows,
      addresses: this.#addresses,
      log,
      onProblem: (problem) => this.#tell(problem),
    });
    this.#health = new HealthChecks({ log, ...(options.listen ? { listen: options.listen } : {}) });
    this.#runner = new BoundedRunner({
      name: 'services',
      run: () => this.#sync(),
      log,
      minIntervalMs: MIN_SYNC_MS,
      maxIntervalMs: PROBE_MS,
      clock: this.#clock,
    });
  }

  /** Resolves when the rules of everything that exists are in force. */
  async start(signal: AbortSignal): Promise<void> {
    const { services, endpointSlices, pods, nodes } = this.#options.informers;
    endpointSlices.addIndex(SLICE_INDEX, serviceKeysOf);
    await Promise.all([services, endpointSlices, pods, nodes].map((informer) => informer.start(signal)));
    this.#readNode();
    const removals = this.#watch();
    signal.addEventListener('abort', () => this.#stop(removals), { once: true });
    this.#runner.start(signal);
    this.#runner.trigger();
    await Promise.race([this.#first.promise, aborted(signal)]);
  }

  #watch(): readonly (() => void)[] {
    const { services, endpointSlices, pods, nodes } = this.#options.informers;
    const touchPod = (pod: Pod) => {
      if (hasHostPorts(pod, this.#options.nodeName)) this.#touch(hostPortKey(pod));
    };
    const touchSlice = (slice: EndpointSlice) => {
      this.#noteVersion(slice);
      for (const key of serviceKeysOf(slice)) this.#touch(key);
    };
    const touchNode = (node: Node) => {
      if (node.metadata.name === this.#options.nodeName && this.#readNode()) this.#touchAll();
    };
    // What is there already: every Service once; a slice without one changes nothing yet.
    for (const key of services.keys()) this.#dirty.add(key);
    for (const slice of endpointSlices.list()) this.#noteVersion(slice);
    return [
      services.addHandler(
        all((service) => this.#touch(keyOf(service))),
        'seen',
      ),
      endpointSlices.addHandler(all(touchSlice), 'seen'),
      pods.addHandler(all(touchPod)),
      nodes.addHandler(all(touchNode)),
    ];
  }

  #noteVersion(slice: EndpointSlice): void {
    this.#sliceVersion = Math.max(this.#sliceVersion, Number(slice.metadata.resourceVersion) || 0);
  }

  #touch(key: string): void {
    this.#dirty.add(key);
    this.#runner.trigger();
  }

  /** Everything has to be computed anew. */
  #touchAll(): void {
    const { services, pods } = this.#options.informers;
    for (const key of services.keys()) this.#dirty.add(key);
    for (const pod of pods.list()) if (hasHostPorts(pod, this.#options.nodeName)) this.#dirty.add(hostPortKey(pod));
    this.#runner.trigger();
  }

  /** Replaces the addresses for NodePorts and host ports; undefined: those of the Node's status. */
  setNodeAddresses(addresses: readonly string[] | undefined): void {
    this.#fixedNodeAddresses = addresses;
    if (this.#readNode()) this.#touchAll();
  }

  setPodCidrs(podCidrs: readonly string[]): void {
    this.#setAddresses({ ...this.#addresses, podCidrs: podCidrs.map(parseCidr) });
  }

  #setAddresses(addresses: ClusterAddresses): void {
    this.#addresses = addresses;
    this.#rules.setAddresses(addresses);
    this.#runner.trigger();
  }

  /** What the Node object last said counts also while there is none. */
  #readOwnPodCidrs(node: Node | undefined): void {
    const ownPodCidrs = (node?.spec.podCIDRs ?? []).filter(isCidr).map(parseCidr);
    if (ownPodCidrs.length === 0 || JSON.stringify(ownPodCidrs) === JSON.stringify(this.#addresses.ownPodCidrs)) return;
    this.#setAddresses({ ...this.#addresses, ownPodCidrs });
  }

  /** Reads what the Node object says of this node; true when that has changed. */
  #readNode(): boolean {
    const node = this.#options.informers.nodes.get(this.#options.nodeName);
    this.#readOwnPodCidrs(node);
    const addresses = this.#fixedNodeAddresses ?? statusAddresses(node);
    const next: NodeView = {
      name: this.#options.nodeName,
      zone: node?.metadata.labels?.[ZONE_LABEL],
      nodePortAddresses: [...new Set(addresses.filter(isIp).map(parseIp))].sort(),
    };
    if (JSON.stringify(next) === JSON.stringify(this.#node)) return false;
    this.#node = next;
    return true;
  }

  async #sync(): Promise<void> {
    const keys = [...this.#dirty];
    this.#dirty.clear();
    const sliceVersion = this.#sliceVersion;
    if (keys.length === 0) this.#probe();
    const began = performance.now();
    const models = keys.map((key): KeyedModel => [key, this.#build(key)]);
    await this.#rules.apply(models);
    if (keys.length > 0) this.#syncMs.add(performance.now() - began);
    this.#syncs++;
    for (const [key, model] of models) this.#publish(key, model);
    this.#planSweep();
    this.#options.onSynced?.(sliceVersion);
    this.#first.resolve();
  }

  /** Once in a while: whether somebody else took our rules away. */
  #probe(): void {
    const now = this.#clock.now();
    if (now - this.#lastProbe < PROBE_MS) return;
    this.#lastProbe = now;
    if (this.#rules.isIntact()) return;
    this.#options.log.warn({}, 'service rules were changed by somebody else: writing them anew');
    this.#rules.invalidate();
  }

  #build(key: string): ServiceModel | undefined {
    const { services, endpointSlices, pods } = this.#options.informers;
    if (key.startsWith('pod:')) {
      const pod = pods.get(key.slice('pod:'.length));
      return pod && buildHostPorts(pod, this.#node);
    }
    const service = services.get(key);
    return service && buildService(service, endpointSlices.byIndex(SLICE_INDEX, key), this.#node, key);
  }

  #publish(key: string, model: ServiceModel | undefined): void {
    this.#health.update(key, model?.health);
    if (!model) this.#told.delete(key);
    for (const problem of model?.problems ?? []) this.#tell(problem, key);
  }

  /** Tells of a problem unless the same was told already. */
  #tell(problem: Problem, key = `${problem.namespace}/${problem.name}`): void {
    let told = this.#told.get(key);
    if (!told) {
      told = new Set();
      this.#told.set(key, told);
    }
    const id = `${problem.kind} ${problem.name} ${problem.message}`;
    if (told.has(id)) return;
    if (told.size >= 100) told.clear();
    told.add(id);
    this.#options.log.warn({ ...problem }, `${problem.kind} ${problem.namespace}/${problem.name}: ${problem.message}`);
    this.#options.onGarbage?.(problem);
  }

  /** The second transaction of removals, unless another sync comes first and takes it along. */
  #planSweep(): void {
    if (this.#rules.leftovers === 0 || this.#sweep) return;
    this.#sweep = this.#clock.after(SWEEP_MS, () => {
      this.#sweep = undefined;
      this.#runner.trigger();
    });
  }

  #stop(removals: readonly (() => void)[]): void {
    for (const remove of removals) remove();
    this.#sweep?.cancel();
    this.#flows?.stop();
    this.#health.stop();
  }

  /** The endpoints that a frontend ("10.96.0.10 . tcp . 80") has in the kernel now, as "address . port". */
  endpointsOf(frontend: string): readonly string[] {
    return this.#rules.endpointsOf(frontend);
  }

  /** Counts, and durations in milliseconds of the last syncs. */
  get metrics() {
    return {
      services: this.#rules.services,
      frontends: this.#rules.frontends,
      syncs: this.#syncs,
      ...this.#rules.stats,
      ...(this.#flows ? { flowPasses: this.#flows.stats.passes, flowsCleared: this.#flows.stats.cleared } : {}),
      syncMs: { p50: this.#syncMs.percentile(0.5), p99: this.#syncMs.percentile(0.99) },
    };
  }
}

/** One function for every kind of change; both versions of an object that changed. */
function all<T>(touch: (object: T) => void) {
  return {
    onAdd: touch,
    onDelete: touch,
    onUpdate(before: T, after: T) {
      touch(before);
      touch(after);
    },
  };
}

function serviceKeysOf(slice: EndpointSlice): readonly string[] {
  const name = slice.metadata.labels?.[SERVICE_NAME_LABEL];
  return name ? [`${slice.metadata.namespace}/${name}`] : [];
}

function statusAddresses(node: Node | undefined): readonly string[] {
  const addresses = node?.status?.addresses ?? [];
  return addresses.filter(({ type }) => type === 'InternalIP' || type === 'ExternalIP').map(({ address }) => address);
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
