/**
 * Two nodes with the nine pods of the conformance matrix on routed veths (the pods c live on the second node), and the world
 * outside behind the first node. No namespace has a way out. Every endpoint answers on TCP and UDP 80 and 81, both families.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Conntrack } from '../../src/linux/conntrack.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { hasLibnftables, Nftables } from '../../src/linux/nftables.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { bindUdp, connectTcp, listenTcp } from '../../src/linux/sockets.ts';
import { writeSysctl } from '../../src/linux/sysctl.ts';
import { type Endpoint, endpoints, pods, world } from '../../src/node/policy/testing-matrix.ts';
import { skip as needsRoot } from './linux-fixture.ts';

export const skip = needsRoot || (hasLibnftables() ? false : 'needs libnftables (Debian: libnftables1)');

export type Family = 'v4' | 'v6';
export const families: readonly Family[] = ['v4', 'v6'];
export const ports: readonly number[] = [80, 81];

/**
 * A denied packet shows by silence: this long, in milliseconds (PODWIRE_SILENCE_MS for slow machines). An answer that is expected
 * may take `patienceMs`.
 */
const silenceMs = Number(process.env['PODWIRE_SILENCE_MS'] ?? 120);
const patienceMs = 4000;

export class LabNode implements Disposable {
  readonly name: string;
  readonly ns = NetworkNamespace.anonymous();
  readonly rtnl: Rtnetlink;
  /** The controller's own, and one for the test to look. */
  readonly nft: Nftables;
  readonly eyes: Nftables;
  readonly flows: Conntrack;

  constructor(name: string) {
    this.name = name;
    for (const family of ['ipv4.conf.all.forwarding', 'ipv6.conf.all.forwarding']) {
      writeSysctl(this.ns, `net.${family}`, 1);
    }
    for (const which of ['all', 'default']) {
      writeSysctl(this.ns, `net.ipv4.conf.${which}.rp_filter`, 0);
      writeSysctl(this.ns, `net.ipv6.conf.${which}.accept_dad`, 0);
    }
    this.rtnl = Rtnetlink.open(this.ns);
    this.nft = Nftables.open(this.ns);
    this.eyes = Nftables.open(this.ns);
    this.flows = Conntrack.open(this.ns);
  }

  [Symbol.dispose](): void {
    this.nft.close();
    this.eyes.close();
    this.flows.close();
    this.rtnl.close();
    this.ns.close();
  }
}

/** The nodes themselves, as programs in their own network are: agents, hostNetwork pods. */
export const node1: Endpoint = { name: 'n1', ns: '', pod: '', v4: '172.18.0.1', v6: 'fd00:18::1' };
export const node2: Endpoint = { name: 'n2', ns: '', pod: '', v4: '172.18.0.2', v6: 'fd00:18::2' };

/** The node of a pod; the world is behind the first. */
export function nodeOf(endpoint: Endpoint): 'n1' | 'n2' {
  return endpoint.pod === 'c' ? 'n2' : 'n1';
}

export class PolicyLab implements AsyncDisposable {
  readonly n1 = new LabNode('n1');
  readonly n2 = new LabNode('n2');
  readonly #namespaces = new Map<Endpoint, NetworkNamespace>();
  readonly #servers: (Server | UdpSocket)[] = [];
  readonly #sockets = new Set<Socket>();
  /** Who asked a pod last: the source address that its UDP server saw. */
  readonly lastSource = new Map<string, string>();

