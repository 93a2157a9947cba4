/** Connection tracking entries: nfnetlink messages (linux/netfilter/nfnetlink_conntrack.h) to and from objects. Pure. */
import type { Family, IpAddress } from '../../base/ip.ts';
import { Attributes, type NetlinkMessage } from '../netlink/reader.ts';
import { type MessageWriter, NLM_F_DUMP } from '../netlink/writer.ts';
import { afOf, familyOfAf } from '../rtnetlink/protocol.ts';

const NFNL_SUBSYS_CTNETLINK = 1 << 8;
export const CT_NEW = NFNL_SUBSYS_CTNETLINK | 0;
const CT_GET = NFNL_SUBSYS_CTNETLINK | 1;
export const CT_DELETE = NFNL_SUBSYS_CTNETLINK | 2;
const CT_GET_STATS = NFNL_SUBSYS_CTNETLINK | 5;

/** sizeof(struct nfgenmsg). */
const GENERIC_SIZE = 4;

const CTA = {
  tupleOrig: 1,
  tupleReply: 2,
  status: 3,
  timeout: 7,
  mark: 8,
  countersOrig: 9,
  countersReply: 10,
  id: 12,
  zone: 18,
  filter: 25,
} as const;
const CTA_TUPLE = { ip: 1, protocol: 2 } as const;
const CTA_IP = { v4Source: 1, v4Destination: 2, v6Source: 3, v6Destination: 4 } as const;
const CTA_PROTO = {
  number: 1,
  sourcePort: 2,
  destinationPort: 3,
  icmpId: 4,
  icmpType: 5,
  icmpCode: 6,
  icmp6Id: 7,
  icmp6Type: 8,
  icmp6Code: 9,
} as const;
const CTA_FILTER = { origFlags: 1, replyFlags: 2 } as const;
const CTA_STATS_GLOBAL_ENTRIES = 1;

/** Which fields of a tuple a filter compares (the kernel's net/netfilter/nf_internals.h; stable, as user space sends them). */
const FILTER_FLAG = { source: 1, destination: 2, protocol: 8, sourcePort: 16, destinationPort: 32 } as const;

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

const PROTOCOLS = { icmp: IPPROTO_ICMP, tcp: 6, udp: 17, icmpv6: IPPROTO_ICMPV6, sctp: 132 } as const;
const PROTOCOL_NAMES: ReadonlyMap<number, FlowProtocol> = new Map(
  Object.entries(PROTOCOLS).map(([name, number]) => [number, name as FlowProtocol]),
);

/** A transport protocol by name, or its number where it has none here. */
export type FlowProtocol = keyof typeof PROTOCOLS | number;

export function protocolNumber(protocol: FlowProtocol): number {
  return typeof protocol === 'number' ? protocol : PROTOCOLS[protocol];
}

/** One direction of a flow. */
export interface FlowTuple {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** 0 for protocols without ports. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly icmp: { readonly id: number; readonly type: number; readonly code: number } | undefined;
}

export interface ConntrackFlow {
  readonly family: Family;
  readonly protocol: FlowProtocol;
  /** What the client sent: to a Service's address, before DNAT. */
  readonly orig: FlowTuple;
  /** What answers look like: from the endpoint that was picked. */
  readonly reply: FlowTuple;
  readonly zone: number;
  readonly mark: number;
  /** IPS_* bits, linux/netfilter/nf_conntrack_common.h. */
  readonly status: number;
  /** Seconds until it expires; 0 in events. */
  readonly timeout: number;
  /** Tells it from a later flow with equal tuples. */
  readonly id: number | undefined;
}

/** Which flows; every given field must be equal. Addresses are canonical text. */
export interface ConntrackFilter {
  readonly family?: Family;
  readonly protocol?: FlowProtocol;
  readonly origSource?: string;
  readonly origDestination?: string;
  readonly origSourcePort?: number;
  readonly origDestinationPort?: number;
  readonly replySource?: string;
  readonly replyDestination?: string;
  readonly replySourcePort?: number;
  readonly replyDestinationPort?: number;
  readonly zone?: number;
}

/** Whether a flow is one of those. */
export function matchesFilter(flow: ConntrackFlow, filter: ConntrackFilter): boolean {
  const equal = (wanted: string | number | undefined, value: string | number): boolean =>
    wanted === undefined || wanted === value;
  return (
    equal(filter.family, flow.family) &&
    (filter.protocol === undefined || protocolNumber(filter.protocol) === protocolNumber(flow.protocol)) &&
    equal(filter.origSource, flow.orig.source) &&
    equal(filter.origDestination, flow.orig.destination) &&
    equal(filter.origSourcePort, flow.orig.sourcePort) &&
    equal(filter.origDestinationPort, flow.orig.destinationPort) &&
    equal(filter.replySource, flow.reply.source) &&
    equal(filter.replyDestination, flow.reply.destination) &&
    equal(filter.replySourcePort, flow.reply.sourcePort) &&
    equal(filter.replyDestinationPort, flow.reply.destinationPort) &&
    equal(filter.zone, flow.zone)
  );
}

