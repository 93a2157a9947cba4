/** Routes: struct rtmsg and its attributes (linux/rtnetlink.h), both families. Pure. */
import { type Family, familyOf, type IpAddress, ipFromBytes, ipToBytes } from '../../base/ip.ts';
import { Attributes } from '../netlink/reader.ts';
import {
  type MessageWriter,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
} from '../netlink/writer.ts';
import { afOf, type Device, familyOfAf, NameTable, parsePrefixed, type ResolveDevice, RTM } from './protocol.ts';

/** Who made a route (RTPROT): podwire's own number, so that it only ever deletes its own. Unused by others' tables. */
export const ROUTE_PROTOCOL_PODWIRE = 112;
export const ROUTE_PROTOCOL_KERNEL = 2;
export const ROUTE_TABLE_MAIN = 254;
export const ROUTE_TABLE_LOCAL = 255;

/** How far a destination is (linux/rtnetlink.h rt_scope_t). */
export const scopes = new NameTable({ universe: 0, site: 200, link: 253, host: 254, nowhere: 255 });
export type Scope = 'universe' | 'site' | 'link' | 'host' | 'nowhere';

/** What happens to a packet (linux/rtnetlink.h RTN_*). */
const types = new NameTable({
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
});
export type RouteType =
  | 'unicast'
  | 'local'
  | 'broadcast'
  | 'anycast'
  | 'multicast'
  | 'blackhole'
  | 'unreachable'
  | 'prohibit'
  | 'throw';

const RTA = {
  destination: 1,
  oif: 4,
  gateway: 5,
  priority: 6,
  preferredSource: 7,
  metrics: 8,
  multipath: 9,
  table: 15,
  via: 18,
} as const;

const RTAX_MTU = 2;
const RTNH_F_ONLINK = 4;
const RTM_F_CLONED = 0x200;

export interface Nexthop {
  readonly via?: string;
  readonly device?: Device;
  /** 1 to 256; default 1. */
  readonly weight?: number;
  readonly onlink?: boolean;
}

export interface RouteSpec extends Nexthop {
  /** "10.244.1.0/24"; "0.0.0.0/0" and "::/0" are the default routes. Host bits must be zero. */
  readonly destination: string;
  /** Preferred source address. */
  readonly source?: string;
  /** Default: link without a gateway in IPv4, else universe, as iproute2 does. */
  readonly scope?: Scope;
  /** Priority; the lower wins. IPv6 makes 1024 of none. */
  readonly metric?: number;
  readonly mtu?: number;
  /** Default main (254). */
  readonly table?: number;
  /** Default podwire's. */
  readonly protocol?: number;
  /** Default unicast. */
  readonly type?: RouteType;
  /** Several next hops (ECMP) instead of via and device. */
  readonly nexthops?: readonly Nexthop[];
}

export interface RouteNexthop {
  readonly via: IpAddress | undefined;
  readonly ifindex: number;
  readonly weight: number;
  readonly onlink: boolean;
}

export interface Route {
  readonly family: Family;
  /** "10.244.1.0/24", always with its prefix. */
  readonly destination: string;
  readonly via: IpAddress | undefined;
  readonly ifindex: number | undefined;
  readonly source: IpAddress | undefined;
  readonly scope: Scope | number;
  readonly metric: number;
  readonly mtu: number | undefined;
  readonly table: number;
  readonly protocol: number;
  readonly type: RouteType | number;
  readonly onlink: boolean;
  /** More than one next hop; empty otherwise. */
  readonly nexthops: readonly RouteNexthop[];
}

export interface RouteFilter {
  readonly family?: Family;
  readonly table?: number;
  readonly protocol?: number;
  readonly device?: Device;
  readonly type?: RouteType;
}

const MODES = {
  add: NLM_F_CREATE | NLM_F_EXCL,
  append: NLM_F_CREATE | NLM_F_APPEND,
  replace: NLM_F_CREATE | NLM_F_REPLACE,
} as const;

