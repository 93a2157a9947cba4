/**
 * Two nodes on one wire, for very many packets: each packet with any addresses goes in at one end, through the rules of both
 * nodes, and comes out at the other end or does not. That is what the network does with it: a node judges only packets of its
 * own pods, so a packet between two pods passes when both nodes let it pass.
 *
 *     source ──► n1 (forward) ──► n2 (forward) ──► sink
 *
 * Nothing has an address; a packet is known by a number in its header (IPv4 identification, IPv6 flow label). A packet that
 * was sent later and has arrived says that the earlier ones are through, because the wire keeps the order.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ipToBytes } from '../../src/base/ip.ts';
import { Conntrack } from '../../src/linux/conntrack.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { PacketSocket } from '../../src/linux/packet-socket.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { writeSysctl } from '../../src/linux/sysctl.ts';

export interface WirePacket {
  readonly srcIp: string;
  readonly dstIp: string;
  /** TCP, UDP, SCTP or ICMP. */
  readonly protocol: string;
  readonly dport: number;
}

const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
/** Packets on the wire at once: fewer than a socket's buffer holds. */
const batch = 48;
/** How long the last packet of a batch may take on a busy machine, milliseconds. */
const patienceMs = 20_000;
/** An address that no policy of a test names, and no pod has: packets between two of them always pass. */
const outside = { 4: ['198.51.100.1', '198.51.100.2'], 6: ['2001:db8:ffff::1', '2001:db8:ffff::2'] } as const;

class WireNode implements Disposable {
  readonly ns = NetworkNamespace.anonymous();
  readonly rtnl = Rtnetlink.open(this.ns);
  readonly nft = Nftables.open(this.ns);
  readonly flows = Conntrack.open(this.ns);

  constructor() {
    for (const key of ['ipv4.conf.all.forwarding', 'ipv6.conf.all.forwarding']) writeSysctl(this.ns, `net.${key}`, 1);
    for (const which of ['all', 'default']) {
      writeSysctl(this.ns, `net.ipv4.conf.${which}.rp_filter`, 0);
      writeSysctl(this.ns, `net.ipv6.conf.${which}.accept_dad`, 0);
    }
  }

  [Symbol.dispose](): void {
    this.nft.close();
    this.flows.close();
    this.rtnl.close();
    this.ns.close();
  }
}

export class PolicyWire implements Disposable {
  readonly n1 = new WireNode();
  readonly n2 = new WireNode();
  readonly #source = NetworkNamespace.anonymous();
  readonly #sink = NetworkNamespace.anonymous();
  readonly #senders: ReadonlyMap<number, PacketSocket>;
  readonly #receivers: readonly PacketSocket[];
  readonly #firstMac: string;
  readonly #arrived = new Set<number>();
  #next = 1;

