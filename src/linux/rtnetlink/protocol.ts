/** What all of rtnetlink's objects share: message types, families, devices (linux/rtnetlink.h). */
import type { Family } from '../../base/ip.ts';
import { AF_INET, AF_INET6, AF_UNSPEC } from '../libc.ts';

/** An interface by name or by ifindex. The ifindex saves a request. */
export type Device = string | number;

/** Turns a device into its ifindex; throws a KernelError with ENODEV when there is none. */
export type ResolveDevice = (device: Device) => number;

/** The codes of one kind of object: NEW creates or changes, DEL removes, GET reads. */
export const RTM = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  setLink: 19,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
  newNeighbour: 28,
  delNeighbour: 29,
  getNeighbour: 30,
  newRule: 32,
  delRule: 33,
  getRule: 34,
} as const;

/** Multicast groups, linux/rtnetlink.h enum rtnetlink_groups. */
export const RTNLGRP = {
  link: 1,
  neighbour: 3,
  ipv4Address: 5,
  ipv4Route: 7,
  ipv4Rule: 8,
  ipv6Address: 9,
  ipv6Route: 11,
  ipv6Rule: 19,
} as const;

/** The kernel's number of an address family. */
export function afOf(family: Family | undefined): number {
  if (family === undefined) return AF_UNSPEC;
  return family === 4 ? AF_INET : AF_INET6;
}

/** 4 or 6, or undefined for any other of the kernel's families. */
export function familyOfAf(af: number): Family | undefined {
  if (af === AF_INET) return 4;
  return af === AF_INET6 ? 6 : undefined;
}

/** A name in one direction and in the other; unknown numbers become their decimal text. */
export class NameTable<Name extends string> {
  readonly #numbers: ReadonlyMap<string, number>;
  readonly #names: ReadonlyMap<number, Name>;

  constructor(entries: Readonly<Record<Name, number>>) {
    const pairs = Object.entries(entries) as [Name, number][];
    this.#numbers = new Map(pairs);
    this.#names = new Map(pairs.map(([name, number]) => [number, name]));
  }

  number(name: Name): number {
    const number = this.#numbers.get(name);
    if (number === undefined) throw new TypeError(`unknown name ${JSON.stringify(name)}`);
    return number;
  }

  name(number: number): Name | undefined {
    return this.#names.get(number);
  }
}

/** Splits "10.0.0.1/24" without clearing host bits; no prefix means a host. Throws TypeError. */
export function parsePrefixed(text: string): { address: string; family: Family; prefix: number } {
  const slash = text.indexOf('/');
  const address = slash < 0 ? text : text.slice(0, slash);
  const family: Family = address.includes(':') ? 6 : 4;
  const bits = family === 4 ? 32 : 128;
  const prefix = slash < 0 ? bits : Number(text.slice(slash + 1));
  if (!(Number.isInteger(prefix) && prefix >= 0 && prefix <= bits)) {
    throw new TypeError(`not an address with a prefix length: ${JSON.stringify(text)}`);
  }
  return { address, family, prefix };
}

/** Whether an object belongs to the device and the family of a filter, where it names them. */
export function isOn(
  item: { readonly family: Family; readonly ifindex: number },
  filter: { readonly family?: Family; readonly device?: number },
): boolean {
  return (
    (filter.family === undefined || item.family === filter.family) &&
    (filter.device === undefined || item.ifindex === filter.device)
  );
}
