/**
 * Pods' interfaces: made, checked, taken away, and found again after a restart.
 *
 * ADD, in the order that keeps a packet from passing before the pod's policy is in force:
 *
 *   reserve -> veth, both ends -> pod's end complete, host end DOWN -> hooks (policy) -> host end up, routes -> answer
 *
 * While the host end is down the pod has no carrier and the node no route: nothing passes in either direction. The
 * reservation's way to the disk runs beside all this and is awaited before the answer.
 *
 * DEL goes the other way: host end down -> hooks -> link deleted -> addresses released.
 *
 * What is true lives in the kernel and the journal; memory holds nothing that a restart could lose.
 */

import { messageOf } from '../../base/errors.ts';
import { familyOf } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import { hasCode, isExists } from '../../linux/errors.ts';
import { NetworkNamespace } from '../../linux/netns.ts';
import { type Monitor, type Operation, Rtnetlink } from '../../linux/rtnetlink.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import { ensureAntiSpoofing, type RuleWriter } from './anti-spoofing.ts';
import type { AttachedPod, PodNetworkHook } from './hook.ts';
import { KeyedLock } from './keyed-lock.ts';
import { LinkReaper } from './link-reaper.ts';
import { addResult, attachedPod, type PodReservation } from './pod-attachment.ts';
import { checkPodLink } from './pod-check.ts';
import {
  DYING_LINK_GROUP,
  GATEWAYS,
  HOST_MAC,
  hostInterfaceName,
  hostPrefix,
  hostSideActivation,
  hostSidePreparation,
  type LinkOwner,
  POD_LINK_GROUP,
  POD_ROUTE_PROTOCOL,
  podMac,
  podSideOperations,
  renderAlias,
} from './pod-link.ts';
import { type AddResult, CniError, CniErrorCode, type ValidAttachment } from './protocol.ts';

/** What is needed of the node's IPAM (`Ipam` in node/ipam). */
export interface PodAddresses {
  begin(owner: LinkOwner): { readonly reservation: PodReservation; readonly durable: Promise<void> };
  get(attachment: { readonly containerId: string; readonly ifname: string }): PodReservation | undefined;
  release(attachment: { readonly containerId: string; readonly ifname: string }): readonly PodReservation[];
  list(): readonly PodReservation[];
  leaked(liveContainerIds: Iterable<string>, minAgeMs?: number): readonly PodReservation[];
  usage(): readonly { readonly cidr: string; readonly used: number; readonly capacity: bigint }[];
}

export interface PodNetworkOptions {
  readonly ipam: PodAddresses;
  readonly log: Logger;
  /** The MTU of pods' interfaces, asked at each ADD (`RoutesController.podMtu`). */
  readonly mtu: () => number;
  /** Told of each pod, one after the other in this order; the other way round when it goes. */
  readonly hooks?: readonly PodNetworkHook[];
  /** The node's own addresses, preferred as source towards its pods; asked at each ADD. */
  readonly nodeAddresses?: () => readonly string[];
  /** The node's namespace; default: the one this process is in. */
  readonly netns?: NetworkNamespace;
  /** Opened in the node's namespace: for the rule that pods send from their own addresses only; without it IPv4's is a sysctl. */
  readonly nft?: RuleWriter;
  /** How long a hook may take, milliseconds. */
  readonly hookTimeoutMs?: number;
}

export interface AttachRequest extends LinkOwner {
  /** The pod's namespace, open. */
  readonly netns: NetworkNamespace;
  /** CNI_NETNS as the runtime names it, for the result. */
  readonly netnsPath: string;
  readonly mtu?: number | undefined;
}

export interface Attachment {
  readonly containerId: string;
  readonly ifname: string;
}

const DEFAULT_HOOK_TIMEOUT_MS = 60_000;

export class PodNetwork implements Startable {
  readonly #options: PodNetworkOptions;
  readonly #rtnl: Rtnetlink;
  readonly #reaper: LinkReaper;
  readonly #locks = new KeyedLock();
  readonly #nodeInode: number;
  #monitor: Monitor | undefined;
  #repairPlanned = false;

