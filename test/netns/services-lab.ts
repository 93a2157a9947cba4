/**
 * A small world for Service packets: a node in the middle that has the rules, pods on it, pods of another node behind it and
 * a client outside, each a namespace of its own with one routed veth. Nothing is connected to the machine's network, and
 * all of it ends with the handles (anonymous namespaces).
 *
 *     pod a, b, c (10.244.0.2 …)  ──┐
 *     pod far-a, far-b (10.244.1.2) ─┤ node (192.0.2.1, 192.0.2.9)
 *     outside (198.51.100.2, .9)  ──┘
 */
import dgram from 'node:dgram';
import net, { isIPv6 } from 'node:net';
import { type IpAddress, ipToBytes, parseCidr } from '../../src/base/ip.ts';
import { Conntrack } from '../../src/linux/conntrack.ts';
import { parseMac } from '../../src/linux/netlink/reader.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { PacketSocket } from '../../src/linux/packet-socket.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { bindUdp, listenTcp } from '../../src/linux/sockets.ts';
import { writeSysctl } from '../../src/linux/sysctl.ts';
import type { ClusterAddresses } from '../../src/node/services/rules.ts';
import {
  connectIn,
  type FlowClient,
  type Outcome,
  PLACES,
  type Place,
  type Probe,
  type Prober,
  probeIn,
  udpClientIn,
} from './services-probes.ts';

export { type FlowClient, type Outcome, PATIENCE_MS, PLACES, type Place, type Probe } from './services-probes.ts';

export const NODE_ADDRESSES = ['192.0.2.1', '192.0.2.9', '2001:db8::1', '2001:db8::9'] as IpAddress[];

export const ADDRESSES: ClusterAddresses = {
  podCidrs: ['10.244.0.0/16', 'fd00:10:244::/56'].map(parseCidr),
  ownPodCidrs: ['10.244.0.0/24', 'fd00:10:244::/64'].map(parseCidr),
  serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/112'].map(parseCidr),
};

/** Where servers answer, TCP and UDP both, in every pod. */
export const SERVER_PORTS = [8080, 8081];

export interface Datagram {
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly sourcePort?: number;
}

const ETHERTYPE_IPV4 = 0x0800;
const GATEWAY = { 4: '169.254.1.1', 6: 'fe80::1' } as const;
export class ServicesLab implements AsyncDisposable {
  readonly node: NetworkNamespace;
  readonly nft: Nftables;
  readonly conntrack: Conntrack;
  readonly #spaces = new Map<string, NetworkNamespace>();
  readonly #closers: (() => Promise<unknown> | void)[] = [];
  readonly #delegates = new Map<string, Prober>();

  private constructor(node: NetworkNamespace) {
    this.node = node;
    this.nft = Nftables.open(node);
    this.conntrack = Conntrack.open(node);
    this.#spaces.set('node', node);
  }

  static async start(): Promise<ServicesLab> {
    const lab = new ServicesLab(NetworkNamespace.anonymous());
    try {
      lab.#build();
      await lab.#serve();
      return lab;
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  #build(): void {
    for (const key of ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding']) writeSysctl(this.node, key, 1);
    for (const key of ['net.ipv4.icmp_ratelimit', 'net.ipv6.icmp.ratelimit']) writeSysctl(this.node, key, 0);
    using links = Rtnetlink.open(this.node);
    for (const address of NODE_ADDRESSES) links.addAddress({ device: 'lo', address: withPrefix(address) });
    for (const [place, addresses] of Object.entries(PLACES)) this.#addPlace(links, place, addresses);
    // The node's own packets to a ClusterIP need a route that they can take until they are translated.
    links.addRoute({ destination: '0.0.0.0/0', via: PLACES.outside[0], device: 'outside', onlink: true });
    links.addRoute({ destination: '::/0', via: PLACES.outside[2], device: 'outside' });
  }

  #addPlace(links: Rtnetlink, place: string, addresses: readonly string[]): void {
    const ns = NetworkNamespace.anonymous();
    this.#spaces.set(place, ns);
    const index = links.createVeth({ name: place, up: true, peer: { name: 'eth0', netns: ns } });
    links.addAddress({ device: index, address: `${GATEWAY[4]}/32`, scope: 'link' });
    links.addAddress({ device: index, address: `${GATEWAY[6]}/64`, nodad: true });
    using inside = Rtnetlink.open(ns);
    inside.setLink('eth0', { up: true });
    for (const address of addresses) {
      inside.addAddress({ device: 'eth0', address: withPrefix(address), nodad: true });
      links.addRoute({ destination: withPrefix(address), device: index });
    }
    inside.addRoute({ destination: '0.0.0.0/0', via: GATEWAY[4], device: 'eth0', onlink: true });
    inside.addRoute({ destination: '::/0', via: GATEWAY[6], device: 'eth0' });
  }

  /** Servers in every pod tell which endpoint they are and whom they see, by TCP and UDP. */
  async #serve(): Promise<void> {
    for (const [place, addresses] of Object.entries(PLACES)) {
      if (place === 'outside') continue;
      for (const address of addresses)
        for (const port of SERVER_PORTS) {
          await this.#serveTcp(this.space(place), address, port);
          await this.#serveUdp(this.space(place), address, port);
        }
    }
  }

