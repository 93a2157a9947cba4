/**
 * Brings the kernel to the desired state: reads what is there of podwire's own objects (the tunnel device, and routes
 * with podwire's protocol number), and applies the difference.
 *
 * The kernel is read each time, so it does not matter who changed what; nothing foreign is ever touched. Routes are
 * moved before the tunnel device goes and after it has come, so a change of mode interrupts no traffic.
 */
import { release } from 'node:os';
import type { NetworkNamespace } from '../../linux/netns.ts';
import { setTxChecksumOffload, txChecksumOffload } from '../../linux/offload.ts';
import {
  type Link,
  type Operation,
  type OperationFailure,
  ROUTE_PROTOCOL_PODWIRE,
  ROUTE_TABLE_MAIN,
  type Route,
  type Rtnetlink,
} from '../../linux/rtnetlink.ts';
import { type DesiredRoute, type DesiredState, VXLAN_DEVICE, type VxlanDevice } from './render.ts';

/** Some of the changes were refused; the others are in force. */
export class RoutesError extends Error {
  override readonly name = 'RoutesError';
  readonly failures: readonly OperationFailure[];
  constructor(failures: readonly OperationFailure[]) {
    const more = failures.length > 1 ? ` (and ${failures.length - 1} more)` : '';
    super(`routes: ${failures[0]!.error.message}${more}`, { cause: failures[0]!.error });
    this.failures = failures;
  }
}

export interface ReconcileOutcome {
  /** How many changes were made; 0 when all was right. */
  readonly changes: number;
}

export interface RoutesReconcilerOptions {
  readonly rtnl: Rtnetlink;
  /** The namespace of `rtnl`, for what rtnetlink cannot do; default: the current one. */
  readonly netns?: NetworkNamespace;
  /** "auto": off on kernels that are known to spoil checksums of tunnelled packets. */
  readonly txChecksumOffload?: 'auto' | 'on' | 'off';
}

export class RoutesReconciler {
  readonly #rtnl: Rtnetlink;
  readonly #netns: NetworkNamespace | undefined;
  readonly #txChecksum: 'on' | 'off' | 'as is';

  constructor(options: RoutesReconcilerOptions) {
    this.#rtnl = options.rtnl;
    this.#netns = options.netns;
    const wanted = options.txChecksumOffload ?? 'auto';
    this.#txChecksum = wanted === 'auto' ? (spoilsTunnelChecksums(release()) ? 'off' : 'as is') : wanted;
  }