  static async create(): Promise<PolicyLab> {
    const lab = new PolicyLab();
    try {
      lab.#join();
      for (const endpoint of endpoints) lab.#addEndpoint(endpoint);
      await Promise.all([...endpoints, node1, node2].map((endpoint) => lab.#serve(endpoint)));
      return lab;
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  get nodes(): readonly LabNode[] {
    return [this.n1, this.n2];
  }

  /** Makes every flow a new one: a UDP source port that is used again would be an established flow otherwise. */
  forgetFlows(): void {
    for (const { flows } of this.nodes) flows.flush();
  }

  namespaceOf(endpoint: Endpoint): NetworkNamespace {
    if (endpoint === node1) return this.n1.ns;
    if (endpoint === node2) return this.n2.ns;
    return this.#namespaces.get(endpoint)!;
  }

  #join(): void {
    this.n1.rtnl.createVeth({ name: 'link', up: true, peer: { name: 'link', up: true, netns: this.n2.ns } });
    this.nodes.forEach(({ rtnl }, i) => {
      rtnl.addAddress({ device: 'link', address: `172.18.0.${i + 1}/24` });
      rtnl.addAddress({ device: 'link', address: `fd00:18::${i + 1}/64`, nodad: true });
    });
  }

  #addEndpoint(endpoint: Endpoint): void {
    const node = nodeOf(endpoint) === 'n1' ? this.n1 : this.n2;
    const ns = NetworkNamespace.anonymous();
    this.#namespaces.set(endpoint, ns);
    writeSysctl(ns, 'net.ipv6.conf.default.accept_dad', 0);
    const name = endpoint === world ? 'world' : `${endpoint.ns}-${endpoint.pod}`;
    node.rtnl.createVeth({ name, up: true, peer: { name: 'eth0', up: true, netns: ns } });
    node.rtnl.addAddress({ device: name, address: '169.254.1.1/32' });
    node.rtnl.addAddress({ device: name, address: 'fe80::1/64', nodad: true });
    node.rtnl.replaceRoute({ destination: `${endpoint.v4}/32`, device: name });
    node.rtnl.replaceRoute({ destination: `${endpoint.v6}/128`, device: name });
    using rtnl = Rtnetlink.open(ns);
    rtnl.addAddress({ device: 'eth0', address: `${endpoint.v4}/32` });
    rtnl.addAddress({ device: 'eth0', address: `${endpoint.v6}/128`, nodad: true });
    rtnl.replaceRoute({ destination: '169.254.1.1/32', device: 'eth0', scope: 'link' });
    rtnl.replaceRoute({ destination: '0.0.0.0/0', via: '169.254.1.1', device: 'eth0' });
    rtnl.replaceRoute({ destination: '::/0', via: 'fe80::1', device: 'eth0' });
    const other = node === this.n1 ? this.n2 : this.n1;
    const hop = node === this.n1 ? 1 : 2;
    other.rtnl.replaceRoute({ destination: `${endpoint.v4}/32`, via: `172.18.0.${hop}`, device: 'link' });
    other.rtnl.replaceRoute({ destination: `${endpoint.v6}/128`, via: `fd00:18::${hop}`, device: 'link' });
  }

  async #serve(endpoint: Endpoint): Promise<void> {
    const ns = this.namespaceOf(endpoint);
    for (const port of ports) {
      for (const address of ['0.0.0.0', '::']) {
        const server = createServer((socket) => {
          this.#sockets.add(socket);
          socket.on('close', () => this.#sockets.delete(socket));
          socket.on('error', () => {});
          socket.pipe(socket);
        });
        this.#servers.push(server);
        server.listen({ fd: listenTcp({ ns, address, port }) });
        await once(server, 'listening');
        const udp = createSocket(address === '::' ? 'udp6' : 'udp4');
        this.#servers.push(udp);
        udp.on('message', (message, from) => {
          this.lastSource.set(endpoint.name, from.address);
          udp.send(message, from.port, from.address);
        });
        // Of a descriptor this is done at once: no event to wait for.
        udp.bind({ fd: bindUdp({ ns, address, port }) });
      }
    }
  }

  /** Whether a new connection gets through. `expected` only decides how long to wait for it. */
  async connects(from: Endpoint, to: Endpoint, protocol: string, port: number, family: Family, expected: boolean) {
    const timeoutMs = expected ? patienceMs : silenceMs;
    const attempt = protocol === 'TCP' ? this.#connectsTcp : this.#connectsUdp;
    return attempt.call(this, from, to[family], port, timeoutMs);
  }

  async #connectsTcp(from: Endpoint, address: string, port: number, timeoutMs: number): Promise<boolean> {
    const socket = await this.connectTcp(from, address, port, timeoutMs).catch(() => undefined);
    socket?.destroy();
    return socket !== undefined;
  }

  /** A connected socket to an echo server. */
  async connectTcp(from: Endpoint, address: string, port: number, timeoutMs = patienceMs): Promise<Socket> {
    const fd = await connectTcp({ ns: this.namespaceOf(from), address, port, timeoutMs });
    const socket = new Socket({ fd, readable: true, writable: true });
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    return socket;
  }

  async #connectsUdp(from: Endpoint, address: string, port: number, timeoutMs: number): Promise<boolean> {
    using socket = this.udp(from, address);
    return await socket.asks(address, port, timeoutMs);
  }

  /** A UDP socket of its own source port in an endpoint. */
  udp(from: Endpoint, towards: string): UdpClient {
    const isV6 = towards.includes(':');
    const fd = bindUdp({ ns: this.namespaceOf(from), address: isV6 ? from.v6 : from.v4, port: 0 });
    const socket = createSocket(isV6 ? 'udp6' : 'udp4');
    socket.bind({ fd });
    return new UdpClient(socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
    for (const ns of this.#namespaces.values()) ns.close();
    for (const node of this.nodes) node[Symbol.dispose]();
  }
}

export class UdpClient implements Disposable {
  readonly #socket: UdpSocket;

  constructor(socket: UdpSocket) {
    this.#socket = socket;
  }

  /** Sends one datagram and waits for its echo. */
  async asks(address: string, port: number, timeoutMs: number): Promise<boolean> {
    const answer = Promise.withResolvers<boolean>();
    const onMessage = () => answer.resolve(true);
    this.#socket.once('message', onMessage);
    const timer = setTimeout(() => answer.resolve(false), timeoutMs);
    this.#socket.send('?', port, address, (error) => error && answer.resolve(false));
    try {
      return await answer.promise;
    } finally {
      clearTimeout(timer);
      this.#socket.off('message', onMessage);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** Runs the tasks, some at a time. */
export async function inParallel<T>(
  items: readonly T[],
  atOnce: number,
  task: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items[Symbol.iterator]();
  const worker = async () => {
    for (const item of queue) await task(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** Polls until the check stops throwing; its last error is thrown after ten seconds. */
export async function eventually(check: () => void | Promise<void>): Promise<void> {
  const end = Date.now() + 10_000;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (Date.now() > end) throw error;
      await sleep(5);
    }
  }
}

export { endpoints, pods, world };