/**
 * Whether the kernel's own filter means exactly the same as this one. It does not
 *   - for IPv6 addresses: kernels compare them the wrong way round (ctnetlink_filter_match_tuple, seen on 6.18),
 *   - for ports of anything but TCP and UDP, which it ignores,
 *   - for zones, which older kernels ignore.
 * Then it may only narrow a dump, in the fields that are right, and the reader decides.
 */
export function isKernelFilterExact(filter: ConntrackFilter): boolean {
  return filter.family === 4 && filter.zone === undefined && (!hasPorts(filter) || arePortsCompared(filter));
}

function hasPorts(filter: ConntrackFilter): boolean {
  return (
    filter.origSourcePort !== undefined ||
    filter.origDestinationPort !== undefined ||
    filter.replySourcePort !== undefined ||
    filter.replyDestinationPort !== undefined
  );
}

function arePortsCompared(filter: ConntrackFilter): boolean {
  return filter.protocol === 'tcp' || filter.protocol === 'udp' || filter.protocol === 6 || filter.protocol === 17;
}

/** struct nfgenmsg: family, version 0, resource id 0. */
function writeGeneric(w: MessageWriter, family: Family | undefined): void {
  w.u8(afOf(family)).zeros(3);
}

/** Dumps the entries of a family (or all), narrowed by the kernel where it can be trusted to. */
export function encodeDumpFlows(w: MessageWriter, filter: ConntrackFilter): void {
  w.message(CT_GET, NLM_F_DUMP);
  writeGeneric(w, filter.family);
  if (filter.family !== undefined) writeFilter(w, filter, filter.family);
}

/** Deletes all entries that the kernel's filter matches: only for filters that it applies exactly, from Linux 6.8. */
export function encodeDeleteMatching(w: MessageWriter, filter: ConntrackFilter & { readonly family: Family }): void {
  w.message(CT_DELETE);
  writeGeneric(w, filter.family);
  writeFilter(w, filter, filter.family);
}

/** Deletes one entry, found by its tuple in the kernel's hash table. */
export function encodeDeleteFlow(w: MessageWriter, flow: ConntrackFlow): void {
  w.message(CT_DELETE);
  writeGeneric(w, flow.family);
  writeTuple(w, CTA.tupleOrig, flow.family, { ...flow.orig, protocol: protocolNumber(flow.protocol) });
  if (flow.zone !== 0) w.attrBe16(CTA.zone, flow.zone);
  if (flow.id !== undefined) w.attrBe32(CTA.id, flow.id);
}

export function encodeFlush(w: MessageWriter): void {
  w.message(CT_DELETE);
  writeGeneric(w, undefined);
}

export function encodeGetStats(w: MessageWriter): void {
  w.message(CT_GET_STATS);
  writeGeneric(w, undefined);
}

export function decodeStatsCount(payload: Buffer): number | undefined {
  return new Attributes(payload, GENERIC_SIZE).be32(CTA_STATS_GLOBAL_ENTRIES);
}

type PartialTuple = Partial<Omit<FlowTuple, 'source' | 'destination'>> & {
  readonly source?: string | undefined;
  readonly destination?: string | undefined;
  readonly protocol?: number | undefined;
};

function writeFilter(w: MessageWriter, filter: ConntrackFilter, family: Family): void {
  const protocol = filter.protocol === undefined ? undefined : protocolNumber(filter.protocol);
  const withPorts = arePortsCompared(filter);
  const withAddresses = family === 4;
  const orig: PartialTuple = {
    protocol,
    source: withAddresses ? filter.origSource : undefined,
    destination: withAddresses ? filter.origDestination : undefined,
    sourcePort: withPorts ? filter.origSourcePort : undefined,
    destinationPort: withPorts ? filter.origDestinationPort : undefined,
  };
  const reply: PartialTuple = {
    protocol,
    source: withAddresses ? filter.replySource : undefined,
    destination: withAddresses ? filter.replyDestination : undefined,
    sourcePort: withPorts ? filter.replySourcePort : undefined,
    destinationPort: withPorts ? filter.replyDestinationPort : undefined,
  };
  const origFlags = filterFlags(orig);
  const replyFlags = filterFlags(reply);
  if (origFlags === 0 && replyFlags === 0) return;
  if (origFlags !== 0) writeTuple(w, CTA.tupleOrig, family, orig);
  if (replyFlags !== 0) writeTuple(w, CTA.tupleReply, family, reply);
  w.nest(CTA.filter, () => {
    w.attrU32(CTA_FILTER.origFlags, origFlags).attrU32(CTA_FILTER.replyFlags, replyFlags);
  });
}