  constructor() {
    const first = join(this.#source, this.n1.ns);
    join(this.n1.ns, this.n2.ns);
    const last = join(this.n2.ns, this.#sink);
    this.#firstMac = this.n1.rtnl.link('in')!.mac!;
    this.#route(this.n1, this.n2.rtnl.link('in')!.mac!);
    using sink = Rtnetlink.open(this.#sink);
    this.#route(this.n2, sink.link('in')!.mac!);
    this.#senders = new Map(
      [ETH_P_IP, ETH_P_IPV6].map((protocol) => [
        protocol,
        PacketSocket.open({ ns: this.#source, ifindex: first.out, protocol }),
      ]),
    );
    this.#receivers = [ETH_P_IP, ETH_P_IPV6].map((protocol) =>
      PacketSocket.open({ ns: this.#sink, ifindex: last.in, protocol }),
    );
    for (const receiver of this.#receivers) receiver.receive((frame) => this.#take(frame));
  }

  /** Everything goes out at the other side, to one neighbour that is known. */
  #route({ rtnl }: WireNode, mac: string): void {
    for (const [destination, via] of [
      ['0.0.0.0/0', '169.254.7.7'],
      ['::/0', 'fe80::77'],
    ] as const) {
      rtnl.replaceNeighbour({ device: 'out', address: via, mac });
      rtnl.addRoute({ destination, via, device: 'out', onlink: true });
    }
  }

  #take(frame: Buffer): void {
    const type = frame.readUInt16BE(12);
    if (type === ETH_P_IP) this.#arrived.add(frame.readUInt16BE(14 + 4));
    // The kernel's own router solicitations have no flow label.
    else if (type === ETH_P_IPV6) this.#arrived.add(frame.readUInt32BE(14) & 0xfffff);
  }

  /** Whether each packet came through, in order. Each is the first of a connection of its own. */
  async pass(packets: readonly WirePacket[]): Promise<boolean[]> {
    const result: boolean[] = [];
    for (let i = 0; i < packets.length; i += batch) result.push(...(await this.#passSome(packets.slice(i, i + batch))));
    return result;
  }

  async #passSome(packets: readonly WirePacket[]): Promise<boolean[]> {
    this.#arrived.clear();
    const numbers = packets.map((packet) => this.#send(packet));
    const ends = ([4, 6] as const).map((family) => {
      const [srcIp, dstIp] = outside[family];
      return this.#send({ srcIp, dstIp, protocol: 'UDP', dport: 9 });
    });
    const until = Date.now() + patienceMs;
    while (!ends.every((number) => this.#arrived.has(number))) {
      if (Date.now() > until) throw new Error('the wire is cut: a packet that nobody judges did not arrive');
      await sleep(0);
    }
    return numbers.map((number) => this.#arrived.has(number));
  }

  #send({ srcIp, dstIp, protocol, dport }: WirePacket): number {
    const number = this.#next;
    this.#next = (this.#next % 40_000) + 1;
    const isV6 = srcIp.includes(':');
    const [src, dst] = [ipToBytes(srcIp), ipToBytes(dstIp)];
    const { next, bytes } = transport(protocol, dport, number, isV6, src, dst);
    const header = isV6 ? ipv6(src, dst, next, bytes.length, number) : ipv4(src, dst, next, bytes.length, number);
    const ethernet = Buffer.alloc(14);
    ethernet.set(this.#firstMac.split(':').map((part) => Number.parseInt(part, 16)));
    ethernet.set([2, 0, 0, 0, 0, 1], 6);
    const type = isV6 ? ETH_P_IPV6 : ETH_P_IP;
    ethernet.writeUInt16BE(type, 12);
    this.#senders.get(type)!.send(Buffer.concat([ethernet, header, bytes]));
    return number;
  }

  /** Makes numbers free to be used again. */
  forgetFlows(): void {
    for (const { flows } of [this.n1, this.n2]) flows.flush();
  }

  [Symbol.dispose](): void {
    for (const socket of [...this.#senders.values(), ...this.#receivers]) socket.close();
    this.n1[Symbol.dispose]();
    this.n2[Symbol.dispose]();
    this.#source.close();
    this.#sink.close();
  }
}

/** A wire from the link "out" of one namespace to the link "in" of the next. */
function join(from: NetworkNamespace, to: NetworkNamespace): { readonly out: number; readonly in: number } {
  using rtnl = Rtnetlink.open(from);
  const out = rtnl.createVeth({ name: 'out', up: true, peer: { name: 'in', up: true, netns: to } });
  using other = Rtnetlink.open(to);
  return { out, in: other.link('in')!.ifindex };
}

/** The number is the source port (above all ports that tests ask for) or the echo's identifier: a flow of its own. */
function transport(
  protocol: string,
  dport: number,
  number: number,
  isV6: boolean,
  src: Uint8Array,
  dst: Uint8Array,
): { next: number; bytes: Buffer } {
  const sport = 20_000 + number;
  const ports = (length: number) => {
    const bytes = Buffer.alloc(length);
    bytes.writeUInt16BE(sport, 0);
    bytes.writeUInt16BE(dport, 2);
    return bytes;
  };
  const checked = (next: number, bytes: Buffer, at: number) => {
    const pseudo = Buffer.concat([src, dst, Buffer.from([0, 0, 0, bytes.length, 0, 0, 0, next])]);
    bytes.writeUInt16BE(checksum(next === 1 ? bytes : Buffer.concat([pseudo, bytes])), at);
    return { next, bytes };
  };
  switch (protocol) {
    case 'TCP': {
      // A SYN: data offset 5, window 1024.
      const bytes = ports(20);
      bytes.writeUInt32BE(number, 4);
      bytes.set([0x50, 0x02, 0x04, 0x00], 12);
      return checked(6, bytes, 16);
    }
    case 'UDP': {
      const bytes = ports(8);
      bytes.writeUInt16BE(8, 4);
      return checked(17, bytes, 6);
    }
    case 'SCTP':
      return { next: 132, bytes: ports(16) };
    case 'ICMP': {
      const bytes = Buffer.alloc(8);
      bytes[0] = isV6 ? 128 : 8;
      bytes.writeUInt16BE(number, 4);
      return checked(isV6 ? 58 : 1, bytes, 2);
    }
    default:
      throw new Error(`no packets of ${protocol}`);
  }
}

function ipv4(src: Uint8Array, dst: Uint8Array, protocol: number, length: number, number: number): Buffer {
  const header = Buffer.alloc(IPV4_HEADER);
  header[0] = 0x45;
  header.writeUInt16BE(IPV4_HEADER + length, 2);
  header.writeUInt16BE(number, 4);
  header.set([64, protocol], 8);
  header.set(src, 12);
  header.set(dst, 16);
  header.writeUInt16BE(checksum(header), 10);
  return header;
}

function ipv6(src: Uint8Array, dst: Uint8Array, next: number, length: number, number: number): Buffer {
  const header = Buffer.alloc(IPV6_HEADER);
  header.writeUInt32BE((6 << 28) | number, 0);
  header.writeUInt16BE(length, 4);
  header.set([next, 64], 6);
  header.set(src, 8);
  header.set(dst, 24);
  return header;
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
