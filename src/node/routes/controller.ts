/**
 * Keeps the routes between nodes true: Node objects on one side, the kernel's notifications on the other, one reconcile
 * at a bounded frequency in the middle. What something else changes is put back within a tenth of a second.
 */
import { BoundedRunner } from '../../base/bounded-runner.ts';
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { InformerHandler, Lister } from '../../kube/informer.ts';
import type { Node } from '../../kube/types.ts';
import type { NetworkNamespace } from '../../linux/netns.ts';
import { Nftables } from '../../linux/nftables.ts';
import { type Monitor, ROUTE_PROTOCOL_PODWIRE, Rtnetlink, type RtnetlinkEvent } from '../../linux/rtnetlink.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import { Masquerade } from './masquerade.ts';
import { addressOf, buildModel, type RouteMode, type RoutesModel } from './model.ts';
import { type ReconcileOutcome, RoutesReconciler } from './reconciler.ts';
import { DEFAULT_VNI, DEFAULT_VXLAN_PORT, renderState, type Underlay, VXLAN_DEVICE, VXLAN_OVERHEAD } from './render.ts';

/** What is needed of the Node informer (`Informer<'Node'>`). */
export interface NodeSource extends Lister<Node> {
  readonly synced: Promise<void>;
  addHandler(handler: InformerHandler<Node>): () => void;
}

export interface RoutesControllerOptions {
  readonly nodes: NodeSource;
  /** The own node. */
  readonly nodeName: string;
  readonly log: Logger;
  /** The addresses of all pods: what pods send elsewhere is masqueraded. Default none: nothing is. */
  readonly clusterCidrs?: readonly string[];
  /** Default vxlan. */
  readonly mode?: RouteMode;
  /** UDP port of the tunnel; default 8472. */
  readonly vxlanPort?: number;
  readonly vni?: number;
  readonly txChecksumOffload?: 'auto' | 'on' | 'off';
  /** The node's namespace; default: the one this process is in. */
  readonly netns?: NetworkNamespace;
  readonly clock?: Clock;
  /** Told of each reconcile, for metrics. */
  readonly observe?: (reconcile: ReconcileOutcome & { readonly durationMs: number; readonly peers: number }) => void;
}

/** Ethernet's: assumed until the underlay is found. */
const DEFAULT_UNDERLAY_MTU = 1500;
const MIN_INTERVAL_MS = 50;
/** A look at everything without any reason, for what no notification tells. */
const MAX_INTERVAL_MS = 60_000;

export class RoutesController implements Startable {
  readonly #options: RoutesControllerOptions;
  readonly #rtnl: Rtnetlink;
  readonly #reconciler: RoutesReconciler;
  readonly #runner: BoundedRunner;
  readonly #nft: Nftables | undefined;
  readonly #masquerade: Masquerade | undefined;
  readonly #settings: { readonly vni: number; readonly port: number };
  readonly #mode: RouteMode;
  #monitor: Monitor | undefined;
  #hasLeft = false;
  #podMtu: number;
  /** The interfaces whose changes matter. */
  #underlay: number | undefined;
  #tunnel: number | undefined;
  #complaint = '';