export function encodeNewRoute(
  w: MessageWriter,
  mode: keyof typeof MODES,
  route: RouteSpec,
  resolve: ResolveDevice,
): void {
  w.message(RTM.newRoute, MODES[mode]);
  const family = writeHeader(w, route, defaultScope(route));
  if (route.source !== undefined) w.attrIp(RTA.preferredSource, route.source);
  if (route.mtu !== undefined) {
    const { mtu } = route;
    w.nestPlain(RTA.metrics, () => w.attrU32(RTAX_MTU, mtu));
  }
  if (route.nexthops) writeMultipath(w, family, route.nexthops, resolve);
  else writeNexthop(w, family, route, resolve);
}

/** What identifies a route is sent: destination, table, metric, protocol, type, and the next hop where it is given. */
export function encodeDeleteRoute(w: MessageWriter, route: RouteSpec, resolve: ResolveDevice): void {
  w.message(RTM.delRoute);
  // Scope "nowhere" means any (iproute2 does the same).
  const family = writeHeader(w, route, 'nowhere');
  if (!route.nexthops) writeNexthop(w, family, route, resolve);
}

/** struct rtmsg, destination, table and metric. */
function writeHeader(w: MessageWriter, route: RouteSpec, scope: Scope): Family {
  const { address, family, prefix } = parsePrefixed(route.destination);
  const table = route.table ?? ROUTE_TABLE_MAIN;
  const onlink = route.onlink && !route.nexthops ? RTNH_F_ONLINK : 0;
  w.u8(afOf(family)).u8(prefix).u8(0).u8(0);
  w.u8(table < 256 ? table : 0)
    .u8(route.protocol ?? ROUTE_PROTOCOL_PODWIRE)
    .u8(scopes.number(route.scope ?? scope))
    .u8(types.number(route.type ?? 'unicast'))
    .u32(onlink);
  if (prefix > 0) w.attrIp(RTA.destination, address);
  w.attrU32(RTA.table, table);
  if (route.metric !== undefined) w.attrU32(RTA.priority, route.metric);
  return family;
}

function defaultScope(route: RouteSpec): Scope {
  if (route.type === 'local') return 'host';
  const direct = route.via === undefined && route.nexthops === undefined && route.device !== undefined;
  return direct && !route.destination.includes(':') ? 'link' : 'universe';
}

function writeNexthop(w: MessageWriter, family: Family, hop: Nexthop, resolve: ResolveDevice): void {
  if (hop.via !== undefined) writeGateway(w, family, hop.via);
  if (hop.device !== undefined) w.attrU32(RTA.oif, resolve(hop.device));
}

/** A gateway of the other family (an IPv4 route through an IPv6 neighbour, RFC 5549) goes into RTA_VIA. */
function writeGateway(w: MessageWriter, family: Family, via: string): void {
  const viaFamily = familyOf(via);
  if (viaFamily === family) {
    w.attrIp(RTA.gateway, via);
    return;
  }
  // struct rtvia: the family, then the address.
  w.nestPlain(RTA.via, () => w.u16(afOf(viaFamily)).bytes(ipToBytes(via)));
}

function writeMultipath(w: MessageWriter, family: Family, nexthops: readonly Nexthop[], resolve: ResolveDevice): void {
  w.nestPlain(RTA.multipath, () => {
    for (const hop of nexthops) {
      // struct rtnexthop has the layout of an attribute header followed by the ifindex: length, flags, hops.
      const flagsAndHops = (hop.onlink ? RTNH_F_ONLINK : 0) | (((hop.weight ?? 1) - 1) << 8);
      w.nestPlain(flagsAndHops, () => {
        w.u32(hop.device === undefined ? 0 : resolve(hop.device));
        if (hop.via !== undefined) writeGateway(w, family, hop.via);
      });
    }
  });
}

/** A filter whose device is known by its ifindex. */
export type ExactRouteFilter = RouteFilter & { readonly device?: number };

