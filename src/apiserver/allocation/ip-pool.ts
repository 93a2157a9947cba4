/** The Service addresses of one family: a pool of offsets inside a block. */
import {
  type Cidr,
  cidrAddress,
  cidrContains,
  cidrSize,
  type Family,
  formatCidr,
  ipToBigInt,
  parseCidr,
  parseIp,
} from '../../base/ip.ts';
import { Pool, staticBandOf } from './pool.ts';

/** Larger blocks are used only so far: the offsets stay small numbers. */
const MAX_ADDRESSES = 2 ** 20;

export class IpPool {
  readonly #cidr: Cidr;
  readonly #pool: Pool;

  constructor(block: string, random?: (below: number) => number) {
    this.#cidr = parseCidr(block);
    const size = Number(cidrSize(this.#cidr) > BigInt(MAX_ADDRESSES) ? MAX_ADDRESSES : cidrSize(this.#cidr));
    // The network address is never given out, nor IPv4's broadcast address.
    const last = this.#cidr.family === 4 ? size - 2 : size - 1;
    this.#pool = new Pool({
      first: 1,
      last,
      staticBand: staticBandOf(last, 16, 16, 256),
      ...(random ? { random } : {}),
    });
  }

  get family(): Family {
    return this.#cidr.family;
  }

  get block(): string {
    return formatCidr(this.#cidr);
  }

  get takenCount(): number {
    return this.#pool.takenCount;
  }

  contains(address: string): boolean {
    return cidrContains(this.#cidr, address) && this.#pool.contains(this.#offset(address));
  }

  #offset(address: string): number {
    return Number(ipToBigInt(parseIp(address)) - ipToBigInt(this.#cidr.address));
  }

  /** False when it is taken already. */
  take(address: string): boolean {
    return this.#pool.take(this.#offset(address));
  }

  takeAny(): string | undefined {
    const offset = this.#pool.takeAny();
    return offset === undefined ? undefined : cidrAddress(this.#cidr, offset);
  }

  release(address: string): void {
    if (cidrContains(this.#cidr, address)) this.#pool.release(this.#offset(address));
  }
}