  constructor(options: RoutesControllerOptions) {
    this.#options = options;
    this.#mode = options.mode ?? 'vxlan';
    this.#settings = { vni: options.vni ?? DEFAULT_VNI, port: options.vxlanPort ?? DEFAULT_VXLAN_PORT };
    this.#podMtu = DEFAULT_UNDERLAY_MTU - (this.#mode === 'vxlan' ? VXLAN_OVERHEAD[4] : 0);
    this.#rtnl = Rtnetlink.open(options.netns);
    this.#reconciler = new RoutesReconciler({
      rtnl: this.#rtnl,
      ...(options.netns && { netns: options.netns }),
      ...(options.txChecksumOffload && { txChecksumOffload: options.txChecksumOffload }),
    });
    const { clusterCidrs = [] } = options;
    this.#nft = clusterCidrs.length > 0 ? Nftables.open(options.netns) : undefined;
    this.#masquerade = this.#nft && new Masquerade(this.#nft, clusterCidrs);
    this.#runner = new BoundedRunner({
      name: 'routes',
      run: () => this.#reconcile(),
      log: options.log,
      minIntervalMs: MIN_INTERVAL_MS,
      maxIntervalMs: MAX_INTERVAL_MS,
      clock: options.clock ?? systemClock,
    });
  }

  /** The MTU that a pod's packets may have on every way, bytes; found anew at each reconcile. */
  get podMtu(): number {
    return this.#podMtu;
  }

  /** Resolves after the first reconcile. Nodes and their addresses may come later; a first failure is retried. */
  async start(signal: AbortSignal): Promise<void> {
    const { nodes, netns, log } = this.#options;
    await nodes.synced;
    if (signal.aborted) return;
    writeSysctl(netns, 'net.ipv4.ip_forward', 1);
    writeSysctl(netns, 'net.ipv6.conf.all.forwarding', 1);
    const trigger = () => this.#runner.trigger();
    this.#monitor = this.#rtnl.monitor(
      { links: true, addresses: true, routes: true, neighbours: true },
      (event) => {
        if (this.#concerns(event)) trigger();
      },
      trigger,
    );
    const removeHandler = nodes.addHandler({ onAdd: trigger, onUpdate: trigger, onDelete: trigger });
    signal.addEventListener('abort', () => {
      removeHandler();
      this.#monitor?.close();
      this.#rtnl.close();
      this.#nft?.close();
    });
    try {
      this.#reconcile();
    } catch (error) {
      log.warn({ error }, 'routes: the first reconcile failed; trying again');
      trigger();
    }
    this.#runner.start(signal);
  }

  /** One pass, now. For `start` and the runner; public for tests and for an operator's "repair now". */
  reconcileNow(): void {
    this.#reconcile();
  }

  /** Takes all routes, the tunnel device and the masquerading away, for good: for a node that leaves the cluster. */
  removeAll(): void {
    this.#hasLeft = true;
    this.#reconciler.removeAll();
    this.#masquerade?.remove();
  }

  #reconcile(): void {
    // The kernel tells of what was taken away just now, too.
    if (this.#hasLeft) return;
    const { nodes, nodeName, observe, log } = this.#options;
    const started = performance.now();
    const model = buildModel(nodes.list(), nodeName, this.#mode);
    if ('waitingFor' in model) return this.#complain(model.waitingFor);
    const underlay = this.#findUnderlay(model);
    if (!underlay) return this.#complain(`no interface has or reaches the node's address ${model.self.addresses[0]}`);
    this.#complain(model.skipped.map(({ name, reason }) => `${name} ${reason}`).join('; '));
    const desired = renderState(model, underlay, this.#settings);
    this.#podMtu = desired.podMtu;
    this.#underlay = underlay.ifindex;
    const outcome = this.#reconciler.reconcile(desired);
    this.#masquerade?.ensure(model, started);
    this.#tunnel = desired.device && this.#rtnl.link(VXLAN_DEVICE)?.ifindex;
    const durationMs = performance.now() - started;
    observe?.({ ...outcome, durationMs, peers: model.peers.length });
    if (outcome.changes > 0) log.debug({ changes: outcome.changes, durationMs }, 'routes: changed');
  }

  /** Where the own address is; where it is on no interface (NAT), what leads to the first peer. */
  #findUnderlay(model: RoutesModel): Underlay | undefined {
    const own = addressOf(model.self, model.underlay);
    const holder = this.#rtnl.addresses({ family: model.underlay }).find(({ address }) => address === own);
    const peer = model.peers[0] && addressOf(model.peers[0], model.underlay);
    const ifindex = holder?.ifindex ?? (peer && this.#rtnl.lookupRoute(peer)?.ifindex);
    const link = ifindex === undefined ? undefined : this.#rtnl.link(ifindex);
    return link && { ifindex: link.ifindex, mtu: link.mtu, hasOwnAddress: holder !== undefined };
  }

  #concerns(event: RtnetlinkEvent): boolean {
    switch (event.kind) {
      case 'link':
        return event.link.name === VXLAN_DEVICE || event.link.ifindex === this.#underlay;
      case 'address':
        return event.address.ifindex === this.#underlay || event.address.ifindex === this.#tunnel;
      case 'route':
        return event.route.protocol === ROUTE_PROTOCOL_PODWIRE;
      case 'neighbour':
        return event.neighbour.ifindex === this.#tunnel;
      case 'fdb':
        return event.entry.ifindex === this.#tunnel;
      case 'rule':
        return false;
    }
  }

  /** Says what is missing once, not at every pass. */
  #complain(complaint: string): void {
    if (complaint === this.#complaint) return;
    this.#complaint = complaint;
    if (complaint) this.#options.log.warn(`routes: ${complaint}`);
  }
}
