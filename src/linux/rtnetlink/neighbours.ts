/** Neighbours (ARP, NDP) and VXLAN forwarding entries: struct ndmsg (linux/neighbour.h). Pure. */
import { type Family, familyOf, type IpAddress } from '../../base/ip.ts';
import { AF_BRIDGE } from '../libc.ts';
import { Attributes, parseMac } from '../netlink/reader.ts';
import { type MessageWriter, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE } from '../netlink/writer.ts';
import { afOf, type Device, familyOfAf, NameTable, type ResolveDevice, RTM } from './protocol.ts';

const NDA = { destination: 1, mac: 2, port: 6, vni: 7, ifindex: 8, master: 9 } as const;

const states = new NameTable({
  none: 0,
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
});
export type NeighbourState =
  | 'none'
  | 'incomplete'
  | 'reachable'
  | 'stale'
  | 'delay'
  | 'probe'
  | 'failed'
  | 'noarp'
  | 'permanent';

/** The entry belongs to the device itself (a VXLAN's table), not to a bridge above it. */
const NTF_SELF = 0x02;
const NTF_PROXY = 0x08;

export interface Neighbour {
  readonly family: Family;
  readonly ifindex: number;
  readonly address: IpAddress;
  readonly mac: string | undefined;
  readonly state: NeighbourState | number;
  /** Not a neighbour: an address this machine answers for (proxy ARP, proxy NDP). */
  readonly proxy: boolean;
}

export interface NeighbourSpec {
  readonly device: Device;
  readonly address: string;
  /** Not for proxy entries. */
  readonly mac?: string;
  /** Default permanent. */
  readonly state?: NeighbourState;
  readonly proxy?: boolean;
}

export interface NeighbourFilter {
  readonly family?: Family;
  readonly device?: Device;
  /** true: the proxy entries instead of the neighbours. */
  readonly proxy?: boolean;
}

/** "Frames for this MAC go to that tunnel endpoint." */
export interface FdbEntry {
  readonly ifindex: number;
  readonly mac: string;
  readonly destination: IpAddress | undefined;
  readonly port: number | undefined;
  readonly vni: number | undefined;
  readonly state: NeighbourState | number;
  /** True for a VXLAN's own table, false for a bridge's. */
  readonly self: boolean;
}

export interface FdbSpec {
  readonly device: Device;
  /** 00:00:00:00:00:00 is the default entry: where unknown and broadcast frames go. */
  readonly mac: string;
  /** The tunnel endpoint. */
  readonly destination: string;
  readonly port?: number;
  readonly vni?: number;
}

export interface FdbFilter {
  readonly device?: Device;
}

/** struct ndmsg */
function writeHeader(w: MessageWriter, family: number, ifindex: number, state: number, flags: number): void {
  w.u8(family).zeros(3).u32(ifindex).u16(state).u8(flags).u8(0);
}

export function encodeReplaceNeighbour(w: MessageWriter, spec: NeighbourSpec, resolve: ResolveDevice): void {
  w.message(RTM.newNeighbour, NLM_F_CREATE | NLM_F_REPLACE);
  writeNeighbour(w, spec, resolve);
  if (spec.mac !== undefined) w.attr(NDA.mac, parseMac(spec.mac));
}

export function encodeDeleteNeighbour(w: MessageWriter, spec: NeighbourSpec, resolve: ResolveDevice): void {
  w.message(RTM.delNeighbour);
  writeNeighbour(w, spec, resolve);
}

function writeNeighbour(w: MessageWriter, spec: NeighbourSpec, resolve: ResolveDevice): void {
  const state = states.number(spec.state ?? 'permanent');
  writeHeader(w, afOf(familyOf(spec.address)), resolve(spec.device), state, spec.proxy ? NTF_PROXY : 0);
  w.attrIp(NDA.destination, spec.address);
}

export function encodeDumpNeighbours(w: MessageWriter, filter: NeighbourFilter & { readonly device?: number }): void {
  w.message(RTM.getNeighbour, NLM_F_DUMP);
  writeHeader(w, afOf(filter.family), 0, 0, filter.proxy ? NTF_PROXY : 0);
  if (filter.device !== undefined) w.attrU32(NDA.ifindex, filter.device);
}

/** Decodes the payload of RTM_NEWNEIGH or RTM_DELNEIGH of an IP family; undefined for anything else. */
export function decodeNeighbour(payload: Buffer): Neighbour | undefined {
  if (payload.length < 12) return undefined;
  const family = familyOfAf(payload.readUInt8(0));
  const attributes = new Attributes(payload, 12);
  const address = attributes.ip(NDA.destination);
  if (family === undefined || address === undefined) return undefined;
  const state = payload.readUInt16LE(8);
  return {
    family,
    ifindex: payload.readInt32LE(4),
    address,
    mac: attributes.mac(NDA.mac),
    state: states.name(state) ?? state,
    proxy: (payload.readUInt8(10) & NTF_PROXY) !== 0,
  };
}

const FDB_MODES = { append: NLM_F_CREATE | NLM_F_APPEND, replace: NLM_F_CREATE | NLM_F_REPLACE } as const;

export function encodeNewFdb(
  w: MessageWriter,
  mode: keyof typeof FDB_MODES,
  spec: FdbSpec,
  resolve: ResolveDevice,
): void {
  w.message(RTM.newNeighbour, FDB_MODES[mode]);
  writeFdb(w, spec, resolve);
}

export function encodeDeleteFdb(w: MessageWriter, spec: FdbSpec, resolve: ResolveDevice): void {
  w.message(RTM.delNeighbour);
  writeFdb(w, spec, resolve);
}

function writeFdb(w: MessageWriter, spec: FdbSpec, resolve: ResolveDevice): void {
  writeHeader(w, AF_BRIDGE, resolve(spec.device), states.number('permanent'), NTF_SELF);
  w.attr(NDA.mac, parseMac(spec.mac)).attrIp(NDA.destination, spec.destination);
  if (spec.port !== undefined) w.attrBe16(NDA.port, spec.port);
  if (spec.vni !== undefined) w.attrU32(NDA.vni, spec.vni);
}

export function encodeDumpFdb(w: MessageWriter, filter: { readonly device?: number }): void {
  w.message(RTM.getNeighbour, NLM_F_DUMP);
  writeHeader(w, AF_BRIDGE, 0, 0, 0);
  if (filter.device !== undefined) w.attrU32(NDA.ifindex, filter.device);
}

/** Decodes the payload of a neighbour message of the bridge family. */
export function decodeFdb(payload: Buffer): FdbEntry | undefined {
  if (payload.length < 12 || payload.readUInt8(0) !== AF_BRIDGE) return undefined;
  const attributes = new Attributes(payload, 12);
  const mac = attributes.mac(NDA.mac);
  if (mac === undefined) return undefined;
  const state = payload.readUInt16LE(8);
  return {
    ifindex: payload.readInt32LE(4),
    mac,
    destination: attributes.ip(NDA.destination),
    port: attributes.be16(NDA.port),
    vni: attributes.u32(NDA.vni),
    state: states.name(state) ?? state,
    self: (payload.readUInt8(10) & NTF_SELF) !== 0,
  };
}
