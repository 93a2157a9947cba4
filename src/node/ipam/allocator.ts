/**
 * Hands out the addresses of one podCIDR, round-robin, so that a freed address rests as long as possible: connections,
 * conntrack entries and DNS answers of its former pod die before it comes back. Pure memory; what must survive is the
 * store's task.
 *
 * Never handed out: the network address (the node's own address on the VXLAN device), the first address (where tools and
 * people expect a gateway) and IPv4's broadcast address.
 */
import {
  type Cidr,
  cidrAddress,
  cidrContains,
  cidrSize,
  formatCidr,
  type IpAddress,
  ipToBigInt,
} from '../../base/ip.ts';

/** Every address of a podCIDR is in use. */
export class PoolExhaustedError extends Error {
  override readonly name = 'PoolExhaustedError';
  readonly cidr: string;
  constructor(cidr: string, used: number, capacity: bigint) {
    super(`no free address in ${cidr} (${used} of ${capacity} in use)`);
    this.cidr = cidr;
  }
}

/** Offset of the first address that is handed out: after the network address and the gateway. */
const FIRST_OFFSET = 2n;

export class AddressAllocator {
  readonly cidr: Cidr;
  /** How many addresses can be in use at once. */
  readonly capacity: bigint;
  readonly #network: bigint;
  readonly #used = new Set<bigint>();
  /** The offset handed out last; the search goes on behind it. */
  #cursor = FIRST_OFFSET - 1n;

  /** Throws RangeError when the block has no address to hand out. */
  constructor(cidr: Cidr) {
    this.cidr = cidr;
    this.#network = ipToBigInt(cidr.address);
    const reservedAtEnd = cidr.family === 4 ? 1n : 0n;
    this.capacity = cidrSize(cidr) - FIRST_OFFSET - reservedAtEnd;
    if (this.capacity < 1n) throw new RangeError(`${formatCidr(cidr)} is too small: it has no address for a pod`);
  }

  /** Number of addresses in use. */
  get used(): number {
    return this.#used.size;
  }

  get isFull(): boolean {
    return BigInt(this.#used.size) >= this.capacity;
  }

  contains(address: string): boolean {
    return cidrContains(this.cidr, address);
  }

  /** The next free address, now in use. Throws PoolExhaustedError. */
  allocate(): IpAddress {
    if (this.isFull) throw new PoolExhaustedError(formatCidr(this.cidr), this.#used.size, this.capacity);
    let offset = this.#after(this.#cursor);
    while (this.#used.has(offset)) offset = this.#after(offset);
    this.#used.add(offset);
    this.#cursor = offset;
    return cidrAddress(this.cidr, offset);
  }

  /** Marks an address as in use; false when it was already, or when it is none that this block hands out. */
  take(address: string): boolean {
    const offset = this.#offsetOf(address);
    if (offset === undefined || this.#used.has(offset)) return false;
    this.#used.add(offset);
    return true;
  }

  /** Gives an address back. One that is not in use is ignored. */
  free(address: string): void {
    const offset = this.#offsetOf(address);
    if (offset !== undefined) this.#used.delete(offset);
  }

  /** Goes on behind this address, which was the last one handed out before a restart. */
  resumeAfter(address: string): void {
    this.#cursor = this.#offsetOf(address) ?? this.#cursor;
  }

  #after(offset: bigint): bigint {
    const next = offset + 1n;
    return next < FIRST_OFFSET + this.capacity ? next : FIRST_OFFSET;
  }

  #offsetOf(address: string): bigint | undefined {
    if (!this.contains(address)) return undefined;
    const offset = ipToBigInt(address) - this.#network;
    return offset >= FIRST_OFFSET && offset < FIRST_OFFSET + this.capacity ? offset : undefined;
  }
}
