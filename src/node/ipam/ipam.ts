/**
 * The addresses of a node's pods: which pod holds which, in memory and on disk.
 *
 * An address is in the journal before anyone learns of it, and leaves it after its interface is gone (the caller's
 * order), so no address is ever held twice whenever the process or the machine dies.
 */
import { renameSync } from 'node:fs';
import { type Clock, systemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { formatCidr, type IpAddress, parseCidrStrict } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import { AddressAllocator } from './allocator.ts';
import {
  type Attachment,
  attachmentKey,
  JournalCorruptError,
  type JournalRecord,
  type JournalState,
  type Reservation,
  type ReservationRequest,
} from './journal-record.ts';
import { ReservationStore } from './store.ts';

export interface IpamOptions {
  /** The journal's file; its folder is made when absent. */
  readonly path: string;
  /** The node's podCIDRs, at most one per family; may come later by `setPodCidrs`. */
  readonly podCidrs?: readonly string[];
  readonly log: Logger;
  readonly clock?: Clock;
  /**
   * Tells what is in use when the journal is missing or damaged: from the runtime's sandboxes, from the kernel's
   * interfaces. Without it a damaged journal is an error.
   */
  readonly recover?: () => Promise<readonly Reservation[]> | readonly Reservation[];
}

export interface PoolUsage {
  readonly cidr: string;
  readonly used: number;
  readonly capacity: bigint;
}

/** The node has no podCIDR yet: its Node object has not been given one. */
export class NoPodCidrError extends Error {
  override readonly name = 'NoPodCidrError';
  constructor() {
    super('this node has no podCIDR yet');
  }
}

/** A reservation younger than this may belong to a sandbox that its runtime does not list yet, milliseconds. */
const YOUNG_MS = 60_000;

export class Ipam {
  readonly #store: ReservationStore;
  readonly #clock: Clock;
  readonly #reservations: Map<string, Reservation>;
  #lastAddresses: readonly IpAddress[];
  #pools: readonly AddressAllocator[] = [];

  private constructor(options: IpamOptions, state: JournalState) {
    this.#clock = options.clock ?? systemClock;
    this.#reservations = state.reservations;
    this.#lastAddresses = state.lastAddresses;
    this.#store = ReservationStore.open(options.path, () => this.#snapshot());
    this.setPodCidrs(options.podCidrs ?? []);
  }

  /**
   * Reads the journal. A damaged one is put aside under `<path>.damaged-<time>` and rebuilt by `recover`, and so is a
   * missing one. Throws JournalCorruptError when it is damaged and there is nothing to rebuild it from.
   */
  static async open(options: IpamOptions): Promise<Ipam> {
    const state = readOrPutAside(options) ?? adopt((await options.recover?.()) ?? [], options.log);
    return new Ipam(options, state);
  }

  /** Takes the node's podCIDRs. Reservations outside of them stay until they are released. */
  setPodCidrs(podCidrs: readonly string[]): void {
    const cidrs = podCidrs.map(parseCidrStrict);
    if (new Set(cidrs.map((cidr) => cidr.family)).size !== cidrs.length) {
      throw new RangeError(`more than one podCIDR of a family: ${podCidrs.join(', ')}`);
    }
    const pools = cidrs.map((cidr) => new AddressAllocator(cidr));
    for (const pool of pools) {
      for (const { addresses } of this.#reservations.values()) for (const address of addresses) pool.take(address);
      for (const address of this.#lastAddresses) pool.resumeAfter(address);
    }
    this.#pools = pools;
  }

  get podCidrs(): readonly string[] {
    return this.#pools.map((pool) => formatCidr(pool.cidr));
  }

  /**
   * Reserves one address per podCIDR; the same reservation again for an attachment that has one. The addresses may be
   * put on an interface at once (a crash of the process cannot lose them any more); nobody else may learn them before
   * `durable` has resolved. Throws PoolExhaustedError, NoPodCidrError and file system errors.
   */
  begin(request: ReservationRequest): { readonly reservation: Reservation; readonly durable: Promise<void> } {
    const existing = this.#reservations.get(attachmentKey(request));
    if (existing) return { reservation: existing, durable: Promise.resolve() };
    if (this.#pools.length === 0) throw new NoPodCidrError();
    const addresses = this.#allocate();
    const { containerId, ifname, podNamespace, podName, podUid } = request;
    const pod = { containerId, ifname, podNamespace, podName, podUid };
    const reservation: Reservation = { ...pod, addresses, reservedAt: this.#clock.now() };
    const durable = this.#record(reservation);
    this.#store.compactIfGrown(this.#reservations.size);
    return { reservation, durable };
  }

  /** As `begin`, and waits until the reservation survives a power cut. */
  async reserve(request: ReservationRequest): Promise<Reservation> {
    const { reservation, durable } = this.begin(request);
    await durable;
    return reservation;
  }

  /**
   * Gives an attachment's addresses back; without an ifname, those of all the container's interfaces. Call it when the
   * interface is gone. Returns what was released: nothing the second time.
   */
  release(target: { readonly containerId: string; readonly ifname?: string }): Reservation[] {
    const { containerId, ifname } = target;
    const matching = [...this.#reservations.values()].filter(
      (reservation) => reservation.containerId === containerId && (ifname ?? reservation.ifname) === reservation.ifname,
    );
    for (const reservation of matching) this.#release(reservation);
    return matching;
  }

  get(attachment: Attachment): Reservation | undefined {
    return this.#reservations.get(attachmentKey(attachment));
  }

  /** All reservations, oldest first. */
  list(): Reservation[] {
    return [...this.#reservations.values()];
  }

  /**
   * The reservations of containers that do not live any more. Young ones (default: under a minute) are left out: a
   * runtime lists a sandbox only after its network is there.
   */
  leaked(liveContainerIds: Iterable<string>, minAgeMs = YOUNG_MS): Reservation[] {
    const live = new Set(liveContainerIds);
    const newest = this.#clock.now() - minAgeMs;
    return this.list().filter(({ containerId, reservedAt }) => !live.has(containerId) && reservedAt <= newest);
  }

  /** Releases what `leaked` names, and returns it. For callers whose interfaces are gone already, as after a reboot. */
  reconcile(liveContainerIds: Iterable<string>, minAgeMs = YOUNG_MS): Reservation[] {
    const leaked = this.leaked(liveContainerIds, minAgeMs);
    for (const reservation of leaked) this.#release(reservation);
    return leaked;
  }

  usage(): PoolUsage[] {
    return this.#pools.map((pool) => ({ cidr: formatCidr(pool.cidr), used: pool.used, capacity: pool.capacity }));
  }

  close(): void {
    this.#store.close();
  }

  /** One address of each pool, or none of any. */
  #allocate(): IpAddress[] {
    const addresses: IpAddress[] = [];
    try {
      for (const pool of this.#pools) addresses.push(pool.allocate());
      return addresses;
    } catch (error) {
      this.#free(addresses);
      throw error;
    }
  }

  #record(reservation: Reservation): Promise<void> {
    try {
      const { durable } = this.#store.append({ op: 'reserve', ...reservation });
      this.#reservations.set(attachmentKey(reservation), reservation);
      this.#lastAddresses = reservation.addresses;
      return durable;
    } catch (error) {
      this.#free(reservation.addresses);
      throw error;
    }
  }

  #free(addresses: readonly string[]): void {
    for (const pool of this.#pools) for (const address of addresses) pool.free(address);
  }

  #release(reservation: Reservation): void {
    const { containerId, ifname } = reservation;
    this.#store.appendLazily({ op: 'release', containerId, ifname });
    this.#reservations.delete(attachmentKey(reservation));
    this.#free(reservation.addresses);
    this.#store.compactIfGrown(this.#reservations.size);
  }

  #snapshot(): JournalRecord[] {
    const reservations = this.list().map((reservation) => ({ op: 'reserve' as const, ...reservation }));
    return [...reservations, { op: 'cursor', addresses: this.#lastAddresses }];
  }
}

/** The journal's state; undefined when it has to be rebuilt. */
function readOrPutAside({ path, log, recover, clock = systemClock }: IpamOptions): JournalState | undefined {
  try {
    return ReservationStore.read(path);
  } catch (error) {
    if (!(error instanceof JournalCorruptError) || !recover) throw error;
    const aside = `${path}.damaged-${clock.now()}`;
    log.error({ path, aside, error }, `ipam: ${messageOf(error)}; rebuilding it from what runs`);
    renameSync(path, aside);
    return undefined;
  }
}

/** The state that running sandboxes tell of. Of two that claim one address the first keeps it. */
function adopt(reservations: readonly Reservation[], log: Logger): JournalState {
  const state: JournalState = { reservations: new Map(), lastAddresses: [] };
  const holders = new Map<string, string>();
  for (const reservation of reservations) {
    const key = attachmentKey(reservation);
    const taken = reservation.addresses.find((address) => holders.has(address));
    if (taken !== undefined) {
      log.warn({ address: taken, heldBy: holders.get(taken), alsoClaimedBy: key }, 'ipam: an address is claimed twice');
      continue;
    }
    for (const address of reservation.addresses) holders.set(address, key);
    state.reservations.set(key, reservation);
  }
  return state;
}
