/**
 * To whom an address belongs. The node's own network plugin knows it first and best (`attach`, `detach`); for all other
 * pods the API says it. An address that two pods claim belongs to nobody until one lets go, so that a pod that got the
 * address of another never inherits its rights.
 */
import type { IpAddress } from '../../base/ip.ts';

/** A pod whose interface exists on this node. */
export interface Attachment {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly IpAddress[];
}

/** The uid of the pod, or why there is none. */
export type Owner = { readonly uid: string } | 'contested' | undefined;

/** Pods remembered as detached until their object goes; the oldest are forgotten beyond. */
const maxReleased = 10_000;

export class AddressTable {
  readonly #claims = new Map<IpAddress, Set<string>>();
  readonly #claimed = new Map<string, readonly IpAddress[]>();
  readonly #attachments = new Map<string, Attachment>();
  readonly #attachedTo = new Map<IpAddress, string>();
  readonly #released = new Set<string>();
  readonly #onChange: (address: IpAddress) => void;

  constructor(onChange: (address: IpAddress) => void) {
    this.#onChange = onChange;
  }

  attachment(uid: string): Attachment | undefined {
    return this.#attachments.get(uid);
  }

  attachments(): IterableIterator<Attachment> {
    return this.#attachments.values();
  }

  attach(attachment: Attachment): void {
    this.#drop(attachment.uid);
    this.#released.delete(attachment.uid);
    this.#attachments.set(attachment.uid, attachment);
    for (const address of attachment.addresses) {
      this.#takeFrom(this.#attachedTo.get(address), address);
      this.#attachedTo.set(address, attachment.uid);
      this.#onChange(address);
    }
    for (const address of this.#claimed.get(attachment.uid) ?? []) this.#onChange(address);
  }

  /**
   * The interface with these addresses is gone. From now on the API's word about the pod's addresses is out of date and
   * ignored; unless the pod has got another interface meanwhile (a new sandbox comes before the old one goes).
   */
  detach(uid: string, addresses: readonly IpAddress[]): void {
    const current = this.#attachments.get(uid)?.addresses ?? [];
    if (current.length > 0 && !current.some((address) => addresses.includes(address))) return;
    this.#drop(uid);
    this.claim(uid, []);
    this.#released.add(uid);
    if (this.#released.size > maxReleased) this.#released.delete(this.#released.values().next().value!);
  }

  /** The plugin gave an address to a new pod, so the old one lost it, even when nobody said so. */
  #takeFrom(uid: string | undefined, address: IpAddress): void {
    const old = uid === undefined ? undefined : this.#attachments.get(uid);
    if (old) this.#attachments.set(old.uid, { ...old, addresses: old.addresses.filter((each) => each !== address) });
  }

  #drop(uid: string): void {
    const attachment = this.#attachments.get(uid);
    if (!attachment) return;
    this.#attachments.delete(uid);
    for (const address of attachment.addresses) {
      if (this.#attachedTo.get(address) === uid) this.#attachedTo.delete(address);
      this.#onChange(address);
    }
  }

  /** What the API says; no addresses when it says nothing any more. */
  claim(uid: string, addresses: readonly IpAddress[]): void {
    const wanted = this.#released.has(uid) ? [] : addresses;
    const before = this.#claimed.get(uid) ?? [];
    for (const address of before) if (!wanted.includes(address)) this.#unclaim(uid, address);
    for (const address of wanted) {
      const claims = this.#claims.get(address);
      if (claims?.has(uid)) continue;
      if (claims) claims.add(uid);
      else this.#claims.set(address, new Set([uid]));
      this.#onChange(address);
    }
    if (wanted.length) this.#claimed.set(uid, wanted);
    else this.#claimed.delete(uid);
  }

  /** The pod's object is gone. */
  forget(uid: string): void {
    this.claim(uid, []);
    this.#released.delete(uid);
  }

  #unclaim(uid: string, address: IpAddress): void {
    const claims = this.#claims.get(address);
    claims?.delete(uid);
    if (claims?.size === 0) this.#claims.delete(address);
    this.#onChange(address);
  }

  /** Addresses of a pod: those of its interface when it is attached here, else what the API says. */
  addressesOf(uid: string): readonly IpAddress[] {
    return this.#attachments.get(uid)?.addresses ?? this.#claimed.get(uid) ?? [];
  }

  isAttached(address: IpAddress): boolean {
    return this.#attachedTo.has(address);
  }

  owner(address: IpAddress): Owner {
    const attached = this.#attachedTo.get(address);
    if (attached !== undefined) return { uid: attached };
    // A pod that is attached here has the addresses of its interface and no others.
    const claimants = this.claimants(address);
    if (claimants.length > 1) return 'contested';
    return claimants[0] === undefined ? undefined : { uid: claimants[0] };
  }

  claimants(address: IpAddress): string[] {
    return [...(this.#claims.get(address) ?? [])].filter((uid) => !this.#attachments.has(uid));
  }
}