function filterFlags(tuple: PartialTuple): number {
  let flags = 0;
  if (tuple.source !== undefined) flags |= FILTER_FLAG.source;
  if (tuple.destination !== undefined) flags |= FILTER_FLAG.destination;
  if (tuple.protocol !== undefined) flags |= FILTER_FLAG.protocol;
  if (tuple.sourcePort !== undefined) flags |= FILTER_FLAG.sourcePort;
  if (tuple.destinationPort !== undefined) flags |= FILTER_FLAG.destinationPort;
  return flags;
}

function writeTuple(w: MessageWriter, type: number, family: Family, tuple: PartialTuple): void {
  w.nest(type, () => {
    w.nest(CTA_TUPLE.ip, () => {
      if (tuple.source !== undefined) w.attrIp(family === 4 ? CTA_IP.v4Source : CTA_IP.v6Source, tuple.source);
      if (tuple.destination !== undefined) {
        w.attrIp(family === 4 ? CTA_IP.v4Destination : CTA_IP.v6Destination, tuple.destination);
      }
    });
    if (tuple.protocol !== undefined) writeProtocol(w, tuple, tuple.protocol);
  });
}

function writeProtocol(w: MessageWriter, tuple: PartialTuple, protocol: number): void {
  w.nest(CTA_TUPLE.protocol, () => {
    w.attrU8(CTA_PROTO.number, protocol);
    const { icmp } = tuple;
    if (icmp) {
      const isV6 = protocol === IPPROTO_ICMPV6;
      w.attrBe16(isV6 ? CTA_PROTO.icmp6Id : CTA_PROTO.icmpId, icmp.id);
      w.attrU8(isV6 ? CTA_PROTO.icmp6Type : CTA_PROTO.icmpType, icmp.type);
      w.attrU8(isV6 ? CTA_PROTO.icmp6Code : CTA_PROTO.icmpCode, icmp.code);
      return;
    }
    if (tuple.sourcePort !== undefined) w.attrBe16(CTA_PROTO.sourcePort, tuple.sourcePort);
    if (tuple.destinationPort !== undefined) w.attrBe16(CTA_PROTO.destinationPort, tuple.destinationPort);
  });
}

/** Decodes an entry from a dump or an event; undefined for anything else. */
export function decodeFlow({ type, payload }: NetlinkMessage): ConntrackFlow | undefined {
  if ((type !== CT_NEW && type !== CT_DELETE) || payload.length < GENERIC_SIZE) return undefined;
  const family = familyOfAf(payload.readUInt8(0));
  const attributes = new Attributes(payload, GENERIC_SIZE);
  const orig = decodeTuple(attributes.nested(CTA.tupleOrig));
  const reply = decodeTuple(attributes.nested(CTA.tupleReply));
  if (family === undefined || orig === undefined || reply === undefined) return undefined;
  return {
    family,
    protocol: PROTOCOL_NAMES.get(orig.protocol) ?? orig.protocol,
    orig: orig.tuple,
    reply: reply.tuple,
    zone: attributes.be16(CTA.zone) ?? 0,
    mark: attributes.be32(CTA.mark) ?? 0,
    status: attributes.be32(CTA.status) ?? 0,
    timeout: attributes.be32(CTA.timeout) ?? 0,
    id: attributes.be32(CTA.id),
  };
}

function decodeTuple(attributes: Attributes | undefined): { tuple: FlowTuple; protocol: number } | undefined {
  const ip = attributes?.nested(CTA_TUPLE.ip);
  const source = ip?.ip(CTA_IP.v4Source) ?? ip?.ip(CTA_IP.v6Source);
  const destination = ip?.ip(CTA_IP.v4Destination) ?? ip?.ip(CTA_IP.v6Destination);
  const transport = attributes?.nested(CTA_TUPLE.protocol);
  const protocol = transport?.u8(CTA_PROTO.number);
  if (source === undefined || destination === undefined || transport === undefined || protocol === undefined) {
    return undefined;
  }
  const tuple: FlowTuple = {
    source,
    destination,
    sourcePort: transport.be16(CTA_PROTO.sourcePort) ?? 0,
    destinationPort: transport.be16(CTA_PROTO.destinationPort) ?? 0,
    icmp: decodeIcmp(transport),
  };
  return { tuple, protocol };
}

function decodeIcmp(transport: Attributes): FlowTuple['icmp'] {
  const id = transport.be16(CTA_PROTO.icmpId) ?? transport.be16(CTA_PROTO.icmp6Id);
  if (id === undefined) return undefined;
  return {
    id,
    type: transport.u8(CTA_PROTO.icmpType) ?? transport.u8(CTA_PROTO.icmp6Type) ?? 0,
    code: transport.u8(CTA_PROTO.icmpCode) ?? transport.u8(CTA_PROTO.icmp6Code) ?? 0,
  };
}