  async #serveTcp(ns: NetworkNamespace, address: string, port: number): Promise<void> {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.write(`${address} ${port}|${plain(socket.remoteAddress ?? '')}\n`);
      socket.on('data', (bytes) => socket.write(bytes));
    });
    await new Promise<void>((resolve) => server.listen({ fd: listenTcp({ ns, address, port }) }, resolve));
    this.#closers.push(() => void server.close());
  }

  async #serveUdp(ns: NetworkNamespace, address: string, port: number): Promise<void> {
    const socket = dgram.createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    socket.on('message', (_message, from) => {
      socket.send(`${address} ${port}|${plain(from.address)}\n`, from.port, from.address, () => {});
    });
    await new Promise<void>((resolve) => socket.bind({ fd: bindUdp({ ns, address, port }) }, resolve));
    this.#closers.push(() => void socket.close());
  }

  /** Does something before the lab goes; what was given last is done first. */
  onClose(close: () => Promise<unknown> | void): void {
    this.#closers.push(close);
  }

  /** What NodePorts at 127.0.0.1 need of the kernel; the rules keep it from opening anything. */
  routeLocalhost(): void {
    writeSysctl(this.node, 'net.ipv4.conf.all.route_localnet', 1);
  }

  space(place: string): NetworkNamespace {
    const ns = this.#spaces.get(place);
    if (!ns) throw new Error(`the lab has no ${place}`);
    return ns;
  }

  /** Lets another process do what is done from a place, because it must not be this one's. */
  delegate(place: Place, prober: Prober): void {
    this.#delegates.set(place, prober);
  }

  /** One new connection or datagram. */
  probe(probe: Probe): Promise<Outcome> {
    return this.#delegates.get(probe.from)?.probe(probe) ?? probeIn(this.space(probe.from), probe);
  }

  /** An open connection. */
  connect(probe: Probe): Promise<net.Socket> {
    return connectIn(this.space(probe.from), probe);
  }

  /** A UDP client that keeps its port, so that all it sends is one flow. */
  udpClient(probe: Probe): Promise<FlowClient> {
    return this.#delegates.get(probe.from)?.udpClient(probe) ?? udpClientIn(this.space(probe.from), probe);
  }

  /** A UDP datagram over IPv4 with addresses that no socket would send, from the place's link to the node. */
  sendFrom(place: Place, { source, destination, port, sourcePort = 40_000 }: Datagram): void {
    const ns = this.space(place);
    using links = Rtnetlink.open(ns);
    using nodeLinks = Rtnetlink.open(this.node);
    const { mac } = nodeLinks.link(place)!;
    const { ifindex, mac: own } = links.link('eth0')!;
    using socket = PacketSocket.open({ ns, ifindex, protocol: ETHERTYPE_IPV4 });
    const frame = Buffer.alloc(14 + 20 + 8);
    frame.set(parseMac(mac!), 0);
    frame.set(parseMac(own!), 6);
    frame.writeUInt16BE(ETHERTYPE_IPV4, 12);
    const ip = frame.subarray(14, 34);
    ip[0] = 0x45;
    ip.writeUInt16BE(28, 2);
    ip[8] = 64;
    ip[9] = 17;
    ip.set(ipToBytes(source), 12);
    ip.set(ipToBytes(destination), 16);
    ip.writeUInt16BE(internetChecksum(ip), 10);
    frame.writeUInt16BE(sourcePort, 34);
    frame.writeUInt16BE(port, 36);
    // Without a checksum, as IPv4 allows.
    frame.writeUInt16BE(8, 38);
    socket.send(frame);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closers.toReversed()) await close();
    this.nft.close();
    this.conntrack.close();
    for (const ns of this.#spaces.values()) ns.close();
  }
}

function withPrefix(address: string): string {
  return `${address}/${isIPv6(address) ? 128 : 32}`;
}

function plain(address: string): string {
  return address.replace(/^::ffff:/, '');
}

/** RFC 1071, of bytes in which its own field is zero. */
function internetChecksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