  constructor(options: PodNetworkOptions) {
    this.#options = options;
    this.#rtnl = Rtnetlink.open(options.netns);
    this.#reaper = new LinkReaper(this.#rtnl, options.netns);
    this.#nodeInode = options.netns?.inode ?? currentInode();
  }

  /**
   * Puts right what a former run left: interfaces that nobody has a reservation for go, missing routes of the others
   * come back, and the hooks are told of every pod again (not awaited: what they had in force stays in force).
   */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#options.nft) ensureAntiSpoofing(this.#options.nft);
    this.#ensureGateway();
    const reservations = this.#options.ipam.list();
    const known = new Set(reservations.map(({ containerId, ifname }) => hostInterfaceName(containerId, ifname)));
    const links = this.#rtnl.links({ kind: 'veth' });
    const orphans = links.filter(({ group, name }) => group === POD_LINK_GROUP && !known.has(name));
    for (const { name } of orphans) this.#reaper.condemn(name);
    if (orphans.length > 0)
      this.#options.log.info({ links: orphans.map(({ name }) => name) }, 'cni: leftover links go');
    if (orphans.length > 0 || links.some(({ group }) => group === DYING_LINK_GROUP)) await this.#reaper.reap();
    this.#repairRoutes();
    this.#monitor = this.#rtnl.monitor(
      { routes: true },
      (event) => {
        const isLoss = event.kind === 'route' && event.action === 'deleted';
        if (isLoss && event.route.protocol === POD_ROUTE_PROTOCOL) this.#planRepair(signal);
      },
      () => this.#planRepair(signal),
    );
    signal.addEventListener('abort', () => this.#monitor?.close(), { once: true });
    void this.#announce(reservations);
  }

  /** ADD. Whatever fails, everything is undone and the error thrown; a CniError carries its code. */
  add(request: AttachRequest): Promise<AddResult> {
    return this.#locks.run(request.containerId, () => this.#add(request));
  }

  /** DEL. Succeeds when there is nothing. Resolves when the link is gone and the addresses are free. */
  remove(attachment: Attachment): Promise<void> {
    return this.#locks.run(attachment.containerId, () => this.#remove(attachment));
  }

  /** CHECK. Throws a CniError that names the first thing that is not as ADD made it. */
  async check(request: AttachRequest, expectedAddresses: readonly string[]): Promise<void> {
    await this.#locks.run(request.containerId, async () => {
      checkPodLink(this.#rtnl, request.netns, request, this.#options.ipam.get(request), expectedAddresses);
    });
  }

  /** GC: removes every attachment that is not in the list, and links without a reservation. */
  async collect(valid: readonly ValidAttachment[]): Promise<void> {
    const keep = new Set(valid.map(({ containerID, ifname }) => `${containerID}/${ifname}`));
    const stale = this.#options.ipam
      .list()
      .filter(({ containerId, ifname }) => !keep.has(`${containerId}/${ifname}`) && !this.#locks.isHeld(containerId));
    await this.#removeAll(stale);
  }

  /**
   * Removes what belongs to containers that do not live any more (the runtime's sandboxes are the truth). Reservations
   * younger than a minute, or than `minAgeMs`, stay: their sandboxes may not be listed yet.
   */
  async reconcile(liveContainerIds: Iterable<string>, minAgeMs?: number): Promise<number> {
    const leaked = this.#options.ipam
      .leaked(liveContainerIds, minAgeMs)
      .filter(({ containerId }) => !this.#locks.isHeld(containerId));
    await this.#removeAll(leaked);
    return leaked.length;
  }

  /** STATUS. Throws a CniError when an ADD would fail now. */
  status(): void {
    const pools = this.#options.ipam.usage();
    if (pools.length === 0) throw new CniError(CniErrorCode.notAvailable, 'this node has no podCIDR yet');
    const full = pools.find(({ used, capacity }) => BigInt(used) >= capacity);
    if (full) {
      const counts = `${full.used} of ${full.capacity} in use`;
      throw new CniError(CniErrorCode.notAvailable, `no free address in ${full.cidr} (${counts})`);
    }
  }

  /** Closes the sockets, when nothing is asked for any more (the server has stopped). */
  close(): void {
    this.#monitor?.close();
    this.#reaper.close();
    this.#rtnl.close();
  }

  async #add(request: AttachRequest): Promise<AddResult> {
    if (request.netns.inode === this.#nodeInode) {
      throw new CniError(CniErrorCode.invalidEnvironment, "CNI_NETNS is the node's own network namespace");
    }
    const complete = this.#completeResult(request);
    if (complete) return complete;
    const { reservation, durable } = this.#options.ipam.begin(request);
    // Awaited below; without this a failure in between would be an unhandled rejection.
    durable.catch(() => {});
    const hostInterface = hostInterfaceName(request.containerId, request.ifname);
    const mtu = request.mtu ?? this.#options.mtu();
    try {
      const device = await this.#createVeth(request, reservation, hostInterface, mtu);
      await this.#attach(attachedPod(reservation, hostInterface));
      this.#activate(reservation, device);
      await durable;
    } catch (error) {
      await this.#undo(request, error);
      throw error;
    }
    return addResult(reservation, request.netnsPath, hostInterface, mtu);
  }

  /** ADD for what an ADD has made already, of which the runtime did not hear: the same result again. */
  #completeResult(request: AttachRequest): AddResult | undefined {
    const reservation = this.#options.ipam.get(request);
    const hostInterface = hostInterfaceName(request.containerId, request.ifname);
    const link = reservation && this.#rtnl.link(hostInterface);
    if (!link) return undefined;
    try {
      checkPodLink(this.#rtnl, request.netns, request, reservation, []);
      return addResult(reservation, request.netnsPath, hostInterface, link.mtu);
    } catch {
      return undefined;
    }
  }

  /** Both ends, complete, with the host end down. Returns its ifindex. */
  async #createVeth(request: AttachRequest, reservation: PodReservation, name: string, mtu: number): Promise<number> {
    // Left over by an ADD that died half way, without a DEL since.
    if (this.#rtnl.link(name) && this.#reaper.condemn(name)) await this.#reaper.reap();
    const { netns, ifname } = request;
    const peer = { name: ifname, mac: podMac(reservation.addresses), mtu, netns };
    try {
      const device = this.#rtnl.createVeth({ name, mac: HOST_MAC, mtu, group: POD_LINK_GROUP, peer });
      this.#apply(this.#rtnl, hostSidePreparation(reservation, device, renderAlias(reservation)));
      this.#writeSysctls(name, reservation);
      using podRtnl = Rtnetlink.open(netns);
      this.#apply(podRtnl, podSideOperations(reservation));
      return device;
    } catch (error) {
      if (!isExists(error)) throw error;
      throw new CniError(CniErrorCode.failed, `the sandbox has an interface ${ifname} already`, { cause: error });
    }
  }

  /**
   * Lets packets pass. The kernel takes a route's source only while it is an address of the node that has passed
   * duplicate address detection; until then the kernel chooses one itself.
   */
  #activate(reservation: PodReservation, device: number): void {
    try {
      this.#apply(this.#rtnl, hostSideActivation(reservation, device, this.#sources()));
    } catch (error) {
      if (!hasCode(error, 'EINVAL')) throw error;
      this.#apply(this.#rtnl, hostSideActivation(reservation, device, []));
    }
  }

  /**
   * A pod may send only from its own address (strict reverse path), takes no redirects from the node, and cannot
   * advertise itself as a router.
   */
  #writeSysctls(name: string, reservation: PodReservation): void {
    const { netns } = this.#options;
    const families = new Set(reservation.addresses.map(familyOf));
    if (families.has(4)) {
      writeSysctl(netns, `net.ipv4.conf.${name}.rp_filter`, 1);
      writeSysctl(netns, `net.ipv4.conf.${name}.send_redirects`, 0);
    }
    if (families.has(6)) writeSysctl(netns, `net.ipv6.conf.${name}.accept_ra`, 0);
  }

  async #attach(pod: AttachedPod): Promise<void> {
    for (const hook of this.#options.hooks ?? []) await this.#bounded(hook.attached(pod), pod);
  }

  async #bounded(work: Promise<void>, pod: AttachedPod): Promise<void> {
    const limit = this.#options.hookTimeoutMs ?? DEFAULT_HOOK_TIMEOUT_MS;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const text = `the network policy of ${pod.namespace}/${pod.name} was not in force after ${limit / 1000} s`;
      late.reject(new CniError(CniErrorCode.tryAgainLater, text));
    }, limit);
    try {
      await Promise.race([work, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #undo(attachment: Attachment, cause: unknown): Promise<void> {
    try {
      await this.#remove(attachment);
    } catch (error) {
      this.#options.log.error({ attachment, cause, error }, `cni: cannot undo a failed ADD: ${messageOf(error)}`);
    }
  }

  async #remove({ containerId, ifname }: Attachment): Promise<void> {
    const hostInterface = hostInterfaceName(containerId, ifname);
    const wasThere = this.#reaper.condemn(hostInterface);
    const reservation = this.#options.ipam.get({ containerId, ifname });
    if (reservation) await this.#detach(attachedPod(reservation, hostInterface));
    if (wasThere) await this.#reaper.reap();
    this.#options.ipam.release({ containerId, ifname });
  }

  async #detach(pod: AttachedPod): Promise<void> {
    for (const hook of [...(this.#options.hooks ?? [])].reverse()) {
      try {
        await this.#bounded(hook.detached(pod), pod);
      } catch (error) {
        this.#options.log.warn({ pod, error }, `cni: a hook failed for a pod that goes: ${messageOf(error)}`);
      }
    }
  }

  async #removeAll(attachments: readonly Attachment[]): Promise<void> {
    const outcomes = await Promise.allSettled(attachments.map((attachment) => this.remove(attachment)));
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason;
  }

  async #announce(reservations: readonly PodReservation[]): Promise<void> {
    for (const reservation of reservations) {
      const hostInterface = hostInterfaceName(reservation.containerId, reservation.ifname);
      const pod = attachedPod(reservation, hostInterface);
      if (!this.#rtnl.link(hostInterface)?.up) continue;
      await this.#attach(pod).catch((error: unknown) =>
        this.#options.log.warn({ pod, error }, `cni: a hook failed for a pod that was there: ${messageOf(error)}`),
      );
    }
  }

  /** The gateway exists on the node, so that it answers where a pod asks for it; link scope: never used as a source. */
  #ensureGateway(): void {
    this.#rtnl.replaceAddress({ device: 'lo', address: hostPrefix(GATEWAYS[4]), scope: 'link' });
  }

  /** Soon, and once for many losses; DEL causes some of them itself. */
  #planRepair(signal: AbortSignal): void {
    if (this.#repairPlanned || signal.aborted) return;
    this.#repairPlanned = true;
    setTimeout(() => {
      this.#repairPlanned = false;
      if (!signal.aborted) this.#repairRoutes();
    }, 100).unref();
  }

  /** Gives every pod whose host end is up the routes that it should have. */
  #repairRoutes(): void {
    try {
      const present = new Set(
        this.#rtnl.routes({ protocol: POD_ROUTE_PROTOCOL }).map(({ destination }) => destination),
      );
      const links = new Map(this.#rtnl.links({ kind: 'veth' }).map((link) => [link.name, link]));
      for (const reservation of this.#options.ipam.list()) {
        const link = links.get(hostInterfaceName(reservation.containerId, reservation.ifname));
        const isInService = link?.up && link.group === POD_LINK_GROUP;
        if (!isInService || reservation.addresses.every((address) => present.has(hostPrefix(address)))) continue;
        this.#options.log.warn({ reservation }, 'cni: routes to a local pod were gone; repaired');
        this.#activate(reservation, link.ifindex);
      }
    } catch (error) {
      this.#options.log.warn({ error }, `cni: cannot repair routes to local pods: ${messageOf(error)}`);
    }
  }

  #sources(): readonly string[] {
    return this.#options.nodeAddresses?.() ?? [];
  }

  #apply(rtnl: Rtnetlink, operations: readonly Operation[]): void {
    const [failure] = rtnl.transaction(operations);
    if (failure) throw failure.error;
  }
}

function currentInode(): number {
  using ns = NetworkNamespace.current();
  return ns.inode;
}
