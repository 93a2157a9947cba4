/** Links: struct ifinfomsg and its attributes (linux/if_link.h), to and from plain objects. Pure. */
import type { IpAddress } from '../../base/ip.ts';
import { AF_BRIDGE, AF_INET6, AF_UNSPEC } from '../libc.ts';
import { Attributes, decodeMac, parseMac } from '../netlink/reader.ts';
import { type MessageWriter, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from '../netlink/writer.ts';
import { type Device, type ResolveDevice, RTM } from './protocol.ts';

// linux/if.h
const IFF_UP = 0x1;
const IFF_LOWER_UP = 0x10000;

const IFLA = {
  address: 1,
  name: 3,
  mtu: 4,
  link: 5,
  master: 10,
  protocolInfo: 12,
  operstate: 16,
  linkInfo: 18,
  alias: 20,
  afSpec: 26,
  group: 27,
  netNsFd: 28,
  extMask: 29,
  linkNetnsId: 37,
} as const;

const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_INET6_ADDR_GEN_MODE = 8;
/** Leaves the per-family counters out of answers. */
const RTEXT_FILTER_SKIP_STATS = 8;

const IFLA_VXLAN = {
  id: 1,
  link: 3,
  local: 4,
  ttl: 5,
  learning: 7,
  port: 15,
  local6: 17,
  udpChecksum: 18,
  zeroChecksum6Tx: 19,
  zeroChecksum6Rx: 20,
} as const;

const IFLA_BR = { ageingTime: 4, stpState: 5, vlanFiltering: 7, multicastSnooping: 23 } as const;

/** Attributes of a bridge's port, linux/if_link.h. */
const IFLA_BRPORT = { hairpin: 4, learning: 8, unicastFlood: 9, neighbourSuppression: 32, isolated: 33 } as const;

/** linux/if.h enum, RFC 2863 ifOperStatus. */
const OPERATIONAL_STATES = ['unknown', 'notpresent', 'down', 'lowerlayerdown', 'testing', 'dormant', 'up'] as const;

export interface VxlanData {
  readonly vni: number;
  /** UDP destination port. */
  readonly port: number;
  readonly local: IpAddress | undefined;
  /** The ifindex of the lower device. */
  readonly device: number | undefined;
  readonly learning: boolean;
  readonly udpChecksum: boolean;
  readonly zeroChecksum6Tx: boolean;
  readonly zeroChecksum6Rx: boolean;
}

export interface Link {
  readonly ifindex: number;
  readonly name: string;
  readonly mac: string | undefined;
  readonly mtu: number;
  /** Set to be up (IFF_UP). */
  readonly up: boolean;
  /** Has a carrier (IFF_LOWER_UP). */
  readonly carrier: boolean;
  readonly operationalState: (typeof OPERATIONAL_STATES)[number];
  /** The ifindex of the bridge it belongs to. */
  readonly master: number | undefined;
  readonly group: number;
  readonly alias: string | undefined;
  /** 'veth', 'bridge', 'vxlan' …; undefined for real devices and lo. */
  readonly kind: string | undefined;
  /** A veth's other end, or the lower device of a stacked one: an ifindex in the namespace of `peerNetnsId`. */
  readonly peerIfindex: number | undefined;
  /** The id that this namespace has given to the peer's; undefined when both are in the same one. */
  readonly peerNetnsId: number | undefined;
  readonly vxlan: VxlanData | undefined;
}

/** Settings every kind of link takes at creation. */
export interface LinkSettings {
  /** At most 15 bytes. */
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  readonly up?: boolean;
  /** Group number, for `deleteGroup`; 0 is the kernel's default. */
  readonly group?: number;
  readonly master?: Device;
  /** 'none': no IPv6 link-local address by itself. */
  readonly addressGeneration?: 'eui64' | 'none';
  /** Where the link is made: a namespace's descriptor, else this namespace. */
  readonly netns?: NetnsReference;
}

/** A namespace as `NetworkNamespace` or its descriptor. */
export type NetnsReference = number | { readonly fd: number };

export interface VethSettings extends LinkSettings {
  readonly peer: LinkSettings;
}

export interface BridgeSettings extends LinkSettings {
  readonly stp?: boolean;
  readonly multicastSnooping?: boolean;
  readonly vlanFiltering?: boolean;
  /** How long a learned address is kept, seconds. */
  readonly ageingSeconds?: number;
}

export interface VxlanSettings extends LinkSettings {
  readonly vni: number;
  /** UDP destination port; the kernel's own default is 8472, the standard's is 4789 (RFC 7348). */
  readonly port: number;
  /** Source address of the tunnel's packets, of either family. */
  readonly local?: string;
  /** The lower device. Without one the kernel gives MTU 1500: set `mtu`. */
  readonly device?: Device;
  /** Learn addresses from traffic; default false. */
  readonly learning?: boolean;
  /** UDP checksums over IPv4. */
  readonly udpChecksum?: boolean;
  /** Send without UDP checksum over IPv6 (RFC 6935). */
  readonly zeroChecksum6Tx?: boolean;
  readonly zeroChecksum6Rx?: boolean;
  readonly ttl?: number;
}

export interface LinkChanges {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly mac?: string;
  /** A new name; most kinds must be down for it. */
  readonly name?: string;
  /** null takes it out of its bridge. */
  readonly master?: Device | null;
  readonly group?: number;
  readonly alias?: string;
  readonly netns?: NetnsReference;
  readonly addressGeneration?: 'eui64' | 'none';
}

export interface BridgePortSettings {
  /** Send a frame back through the port it came in. */
  readonly hairpin?: boolean;
  /** No traffic between isolated ports. */
  readonly isolated?: boolean;
  readonly learning?: boolean;
  readonly unicastFlood?: boolean;
  readonly neighbourSuppression?: boolean;
}

/** struct ifinfomsg */
function writeHeader(w: MessageWriter, ifindex: number, flags = 0, change = 0, family = AF_UNSPEC): void {
  w.u8(family).zeros(3).u32(ifindex).u32(flags).u32(change);
}

function writeUpDown(w: MessageWriter, ifindex: number, up: boolean | undefined): void {
  writeHeader(w, ifindex, up === true ? IFF_UP : 0, up === undefined ? 0 : IFF_UP);
}

function fdOf(netns: NetnsReference): number {
  return typeof netns === 'number' ? netns : netns.fd;
}

/** At most 15 bytes: the kernel would silently refuse with ERANGE or EINVAL, which says little. */
function checkName(name: string): string {
  const length = Buffer.byteLength(name);
  if (length === 0 || length > 15) throw new TypeError(`an interface name has 1 to 15 bytes: ${JSON.stringify(name)}`);
  return name;
}

function writeCommon(w: MessageWriter, settings: LinkChanges, resolve: ResolveDevice): void {
  if (settings.name !== undefined) w.attrString(IFLA.name, checkName(settings.name));
  if (settings.mac !== undefined) w.attr(IFLA.address, parseMac(settings.mac));
  if (settings.mtu !== undefined) w.attrU32(IFLA.mtu, settings.mtu);
  if (settings.group !== undefined) w.attrU32(IFLA.group, settings.group);
  if (settings.alias !== undefined) w.attrString(IFLA.alias, settings.alias);
  if (settings.master !== undefined) w.attrU32(IFLA.master, settings.master === null ? 0 : resolve(settings.master));
  if (settings.netns !== undefined) w.attrU32(IFLA.netNsFd, fdOf(settings.netns));
  if (settings.addressGeneration !== undefined) writeAddressGeneration(w, settings.addressGeneration);
}

function writeAddressGeneration(w: MessageWriter, mode: 'eui64' | 'none'): void {
  w.nestPlain(IFLA.afSpec, () => {
    w.nestPlain(AF_INET6, () => w.attrU8(IFLA_INET6_ADDR_GEN_MODE, mode === 'none' ? 1 : 0));
  });
}

/** A link of any kind; `data` writes what belongs to the kind. */
function writeNewLink(
  w: MessageWriter,
  kind: string,
  settings: LinkSettings,
  resolve: ResolveDevice,
  data?: () => void,
): void {
  w.message(RTM.newLink, NLM_F_CREATE | NLM_F_EXCL);
  writeUpDown(w, 0, settings.up);
  writeCommon(w, settings, resolve);
  w.nestPlain(IFLA.linkInfo, () => {
    w.attrString(IFLA_INFO_KIND, kind);
    if (data) w.nestPlain(IFLA_INFO_DATA, data);
  });
}

export function encodeNewLink(
  w: MessageWriter,
  settings: LinkSettings & { readonly kind: string; readonly device?: Device },
  resolve: ResolveDevice,
): void {
  writeNewLink(w, settings.kind, settings, resolve);
  if (settings.device !== undefined) w.attrU32(IFLA.link, resolve(settings.device));
}

export function encodeNewVeth(w: MessageWriter, settings: VethSettings, resolve: ResolveDevice): void {
  writeNewLink(w, 'veth', settings, resolve, () => {
    w.nestPlain(VETH_INFO_PEER, () => {
      // Never up from here: see Rtnetlink.createVeth.
      writeUpDown(w, 0, undefined);
      writeCommon(w, settings.peer, resolve);
    });
  });
}

export function encodeNewBridge(w: MessageWriter, settings: BridgeSettings, resolve: ResolveDevice): void {
  writeNewLink(w, 'bridge', settings, resolve, () => {
    if (settings.stp !== undefined) w.attrU32(IFLA_BR.stpState, settings.stp ? 1 : 0);
    // In hundredths of a second, as the bridge's own user interface has it.
    if (settings.ageingSeconds !== undefined) w.attrU32(IFLA_BR.ageingTime, settings.ageingSeconds * 100);
    if (settings.vlanFiltering !== undefined) w.attrU8(IFLA_BR.vlanFiltering, settings.vlanFiltering ? 1 : 0);
    if (settings.multicastSnooping !== undefined) {
      w.attrU8(IFLA_BR.multicastSnooping, settings.multicastSnooping ? 1 : 0);
    }
  });
}

export function encodeNewVxlan(w: MessageWriter, settings: VxlanSettings, resolve: ResolveDevice): void {
  const flag = (type: number, value: boolean | undefined): void => {
    if (value !== undefined) w.attrU8(type, value ? 1 : 0);
  };
  writeNewLink(w, 'vxlan', settings, resolve, () => {
    w.attrU32(IFLA_VXLAN.id, settings.vni).attrBe16(IFLA_VXLAN.port, settings.port);
    if (settings.device !== undefined) w.attrU32(IFLA_VXLAN.link, resolve(settings.device));
    if (settings.local !== undefined) {
      w.attrIp(settings.local.includes(':') ? IFLA_VXLAN.local6 : IFLA_VXLAN.local, settings.local);
    }
    if (settings.ttl !== undefined) w.attrU8(IFLA_VXLAN.ttl, settings.ttl);
    flag(IFLA_VXLAN.learning, settings.learning ?? false);
    flag(IFLA_VXLAN.udpChecksum, settings.udpChecksum);
    flag(IFLA_VXLAN.zeroChecksum6Tx, settings.zeroChecksum6Tx);
    flag(IFLA_VXLAN.zeroChecksum6Rx, settings.zeroChecksum6Rx);
  });
}

export function encodeSetLink(w: MessageWriter, ifindex: number, changes: LinkChanges, resolve: ResolveDevice): void {
  w.message(RTM.setLink);
  writeUpDown(w, ifindex, changes.up);
  writeCommon(w, changes, resolve);
}

export function encodeSetBridgePort(w: MessageWriter, ifindex: number, settings: BridgePortSettings): void {
  w.message(RTM.setLink);
  writeHeader(w, ifindex, 0, 0, AF_BRIDGE);
  w.nest(IFLA.protocolInfo, () => {
    for (const [name, value] of Object.entries(settings) as [keyof BridgePortSettings, boolean | undefined][]) {
      if (value !== undefined) w.attrU8(IFLA_BRPORT[name], value ? 1 : 0);
    }
  });
}

export function encodeDeleteLink(w: MessageWriter, ifindex: number): void {
  w.message(RTM.delLink);
  writeHeader(w, ifindex);
}

/** Deletes every link of a group in one go: one RCU wait for all of them instead of one each. */
export function encodeDeleteGroup(w: MessageWriter, group: number): void {
  w.message(RTM.delLink);
  writeHeader(w, 0);
  w.attrU32(IFLA.group, group);
}

export function encodeGetLink(w: MessageWriter, device: Device): void {
  w.message(RTM.getLink);
  writeHeader(w, typeof device === 'number' ? device : 0);
  if (typeof device === 'string') w.attrString(IFLA.name, device);
  w.attrU32(IFLA.extMask, RTEXT_FILTER_SKIP_STATS);
}

export interface LinkFilter {
  readonly kind?: string;
  /** Only the ports of this bridge. */
  readonly master?: Device;
}

/** A filter whose bridge is known by its ifindex. */
export type ExactLinkFilter = LinkFilter & { readonly master?: number };

/** Whether a link is one of those. */
export function matchesLink(link: Link, { kind, master }: ExactLinkFilter): boolean {
  return (kind === undefined || link.kind === kind) && (master === undefined || link.master === master);
}

export function encodeDumpLinks(w: MessageWriter, filter: ExactLinkFilter): void {
  w.message(RTM.getLink, NLM_F_DUMP);
  writeHeader(w, 0);
  w.attrU32(IFLA.extMask, RTEXT_FILTER_SKIP_STATS);
  if (filter.master !== undefined) w.attrU32(IFLA.master, filter.master);
  const { kind } = filter;
  if (kind !== undefined) w.nest(IFLA.linkInfo, () => w.attrString(IFLA_INFO_KIND, kind));
}

/** Decodes the payload of RTM_NEWLINK or RTM_DELLINK; undefined when it is none. */
export function decodeLink(payload: Buffer): Link | undefined {
  if (payload.length < 16) return undefined;
  const flags = payload.readUInt32LE(8);
  const attributes = new Attributes(payload, 16);
  const name = attributes.string(IFLA.name);
  if (name === undefined) return undefined;
  const info = attributes.nested(IFLA.linkInfo);
  const kind = info?.string(IFLA_INFO_KIND);
  const mac = attributes.bytes(IFLA.address);
  return {
    ifindex: payload.readInt32LE(4),
    name,
    mac: mac === undefined || mac.length === 0 ? undefined : decodeMac(mac),
    mtu: attributes.u32(IFLA.mtu) ?? 0,
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    operationalState: OPERATIONAL_STATES[attributes.u8(IFLA.operstate) ?? 0] ?? 'unknown',
    master: attributes.u32(IFLA.master),
    group: attributes.u32(IFLA.group) ?? 0,
    alias: attributes.string(IFLA.alias),
    kind,
    peerIfindex: attributes.u32(IFLA.link),
    peerNetnsId: attributes.i32(IFLA.linkNetnsId),
    vxlan: kind === 'vxlan' ? decodeVxlan(info?.nested(IFLA_INFO_DATA)) : undefined,
  };
}

function decodeVxlan(data: Attributes | undefined): VxlanData | undefined {
  if (data === undefined) return undefined;
  const local = data.ip(IFLA_VXLAN.local) ?? data.ip(IFLA_VXLAN.local6);
  return {
    vni: data.u32(IFLA_VXLAN.id) ?? 0,
    port: data.be16(IFLA_VXLAN.port) ?? 0,
    local: local === '0.0.0.0' || local === '::' ? undefined : local,
    device: data.u32(IFLA_VXLAN.link) || undefined,
    learning: data.u8(IFLA_VXLAN.learning) === 1,
    udpChecksum: data.u8(IFLA_VXLAN.udpChecksum) === 1,
    zeroChecksum6Tx: data.u8(IFLA_VXLAN.zeroChecksum6Tx) === 1,
    zeroChecksum6Rx: data.u8(IFLA_VXLAN.zeroChecksum6Rx) === 1,
  };
}
