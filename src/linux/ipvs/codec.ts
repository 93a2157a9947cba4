/** IPVS: messages of its generic netlink family (linux/ip_vs.h) to and from objects. Pure. */
import { type Family, type IpAddress, ipFromBytes, ipToBytes } from '../../base/ip.ts';
import { Attributes, type NetlinkMessage } from '../netlink/reader.ts';
import { type MessageWriter, NLM_F_DUMP } from '../netlink/writer.ts';
import { afOf, familyOfAf } from '../rtnetlink/protocol.ts';

export const IPVS_FAMILY = 'IPVS';
const IPVS_VERSION = 1;
/** sizeof(struct genlmsghdr): command, version, reserved. */
const GENERIC_SIZE = 4;

const COMMAND = {
  newService: 1,
  setService: 2,
  deleteService: 3,
  getService: 4,
  newDestination: 5,
  setDestination: 6,
  deleteDestination: 7,
  getDestination: 8,
  flush: 17,
} as const;

const ATTR = { service: 1, destination: 2 } as const;
const SERVICE = {
  af: 1,
  protocol: 2,
  address: 3,
  port: 4,
  fwmark: 5,
  scheduler: 6,
  flags: 7,
  timeout: 8,
  netmask: 9,
} as const;
const DESTINATION = {
  address: 1,
  port: 2,
  method: 3,
  weight: 4,
  upper: 5,
  lower: 6,
  active: 7,
  inactive: 8,
  family: 11,
} as const;

/** IP_VS_SVC_F_PERSISTENT: a client goes where it went before. */
const FLAG_PERSISTENT = 1;
const ALL_FLAGS = 0xffffffff;
/** IP_VS_CONN_F_MASQ: addresses are translated. */
const METHOD_NAT = 0;
const PROTOCOLS = { tcp: 6, udp: 17 } as const;
const ADDRESS_SIZE = 16;

/** What identifies a virtual service: an address and port, or a mark that packets carry. */
export type VirtualServiceKey =
  | {
      readonly family: Family;
      readonly protocol: 'tcp' | 'udp';
      readonly address: IpAddress;
      readonly port: number;
    }
  | { readonly family: Family; readonly fwmark: number };

export type VirtualService = VirtualServiceKey & {
  /** "rr", "lc" …: a module of that name must be there. */
  readonly scheduler: string;
  /** Seconds for which a client keeps its destination after its last connection; undefined: it does not. */
  readonly persistenceSeconds: number | undefined;
};

export interface RealServer {
  readonly address: IpAddress;
  readonly port: number;
  /** 0: no new connections, those that are there go on. */
  readonly weight: number;
}

export interface RealServerState extends RealServer {
  readonly activeConnections: number;
  readonly inactiveConnections: number;
}

/** Services in text that is equal for equal keys: "10.96.0.10 . tcp . 80", "4 mark 7". */
export function serviceKeyText(key: VirtualServiceKey): string {
  return 'fwmark' in key ? `${key.family} mark ${key.fwmark}` : `${key.address} . ${key.protocol} . ${key.port}`;
}

function begin(writer: MessageWriter, familyId: number, command: number, flags = 0): MessageWriter {
  return writer.message(familyId, flags).u8(command).u8(IPVS_VERSION).u16(0);
}

function encodeKey(writer: MessageWriter, key: VirtualServiceKey): void {
  writer.attrU16(SERVICE.af, afOf(key.family));
  if ('fwmark' in key) writer.attrU32(SERVICE.fwmark, key.fwmark);
  else {
    writer.attrU16(SERVICE.protocol, PROTOCOLS[key.protocol]);
    writer.attr(SERVICE.address, padded(key.address)).attrBe16(SERVICE.port, key.port);
  }
}

export function encodeService(
  writer: MessageWriter,
  familyId: number,
  command: 'newService' | 'setService',
  service: VirtualService,
): void {
  const { family, scheduler, persistenceSeconds } = service;
  begin(writer, familyId, COMMAND[command]).nest(ATTR.service, () => {
    encodeKey(writer, service);
    const flags = Buffer.alloc(8);
    flags.writeUInt32LE(persistenceSeconds === undefined ? 0 : FLAG_PERSISTENT, 0);
    flags.writeUInt32LE(ALL_FLAGS, 4);
    writer.attrString(SERVICE.scheduler, scheduler).attr(SERVICE.flags, flags);
    writer.attrU32(SERVICE.timeout, persistenceSeconds ?? 0);
    // Clients are told apart by their whole address.
    writer.attrU32(SERVICE.netmask, family === 4 ? 0xffffffff : 128);
  });
}

