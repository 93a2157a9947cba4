/**
 * The addresses of frontends on a dummy device, which makes them the node's own: IPVS takes only what is delivered locally. All of
 * the device is podwire's.
 */
import type { IpAddress } from '../../../base/ip.ts';
import { isExists, isNotFound } from '../../../linux/errors.ts';
import type { Rtnetlink } from '../../../linux/rtnetlink.ts';

/** kube-proxy's name for it. */
export const DEVICE = 'kube-ipvs0';

export type LinksPort = Pick<
  Rtnetlink,
  'link' | 'createLink' | 'ensureNoLink' | 'addresses' | 'addAddress' | 'deleteAddress'
>;

export class VirtualAddresses {
  readonly #links: LinksPort;
  readonly #bound = new Set<IpAddress>();
  readonly #users = new Map<IpAddress, number>();
  /** Of the bound ones those that nobody uses; perhaps also others. */
  readonly #unused = new Set<IpAddress>();

  constructor(links: LinksPort) {
    this.#links = links;
  }

  /** Makes the device where there is none, and takes over what is bound to it; nothing of it is used yet. */
  read(): void {
    try {
      this.#links.createLink({ name: DEVICE, kind: 'dummy', up: true });
    } catch (error) {
      if (!isExists(error)) throw error;
    }
    for (const each of [this.#bound, this.#users, this.#unused]) each.clear();
    for (const { address, scope } of this.#links.addresses({ device: DEVICE })) {
      // The link-local address is the kernel's own.
      if (scope === 'link') continue;
      this.#bound.add(address);
      this.#unused.add(address);
    }
  }

  /** Keeps an address from being unbound, until it is released as often. */
  use(address: IpAddress): void {
    this.#users.set(address, (this.#users.get(address) ?? 0) + 1);
    this.#unused.delete(address);
  }

  release(address: IpAddress): void {
    const after = this.#users.get(address)! - 1;
    if (after > 0) this.#users.set(address, after);
    else {
      this.#users.delete(address);
      this.#unused.add(address);
    }
  }

  bind(address: IpAddress): void {
    if (this.#bound.has(address)) return;
    try {
      // Of host scope: no address for the node to speak from.
      this.#links.addAddress({ device: DEVICE, address: withPrefix(address), nodad: true, scope: 'host' });
    } catch (error) {
      if (!isExists(error)) throw error;
    }
    this.#bound.add(address);
  }

  unbindUnused(): void {
    for (const address of this.#unused) {
      if (this.#bound.has(address)) this.#unbind(address);
      this.#unused.delete(address);
    }
  }

  #unbind(address: IpAddress): void {
    try {
      this.#links.deleteAddress({ device: DEVICE, address: withPrefix(address) });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    this.#bound.delete(address);
  }

  isIntact(): boolean {
    return this.#links.link(DEVICE) !== undefined;
  }

  remove(): void {
    this.#links.ensureNoLink(DEVICE);
    for (const each of [this.#bound, this.#users, this.#unused]) each.clear();
  }
}

function withPrefix(address: IpAddress): string {
  return `${address}/${address.includes(':') ? 128 : 32}`;
}
