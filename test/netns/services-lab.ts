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
import { type IpAddress, parseCidr } from '../../src/base/ip.ts';
import { Conntrack } from '../../src/linux/conntrack.ts';
import { hasCode } from '../../src/linux/errors.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { bindUdp, connectTcp, listenTcp } from '../../src/linux/sockets.ts';
import { writeSysctl } from '../../src/linux/sysctl.ts';
import type { Protocol } from '../../src/node/services/model.ts';
import type { ClusterAddresses } from '../../src/node/services/rules.ts';

export const NODE_ADDRESSES = ['192.0.2.1', '192.0.2.9', '2001:db8::1', '2001:db8::9'] as IpAddress[];

export const ADDRESSES: ClusterAddresses = {
  podCidrs: ['10.244.0.0/16', 'fd00:10:244::/56'].map(parseCidr),
  serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/112'].map(parseCidr),
};

/** The places of the lab and their addresses. */
export const PLACES = {
  a: ['10.244.0.2', 'fd00:10:244::2'],
  b: ['10.244.0.3', 'fd00:10:244::3'],
  c: ['10.244.0.4', 'fd00:10:244::4'],
  'far-a': ['10.244.1.2', 'fd00:10:244:1::2'],
  'far-b': ['10.244.1.3', 'fd00:10:244:1::3'],
  outside: ['198.51.100.2', '198.51.100.9', '2001:db8:64::2', '2001:db8:64::9'],
} as const;

export type Place = keyof typeof PLACES;

/** Where servers answer, TCP and UDP both, in every pod. */
export const SERVER_PORTS = [8080, 8081];

/** What a client met. */
export type Outcome =
  | { readonly kind: 'answer'; readonly endpoint: string; readonly seenSource: string }
  | { readonly kind: 'refused' | 'unreachable' | 'silence' };

export interface Probe {
  readonly from: Place | 'node';
  readonly destination: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly source?: string | undefined;
  readonly sourcePort?: number;
}

const GATEWAY = { 4: '169.254.1.1', 6: 'fe80::1' } as const;
/** Long enough for a busy machine, short enough for many drops; PODWIRE_SILENCE_MS for slower ones. */
const SILENCE_MS = Number(process.env['PODWIRE_SILENCE_MS'] ?? 400);
/** How long an answer that must come may take. */
export const PATIENCE_MS = 5000;

export class ServicesLab implements AsyncDisposable {
  readonly node: NetworkNamespace;
  readonly nft: Nftables;
  readonly conntrack: Conntrack;
  readonly #spaces = new Map<string, NetworkNamespace>();
  readonly #closers: (() => Promise<unknown> | void)[] = [];

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

  /** Does something before the lab goes. */
  onClose(close: () => void): void {
    this.#closers.push(close);
  }

  space(place: string): NetworkNamespace {
    const ns = this.#spaces.get(place);
    if (!ns) throw new Error(`the lab has no ${place}`);
    return ns;
  }

  /** One new connection or datagram; silence is what takes longer than `waitMs`. */
  probe(probe: Probe, waitMs = SILENCE_MS): Promise<Outcome> {
    return probe.protocol === 'tcp' ? this.#probeTcp(probe, waitMs) : this.#probeUdp(probe, waitMs);
  }

  async #probeTcp(probe: Probe, waitMs: number): Promise<Outcome> {
    try {
      const socket = await this.connect(probe, waitMs);
      const text = await firstLine(socket, waitMs);
      socket.destroy();
      return text === undefined ? { kind: 'silence' } : answerOf(text);
    } catch (error) {
      if (hasCode(error, 'ECONNREFUSED')) return { kind: 'refused' };
      if (hasCode(error, 'ETIMEDOUT')) return { kind: 'silence' };
      if (hasCode(error, 'EHOSTUNREACH', 'ENETUNREACH', 'EACCES')) return { kind: 'unreachable' };
      throw error;
    }
  }

  /** An open connection. */
  async connect(probe: Probe, timeoutMs = PATIENCE_MS): Promise<net.Socket> {
    const { from, destination, port } = probe;
    const ns = this.space(from);
    const source = sourceOf(probe);
    const fd = await connectTcp({
      ns,
      address: destination,
      port,
      timeoutMs,
      ...(source ? { source } : {}),
    });
    const socket = new net.Socket({ fd, readable: true, writable: true });
    socket.on('error', () => {});
    return socket;
  }

  async #probeUdp(probe: Probe, waitMs: number): Promise<Outcome> {
    using client = await this.udpClient(probe);
    return await client.ask(waitMs);
  }

  /** A UDP client that keeps its port, so that all it sends is one flow. */
  async udpClient(probe: Probe): Promise<UdpClient> {
    const { from, destination, port, sourcePort } = probe;
    const any = isIPv6(destination) ? '::' : '0.0.0.0';
    const fd = bindUdp({ ns: this.space(from), address: sourceOf(probe) ?? any, port: sourcePort ?? 0 });
    const socket = dgram.createSocket(isIPv6(destination) ? 'udp6' : 'udp4');
    await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
    return UdpClient.connect(socket, destination, port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closers) await close();
    this.nft.close();
    this.conntrack.close();
    for (const ns of this.#spaces.values()) ns.close();
  }
}

export class UdpClient implements Disposable {
  readonly #socket: dgram.Socket;

  private constructor(socket: dgram.Socket) {
    this.#socket = socket;
  }

  static connect(socket: dgram.Socket, destination: string, port: number): Promise<UdpClient> {
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.connect(port, destination, () => {
        socket.off('error', reject);
        resolve(new UdpClient(socket));
      });
    });
  }

  ask(waitMs = PATIENCE_MS): Promise<Outcome> {
    const socket = this.#socket;
    return new Promise((resolve) => {
      const finish = (outcome: Outcome) => {
        clearTimeout(timer);
        socket.removeAllListeners();
        socket.on('error', () => {});
        resolve(outcome);
      };
      const onError = (error: NodeJS.ErrnoException) => {
        // The node's own packets are refused where they are sent: EPERM.
        const isRefused = error.code === 'ECONNREFUSED' || error.code === 'EPERM';
        finish({ kind: isRefused ? 'refused' : 'unreachable' });
      };
      const timer = setTimeout(() => finish({ kind: 'silence' }), waitMs);
      socket.once('message', (message) => finish(answerOf(message.toString())));
      socket.once('error', onError);
      socket.send('who', (error) => error && onError(error as NodeJS.ErrnoException));
    });
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** The given source, or the first address of the place; the node's is left to the kernel. */
function sourceOf({ from, destination, source }: Probe): string | undefined {
  if (source || from === 'node') return source;
  return PLACES[from].find((address) => isIPv6(address) === isIPv6(destination));
}

function withPrefix(address: string): string {
  return `${address}/${isIPv6(address) ? 128 : 32}`;
}

function plain(address: string): string {
  return address.replace(/^::ffff:/, '');
}

function answerOf(text: string): Outcome {
  const [endpoint, seenSource] = text.trim().split('|') as [string, string];
  return { kind: 'answer', endpoint, seenSource };
}

function firstLine(socket: net.Socket, waitMs: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(undefined), waitMs);
    const finish = (text: string | undefined) => {
      clearTimeout(timer);
      resolve(text);
    };
    socket.once('data', (bytes) => finish(bytes.toString().split('\n')[0]));
    socket.once('close', () => finish(undefined));
  });
}