export function encodeServiceDeletion(writer: MessageWriter, familyId: number, key: VirtualServiceKey): void {
  begin(writer, familyId, COMMAND.deleteService).nest(ATTR.service, () => encodeKey(writer, key));
}

export function encodeDestination(
  writer: MessageWriter,
  familyId: number,
  command: 'newDestination' | 'setDestination' | 'deleteDestination',
  key: VirtualServiceKey,
  { address, port, weight }: RealServer,
): void {
  begin(writer, familyId, COMMAND[command])
    .nest(ATTR.service, () => encodeKey(writer, key))
    .nest(ATTR.destination, () => {
      writer.attr(DESTINATION.address, padded(address)).attrBe16(DESTINATION.port, port);
      writer.attrU16(DESTINATION.family, afOf(key.family));
      if (command === 'deleteDestination') return;
      writer.attrU32(DESTINATION.method, METHOD_NAT).attrU32(DESTINATION.weight, weight);
      writer.attrU32(DESTINATION.upper, 0).attrU32(DESTINATION.lower, 0);
    });
}

export function encodeServiceDump(writer: MessageWriter, familyId: number): void {
  begin(writer, familyId, COMMAND.getService, NLM_F_DUMP);
}

export function encodeDestinationDump(writer: MessageWriter, familyId: number, key: VirtualServiceKey): void {
  begin(writer, familyId, COMMAND.getDestination, NLM_F_DUMP).nest(ATTR.service, () => encodeKey(writer, key));
}

export function encodeFlush(writer: MessageWriter, familyId: number): void {
  begin(writer, familyId, COMMAND.flush);
}

/** Undefined for services of other protocols. */
export function decodeService(message: NetlinkMessage): VirtualService | undefined {
  const attributes = new Attributes(message.payload, GENERIC_SIZE).nested(ATTR.service);
  const family = familyOfAf(attributes?.u16(SERVICE.af) ?? 0);
  if (!attributes || !family) return undefined;
  const flags = attributes.bytes(SERVICE.flags)?.readUInt32LE(0) ?? 0;
  const rest = {
    family,
    scheduler: attributes.string(SERVICE.scheduler) ?? '',
    persistenceSeconds: flags & FLAG_PERSISTENT ? attributes.u32(SERVICE.timeout) : undefined,
  };
  const fwmark = attributes.u32(SERVICE.fwmark);
  if (fwmark) return { ...rest, fwmark };
  const number = attributes.u16(SERVICE.protocol);
  const protocol = number === PROTOCOLS.tcp ? 'tcp' : number === PROTOCOLS.udp ? 'udp' : undefined;
  const address = decodeAddress(attributes, SERVICE.address, family);
  const port = attributes.be16(SERVICE.port);
  return protocol && address && port !== undefined ? { ...rest, protocol, address, port } : undefined;
}

export function decodeDestination(message: NetlinkMessage, family: Family): RealServerState | undefined {
  const attributes = new Attributes(message.payload, GENERIC_SIZE).nested(ATTR.destination);
  const address = attributes && decodeAddress(attributes, DESTINATION.address, family);
  if (!attributes || !address) return undefined;
  return {
    address,
    port: attributes.be16(DESTINATION.port) ?? 0,
    weight: attributes.u32(DESTINATION.weight) ?? 0,
    activeConnections: attributes.u32(DESTINATION.active) ?? 0,
    inactiveConnections: attributes.u32(DESTINATION.inactive) ?? 0,
  };
}

/** An address is 16 bytes here, of which IPv4 uses the first four. */
function padded(address: string): Uint8Array {
  const bytes = Buffer.alloc(ADDRESS_SIZE);
  bytes.set(ipToBytes(address));
  return bytes;
}

function decodeAddress(attributes: Attributes, type: number, family: Family): IpAddress | undefined {
  const bytes = attributes.bytes(type);
  return bytes && bytes.length >= ADDRESS_SIZE
    ? ipFromBytes(bytes.subarray(0, family === 4 ? 4 : ADDRESS_SIZE))
    : undefined;
}