/** Whether a route is one of those. */
export function matchesRoute(route: Route, filter: ExactRouteFilter): boolean {
  const { device } = filter;
  return (
    (filter.family === undefined || route.family === filter.family) &&
    (filter.table === undefined || route.table === filter.table) &&
    (filter.protocol === undefined || route.protocol === filter.protocol) &&
    (filter.type === undefined || route.type === filter.type) &&
    (device === undefined || route.ifindex === device || route.nexthops.some((hop) => hop.ifindex === device))
  );
}

export function encodeDumpRoutes(w: MessageWriter, filter: ExactRouteFilter): void {
  w.message(RTM.getRoute, NLM_F_DUMP);
  const table = filter.table ?? 0;
  w.u8(afOf(filter.family)).zeros(3);
  w.u8(table < 256 ? table : 0)
    .u8(filter.protocol ?? 0)
    .u8(0);
  w.u8(filter.type === undefined ? 0 : types.number(filter.type)).u32(0);
  if (filter.table !== undefined) w.attrU32(RTA.table, filter.table);
  if (filter.device !== undefined) w.attrU32(RTA.oif, filter.device);
}

/** Asks which route a packet to this address would take. */
export function encodeLookupRoute(w: MessageWriter, address: string): void {
  const family = familyOf(address);
  w.message(RTM.getRoute);
  w.u8(afOf(family))
    .u8(family === 4 ? 32 : 128)
    .zeros(10);
  w.attrIp(RTA.destination, address);
}

/** Decodes the payload of RTM_NEWROUTE or RTM_DELROUTE; undefined for other families. */
export function decodeRoute(payload: Buffer): Route | undefined {
  if (payload.length < 12) return undefined;
  const family = familyOfAf(payload.readUInt8(0));
  const flags = payload.readUInt32LE(8);
  if (family === undefined) return undefined;
  const attributes = new Attributes(payload, 12);
  const scope = payload.readUInt8(6);
  const type = payload.readUInt8(7);
  const multipath = attributes.bytes(RTA.multipath);
  return {
    family,
    destination: `${attributes.ip(RTA.destination) ?? (family === 4 ? '0.0.0.0' : '::')}/${payload.readUInt8(1)}`,
    via: decodeGateway(attributes),
    ifindex: attributes.u32(RTA.oif),
    source: attributes.ip(RTA.preferredSource),
    scope: scopes.name(scope) ?? scope,
    metric: attributes.u32(RTA.priority) ?? 0,
    mtu: attributes.nested(RTA.metrics)?.u32(RTAX_MTU),
    table: attributes.u32(RTA.table) ?? payload.readUInt8(4),
    protocol: payload.readUInt8(5),
    type: types.name(type) ?? type,
    onlink: (flags & RTNH_F_ONLINK) !== 0,
    nexthops: multipath === undefined ? [] : decodeMultipath(multipath),
  };
}

/** As `decodeRoute`, but undefined for a cached clone (an IPv6 exception, the answer of a lookup) too. */
export function decodeTableRoute(payload: Buffer): Route | undefined {
  const isClone = payload.length >= 12 && (payload.readUInt32LE(8) & RTM_F_CLONED) !== 0;
  return isClone ? undefined : decodeRoute(payload);
}

function decodeGateway(attributes: Attributes): IpAddress | undefined {
  const gateway = attributes.ip(RTA.gateway);
  if (gateway !== undefined) return gateway;
  const via = attributes.bytes(RTA.via)?.subarray(2);
  return via?.length === 4 || via?.length === 16 ? ipFromBytes(via) : undefined;
}

function decodeMultipath(bytes: Buffer): RouteNexthop[] {
  const hops: RouteNexthop[] = [];
  let offset = 0;
  while (offset + 8 <= bytes.length) {
    const length = bytes.readUInt16LE(offset);
    if (length < 8 || offset + length > bytes.length) break;
    const attributes = new Attributes(bytes.subarray(offset, offset + length), 8);
    hops.push({
      via: decodeGateway(attributes),
      ifindex: bytes.readInt32LE(offset + 4),
      weight: bytes.readUInt8(offset + 3) + 1,
      onlink: (bytes.readUInt8(offset + 2) & RTNH_F_ONLINK) !== 0,
    });
    offset += (length + 3) & ~3;
  }
  return hops;
}
