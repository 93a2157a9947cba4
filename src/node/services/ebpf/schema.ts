/**
 * The maps and programs of programs/services.bpf.c, and the bytes of their keys and values. Numbers that the kernel gave
 * (indices, counts) are in the machine's order, which is little-endian on both machines that podwire runs on; addresses and ports are
 * in network order, IPv4 addresses as ::ffff:a.b.c.d.
 */
import { type Family, type IpAddress, ipFromBytes, ipToBytes } from '../../../base/ip.ts';
import { AttachType } from '../../../linux/bpf/attach.ts';
import { type EndpointText, endpointText, type Protocol } from '../model.ts';

/** Programs by name, in the order in which they are attached: whatever restores an address before whatever replaces one. */
export const PROGRAMS: readonly (readonly [name: string, type: AttachType])[] = [
  ['pw_release', AttachType.sockRelease],
  ['pw_recvmsg4', AttachType.recvmsg4],
  ['pw_recvmsg6', AttachType.recvmsg6],
  ['pw_getpeer4', AttachType.getpeername4],
  ['pw_getpeer6', AttachType.getpeername6],
  ['pw_sendmsg4', AttachType.sendmsg4],
  ['pw_sendmsg6', AttachType.sendmsg6],
  ['pw_connect4', AttachType.connect4],
  ['pw_connect6', AttachType.connect6],
];

/** How the names of podwire's programs begin. */
export const PROGRAM_PREFIX = 'pw_';

/** Names and sizes of the maps that are written here. The kernel keeps 15 characters of a name. */
export const MAPS = {
  services4: { name: 'pw_services4', keySize: 8, valueSize: 4 },
  services6: { name: 'pw_services6', keySize: 20, valueSize: 4 },
  members: { name: 'pw_members', keySize: 24, valueSize: 4 },
  frontends: { name: 'pw_frontends', keySize: 4, valueSize: 32 },
  slots: { name: 'pw_slots', keySize: 4, valueSize: 8 },
  endpoints: { name: 'pw_endpoints', keySize: 4, valueSize: 24 },
  udpSockets: { name: 'pw_udp_sockets', keySize: 8, valueSize: 44 },
  grace: { name: 'pw_grace', keySize: 4, valueSize: 4 },
  graceInner: { name: 'pw_grace_inner', keySize: 4, valueSize: 4 },
} as const;

/** What the programs write: kept when they are replaced. */
export const KEPT_MAPS = [
  { name: 'pw_clients', keySize: 32, valueSize: 32 },
  { name: 'pw_tcp_peers', keySize: 8, valueSize: 40 },
  { name: 'pw_flows', keySize: 8, valueSize: 324 },
  MAPS.udpSockets,
] as const;

/** What is done at a frontend. `pass` leaves it to the packet's path. */
export const Kind = { endpoints: 0, reject: 1, pass: 2 } as const;
export type KindName = keyof typeof Kind;

const PROTOCOL_NUMBERS: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17 };

/** The most endpoints of one frontend: 20 bits. */
export const MAX_ENDPOINTS = 0xfffff;

/** The first field of struct frontend. */
export function encodeHead(kind: KindName, first: number, count: number): bigint {
  return (BigInt(first) << 32n) | BigInt((Kind[kind] << 20) | count);
}

/** struct target: where a socket is connected to or a datagram goes. */
export function writeTarget(bytes: Uint8Array, at: number, address: IpAddress, port: number): void {
  const raw = ipToBytes(address);
  if (raw.length === 4) {
    bytes.fill(0, at, at + 10);
    bytes.fill(0xff, at + 10, at + 12);
    bytes.set(raw, at + 12);
  } else bytes.set(raw, at);
  bytes[at + 16] = port >> 8;
  bytes[at + 17] = port & 0xff;
  bytes.fill(0, at + 18, at + 20);
}

/** The address, plain where it is IPv4, and port of a struct target. */
export function readTarget(bytes: Buffer, at: number): { readonly address: IpAddress; readonly port: number } {
  const raw = bytes.subarray(at, at + 16);
  const isMapped = raw.subarray(0, 10).every((byte) => byte === 0) && raw[10] === 0xff && raw[11] === 0xff;
  return { address: ipFromBytes(isMapped ? raw.subarray(12) : raw), port: bytes.readUInt16BE(at + 16) };
}

/** The text of an address without what IPv6 sockets put before an IPv4 one. */
export function plainAddress(address: string): string {
  return address.startsWith('::ffff:') ? readTarget(Buffer.from([...ipToBytes(address), 0, 0]), 0).address : address;
}

export interface FrontendAddress {
  readonly family: Family;
  readonly address: IpAddress;
  readonly protocol: Protocol;
  readonly port: number;
}

/** struct key4 or key6. */
export function encodeServiceKey({ family, address, protocol, port }: FrontendAddress): Buffer {
  const raw = ipToBytes(address);
  const key = Buffer.alloc(family === 4 ? MAPS.services4.keySize : MAPS.services6.keySize);
  key.set(raw);
  key.writeUInt16BE(port, raw.length);
  key[raw.length + 2] = PROTOCOL_NUMBERS[protocol];
  return key;
}

/** What tells whose a struct frontend is: between its head (8 bytes) and its affinity (the last 4). */
export function writeFrontend(bytes: Uint8Array, at: number, { address, port, protocol }: FrontendAddress): void {
  writeTarget(bytes, at + 8, address, port);
  bytes[at + 26] = PROTOCOL_NUMBERS[protocol];
}

export function decodeServiceKey(key: Buffer): FrontendAddress {
  const size = key.length - 4;
  return {
    family: size === 4 ? 4 : 6,
    address: ipFromBytes(key.subarray(0, size)),
    port: key.readUInt16BE(size),
    protocol: key[size + 2] === PROTOCOL_NUMBERS.udp ? 'udp' : 'tcp',
  };
}

/** struct member. */
export function encodeMember(frontend: number, endpoint: EndpointText): Buffer {
  const key = Buffer.alloc(MAPS.members.keySize);
  key.writeUInt32LE(frontend);
  writeEndpoint(key, 4, endpoint);
  return key;
}

/** struct target of "10.244.0.2 . 8080". */
export function writeEndpoint(bytes: Uint8Array, at: number, endpoint: EndpointText): void {
  const [address, port] = endpoint.split(' . ') as [IpAddress, string];
  writeTarget(bytes, at, address, Number(port));
}

/** A connected UDP socket: struct udp_socket. */
export interface UdpSocket {
  readonly cookie: bigint;
  /** What it believes to be connected to: "10.96.0.10 . udp . 53". */
  readonly frontend: string;
  readonly endpoint: EndpointText;
  /** The process that connected it. */
  readonly process: number;
}

export function decodeUdpSocket(key: Buffer, value: Buffer): UdpSocket {
  const frontend = readTarget(value, 0);
  return {
    cookie: key.readBigUInt64LE(),
    frontend: `${frontend.address} . udp . ${frontend.port}`,
    endpoint: endpointText(readTarget(value, 20)),
    process: value.readUInt32LE(40),
  };
}
