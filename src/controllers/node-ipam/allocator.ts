/**
 * Hands out the subnets of one cluster CIDR, in turn, so that a freed subnet is used again as late as possible. Pure memory:
 * what is in use is told by `occupy`, from the nodes.
 */
import { type Cidr, cidrsOverlap, formatCidr, ipToBigInt, parseCidr, subnet } from '../../base/ip.ts';

/** A cluster may have as many nodes' subnets (as in Kubernetes: a mask difference of at most 16). */
const maxSubnetBits = 16;

export class SubnetAllocator {
  readonly cluster: Cidr;
  readonly #prefix: number;
  readonly #count: number;
  readonly #used = new Set<number>();
  #next = 0;

  /** Throws RangeError when the CIDR cannot be cut into subnets of the prefix length. */
  constructor(cluster: Cidr, prefix: number) {
    const bits = prefix - cluster.prefix;
    if (bits < 0 || bits > maxSubnetBits || prefix > (cluster.family === 4 ? 32 : 128)) {
      throw new RangeError(
        `${formatCidr(cluster)} cannot be cut into /${prefix}: the mask must be 0 to ${maxSubnetBits} bits longer`,
      );
    }
    this.cluster = cluster;
    this.#prefix = prefix;
    this.#count = 2 ** bits;
  }

  get free(): number {
    return this.#count - this.#used.size;
  }

  /** The next free subnet, now in use; undefined when there is none. */
  allocate(): Cidr | undefined {
    if (this.free === 0) return undefined;
    while (this.#used.has(this.#next)) this.#next = (this.#next + 1) % this.#count;
    const index = this.#next;
    this.#used.add(index);
    this.#next = (index + 1) % this.#count;
    return subnet(this.cluster, this.#prefix, index);
  }

  /** Marks every subnet that the block touches as used. Blocks of other networks are ignored. */
  occupy(block: Cidr): void {
    for (const index of this.#touched(block)) this.#used.add(index);
  }

  release(block: Cidr): void {
    for (const index of this.#touched(block)) this.#used.delete(index);
  }

  *#touched(block: Cidr): Iterable<number> {
    if (block.family !== this.cluster.family || !cidrsOverlap(block, this.cluster)) return;
    const first = block.prefix <= this.cluster.prefix ? 0 : this.#indexOf(block);
    const covered = block.prefix <= this.cluster.prefix ? this.#count : 2 ** Math.max(0, this.#prefix - block.prefix);
    for (let index = first; index < first + covered; index++) yield index;
  }

  #indexOf(block: Cidr): number {
    const bits = BigInt((block.family === 4 ? 32 : 128) - this.#prefix);
    return Number((ipToBigInt(block.address) - ipToBigInt(this.cluster.address)) >> bits);
  }
}

/** A node's podCIDRs as blocks; texts that are none are ignored (the API server refuses them). */
export function parsePodCidrs(spec: { readonly podCIDR?: string; readonly podCIDRs?: readonly string[] }): Cidr[] {
  const texts = spec.podCIDRs?.length ? spec.podCIDRs : spec.podCIDR ? [spec.podCIDR] : [];
  return texts.flatMap((text) => {
    try {
      return [parseCidr(text)];
    } catch {
      return [];
    }
  });
}
