/** Interface addresses: struct ifaddrmsg and its attributes (linux/if_addr.h). Pure. */
import type { Family, IpAddress } from '../../base/ip.ts';
import { Attributes } from '../netlink/reader.ts';
import { type MessageWriter, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE } from '../netlink/writer.ts';
import { afOf, type Device, familyOfAf, parsePrefixed, type ResolveDevice, RTM } from './protocol.ts';
import { type Scope, scopes } from './routes.ts';

const IFA = { address: 1, local: 2, label: 3, broadcast: 4, flags: 8, metric: 9 } as const;

// linux/if_addr.h
const IFA_F_NODAD = 0x02;
const IFA_F_DADFAILED = 0x08;
const IFA_F_TENTATIVE = 0x40;
const IFA_F_PERMANENT = 0x80;
const IFA_F_NOPREFIXROUTE = 0x200;

export interface InterfaceAddress {
  readonly family: Family;
  readonly ifindex: number;
  readonly address: IpAddress;
  readonly prefix: number;
  /** The other end of a point-to-point address. */
  readonly peer: IpAddress | undefined;
  readonly scope: Scope | number;
  readonly label: string | undefined;
  readonly permanent: boolean;
  /** IPv6: duplicate address detection is still running; the address cannot be bound yet. */
  readonly tentative: boolean;
  readonly dadFailed: boolean;
  readonly noPrefixRoute: boolean;
}

export interface AddressSpec {
  readonly device: Device;
  /** "10.0.0.1/24"; without a prefix a host address. */
  readonly address: string;
  /** The other end of a point-to-point address, with the prefix of the route to it. */
  readonly peer?: string;
  readonly scope?: Scope;
  /** IPv6: usable at once, without duplicate address detection. */
  readonly nodad?: boolean;
  /** No route to the prefix. */
  readonly noPrefixRoute?: boolean;
  readonly label?: string;
  /** Metric of the prefix route. */
  readonly metric?: number;
}

export interface AddressFilter {
  readonly family?: Family;
  readonly device?: Device;
}

const MODES = { add: NLM_F_CREATE | NLM_F_EXCL, replace: NLM_F_CREATE | NLM_F_REPLACE } as const;

export function encodeNewAddress(
  w: MessageWriter,
  mode: keyof typeof MODES,
  spec: AddressSpec,
  resolve: ResolveDevice,
): void {
  w.message(RTM.newAddress, MODES[mode]);
  writeAddress(w, spec, resolve);
}

export function encodeDeleteAddress(w: MessageWriter, spec: AddressSpec, resolve: ResolveDevice): void {
  w.message(RTM.delAddress);
  writeAddress(w, spec, resolve);
}

function writeAddress(w: MessageWriter, spec: AddressSpec, resolve: ResolveDevice): void {
  const local = parsePrefixed(spec.address);
  const remote = spec.peer === undefined ? local : parsePrefixed(spec.peer);
  const flags = (spec.nodad ? IFA_F_NODAD : 0) | (spec.noPrefixRoute ? IFA_F_NOPREFIXROUTE : 0);
  // struct ifaddrmsg: family, prefix length, flags (the low 8 bits), scope, ifindex
  w.u8(afOf(local.family))
    .u8(remote.prefix)
    .u8(flags & 0xff);
  w.u8(spec.scope === undefined ? 0 : scopes.number(spec.scope));
  w.u32(resolve(spec.device));
  w.attrIp(IFA.local, local.address).attrIp(IFA.address, remote.address);
  if (flags !== 0) w.attrU32(IFA.flags, flags);
  if (spec.label !== undefined) w.attrString(IFA.label, spec.label);
  if (spec.metric !== undefined) w.attrU32(IFA.metric, spec.metric);
}

export function encodeDumpAddresses(w: MessageWriter, filter: AddressFilter & { readonly device?: number }): void {
  w.message(RTM.getAddress, NLM_F_DUMP);
  w.u8(afOf(filter.family)).zeros(3);
  w.u32(filter.device ?? 0);
}

/** Decodes the payload of RTM_NEWADDR or RTM_DELADDR. */
export function decodeAddress(payload: Buffer): InterfaceAddress | undefined {
  if (payload.length < 8) return undefined;
  const family = familyOfAf(payload.readUInt8(0));
  const attributes = new Attributes(payload, 8);
  // IPv4 has both, equal unless point-to-point; IPv6 has IFA_LOCAL only when there is a peer.
  const remote = attributes.ip(IFA.address);
  const address = attributes.ip(IFA.local) ?? remote;
  if (family === undefined || address === undefined) return undefined;
  const flags = attributes.u32(IFA.flags) ?? payload.readUInt8(2);
  const scope = payload.readUInt8(3);
  return {
    family,
    ifindex: payload.readUInt32LE(4),
    address,
    prefix: payload.readUInt8(1),
    peer: remote === address ? undefined : remote,
    scope: scopes.name(scope) ?? scope,
    label: attributes.string(IFA.label),
    permanent: (flags & IFA_F_PERMANENT) !== 0,
    tentative: (flags & IFA_F_TENTATIVE) !== 0,
    dadFailed: (flags & IFA_F_DADFAILED) !== 0,
    noPrefixRoute: (flags & IFA_F_NOPREFIXROUTE) !== 0,
  };
}