  /** Throws RoutesError when some changes were refused, KernelError when the tunnel device cannot be made. */
  reconcile(desired: DesiredState): ReconcileOutcome {
    let changes = 0;
    const device = desired.device && this.#ensureDevice(desired.device, () => changes++);
    const operations = [
      ...(device === undefined ? [] : this.#deviceDifference(desired, device)),
      ...this.#routeDifference(desired, device),
    ];
    const failures = this.#rtnl.transaction(operations);
    if (!desired.device && this.#removeDevice()) changes++;
    if (failures.length > 0) throw new RoutesError(failures);
    return { changes: changes + operations.length };
  }

  /** Removes everything that `reconcile` ever made. */
  removeAll(): void {
    this.reconcile({ podMtu: 0, device: undefined, addresses: [], neighbours: [], fdb: [], routes: [] });
  }

  /** The device's ifindex; made anew when it differs in what cannot be changed. */
  #ensureDevice(wanted: VxlanDevice, changed: () => void): number {
    let link = this.#rtnl.link(wanted.name);
    if (link && !isSameDevice(link, wanted)) {
      this.#rtnl.deleteLink(link.ifindex);
      link = undefined;
      changed();
    }
    const ifindex = link?.ifindex ?? this.#createDevice(wanted);
    if (!link || link.mtu !== wanted.mtu || !link.up) {
      this.#rtnl.setLink(ifindex, { mtu: wanted.mtu, up: true });
      changed();
    }
    if (this.#txChecksum !== 'as is' && txChecksumOffload(this.#netns, wanted.name) !== this.#txChecksum) {
      setTxChecksumOffload(this.#netns, wanted.name, this.#txChecksum);
      changed();
    }
    return ifindex;
  }

  #createDevice({ name, vni, port, mac, mtu, local, lower }: VxlanDevice): number {
    const ifindex = this.#rtnl.createVxlan({
      ...{ name, vni, port, mac, mtu, device: lower, learning: false },
      ...(local === undefined ? {} : { local }),
    });
    // No address but ours, and no duplicate address detection over the tunnel.
    this.#rtnl.setLink(ifindex, { addressGeneration: 'none' });
    return ifindex;
  }

  #removeDevice(): boolean {
    const link = this.#rtnl.link(VXLAN_DEVICE);
    return link?.kind === 'vxlan' && this.#rtnl.ensureNoLink(link.ifindex);
  }

  #deviceDifference(desired: DesiredState, device: number): Operation[] {
    return [
      ...this.#addressDifference(desired.addresses, device),
      ...this.#neighbourDifference(desired.neighbours, device),
      ...this.#fdbDifference(desired.fdb, device),
    ];
  }

  #addressDifference(desired: readonly string[], device: number): Operation[] {
    const present = this.#rtnl.addresses({ device }).map(({ address, prefix }) => `${address}/${prefix}`);
    const missing = desired.filter((address) => !present.includes(address));
    const surplus = present.filter((address) => !desired.includes(address));
    return [
      ...missing.map((address): Operation => ({ op: 'replaceAddress', address: { device, address, nodad: true } })),
      ...surplus.map((address): Operation => ({ op: 'deleteAddress', address: { device, address } })),
    ];
  }

  #neighbourDifference(desired: DesiredState['neighbours'], device: number): Operation[] {
    const present = new Map(
      this.#rtnl
        .neighbours({ device })
        .filter(({ state }) => state === 'permanent')
        .map(({ address, mac }): [string, string | undefined] => [address, mac]),
    );
    const wanted = new Set<string>(desired.map(({ address }) => address));
    return [
      ...desired
        .filter(({ address, mac }) => present.get(address) !== mac)
        .map(({ address, mac }): Operation => ({ op: 'replaceNeighbour', neighbour: { device, address, mac } })),
      ...[...present.keys()]
        .filter((address) => !wanted.has(address))
        .map((address): Operation => ({ op: 'deleteNeighbour', neighbour: { device, address } })),
    ];
  }

  #fdbDifference(desired: DesiredState['fdb'], device: number): Operation[] {
    const present = this.#rtnl.fdb({ device }).filter(({ destination }) => destination !== undefined);
    const key = (entry: { readonly mac: string; readonly destination: string | undefined }) =>
      `${entry.mac} ${entry.destination}`;
    const presentKeys = new Set(present.map(key));
    const wantedMacs = new Map(desired.map((entry) => [entry.mac, key(entry)]));
    // A replacement takes the place of what a MAC had before, so only MACs that nobody has any more are deleted.
    const surplus = present.filter(({ mac }) => !wantedMacs.has(mac));
    return [
      ...desired
        .filter((entry) => !presentKeys.has(key(entry)))
        .map(({ mac, destination }): Operation => ({ op: 'replaceFdb', fdb: { device, mac, destination } })),
      ...surplus.map(({ mac, destination }): Operation => {
        return { op: 'deleteFdb', fdb: { device, mac, destination: destination! } };
      }),
    ];
  }

  #routeDifference({ routes: desired }: DesiredState, device: number | undefined): Operation[] {
    const present = this.#rtnl.routes({ protocol: ROUTE_PROTOCOL_PODWIRE, table: ROUTE_TABLE_MAIN });
    const wanted = new Set(desired.map(({ destination }) => destination));
    const surplus = present.filter(
      (route) => !wanted.has(route.destination) || isDuplicate(route, desired, present, device),
    );
    return [
      ...desired
        .filter((route) => !present.some((there) => isSameRoute(there, route, device)))
        .map((route): Operation => ({ op: 'replaceRoute', route: routeSpec(route, device) })),
      ...surplus.map((route): Operation => ({ op: 'deleteRoute', route: deletionOf(route) })),
    ];
  }
}

function isSameDevice(link: Link, wanted: VxlanDevice): boolean {
  const { vxlan } = link;
  return (
    vxlan !== undefined &&
    vxlan.vni === wanted.vni &&
    vxlan.port === wanted.port &&
    vxlan.local === wanted.local &&
    vxlan.device === wanted.lower &&
    !vxlan.learning &&
    link.mac === wanted.mac
  );
}

function isSameRoute(there: Route, wanted: DesiredRoute, device: number | undefined): boolean {
  return (
    there.destination === wanted.destination &&
    there.type === wanted.type &&
    there.via === wanted.via &&
    there.nexthops.length === 0 &&
    (!wanted.overVxlan || there.ifindex === device) &&
    (wanted.overVxlan || there.ifindex !== device || device === undefined)
  );
}

/**
 * IPv6 keeps a second route to a destination beside the first when their types or metrics differ, where IPv4 replaces.
 * One that is not the wanted one goes, once the wanted one is there.
 */
function isDuplicate(
  route: Route,
  desired: readonly DesiredRoute[],
  present: readonly Route[],
  device: number | undefined,
): boolean {
  const wanted = desired.find(({ destination }) => destination === route.destination);
  if (!wanted || isSameRoute(route, wanted, device)) return false;
  return present.some((other) => isSameRoute(other, wanted, device));
}

function routeSpec(route: DesiredRoute, device: number | undefined) {
  const { destination, via, type, overVxlan } = route;
  return {
    destination,
    type,
    ...(via === undefined ? {} : { via }),
    ...(overVxlan && device !== undefined ? { device, onlink: true } : {}),
  };
}

function deletionOf(route: Route) {
  const { destination, metric, via, ifindex } = route;
  return {
    destination,
    metric,
    type: route.type as 'unicast',
    ...(via === undefined ? {} : { via }),
    ...(ifindex === undefined || route.type !== 'unicast' ? {} : { device: ifindex }),
  };
}

/**
 * Linux before 5.7 updates the zero UDP checksum of a tunnelled packet that passes NAT, and the receiver drops it: a
 * connection stalls for 63 s (fixed by "netfilter: nat: never update the UDP checksum when it's 0", May 2020).
 */
export function spoilsTunnelChecksums(kernelRelease: string): boolean {
  const match = /^(\d+)\.(\d+)/.exec(kernelRelease);
  if (!match) return false;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  return major < 5 || (major === 5 && minor < 7);
}
