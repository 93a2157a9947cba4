/**
 * Nodes and pods for tests: each node is a network namespace on a bridge without a way out, with a real IPAM, pod network
 * and CNI server; pods are namespaces that the real shim attaches, called as a container runtime calls it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../src/base/command.ts';
import { silentLogger } from '../../src/base/log.ts';
import { NetworkNamespace } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { connectTcp, listenTcp } from '../../src/linux/sockets.ts';
import { writeSysctl } from '../../src/linux/sysctl.ts';
import { buildShim, installShim } from '../../src/node/cni/build.ts';
import type { PodNetworkHook } from '../../src/node/cni/hook.ts';
import { PodNetwork } from '../../src/node/cni/pod-network.ts';
import { CniServer } from '../../src/node/cni/server.ts';
import { Ipam } from '../../src/node/ipam/ipam.ts';

export interface LabOptions {
  readonly nodes?: number;
  readonly mtu?: number;
  readonly hooks?: readonly PodNetworkHook[];
  /** Default both. */
  readonly families?: readonly (4 | 6)[];
  /** Without IPAM, pod network and server: the test runs them itself. */
  readonly bare?: boolean;
  readonly podCidrs?: (node: number) => readonly string[];
  /** What the pod network is told of the node's own addresses; default: the truth. */
  readonly nodeAddresses?: readonly string[];
}

/** What the shim printed. */
export interface ShimAnswer {
  readonly exitCode: number | null;
  readonly json: ShimJson;
}

export interface ShimJson {
  readonly cniVersion?: string;
  readonly code?: number;
  readonly msg?: string;
  readonly details?: string;
  readonly supportedVersions?: string[];
  readonly interfaces?: { name: string; mac: string; mtu?: number; sandbox?: string }[];
  readonly ips?: { address: string; gateway?: string; interface?: number; version?: string }[];
  readonly routes?: { dst: string; gw?: string }[];
  readonly dns?: Record<string, unknown>;
}

export class Lab implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'podwire-lab-'));
  readonly binDir = join(this.folder, 'bin');
  readonly nodes: LabNode[] = [];
  readonly underlay: NetworkNamespace;
  readonly underlayRtnl: Rtnetlink;

  private constructor() {
    this.underlay = NetworkNamespace.anonymous();
    this.underlayRtnl = Rtnetlink.open(this.underlay);
    this.underlayRtnl.createBridge({ name: 'br0', up: true, mtu: 1500, multicastSnooping: false });
  }

  static async create(options: LabOptions = {}): Promise<Lab> {
    const lab = new Lab();
    try {
      await buildShim(join(lab.folder, 'shim'));
      installShim(join(lab.folder, 'shim'), lab.binDir);
      for (let i = 0; i < (options.nodes ?? 1); i++) lab.nodes.push(await LabNode.create(lab, i, options));
      return lab;
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.nodes) await node[Symbol.asyncDispose]();
    this.underlayRtnl.close();
    this.underlay.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class LabNode implements AsyncDisposable {
  readonly name: string;
  readonly folder: string;
  readonly ns: NetworkNamespace;
  readonly rtnl: Rtnetlink;
  readonly addresses: readonly string[];
  readonly podCidrs: readonly string[];
  readonly socketPath: string;
  readonly pods: LabPod[] = [];
  readonly lab: Lab;
  ipam!: Ipam;
  network!: PodNetwork;
  #nft: Nftables | undefined;
  readonly #abort = new AbortController();
  #stopped: Promise<void> | undefined;

  private constructor(lab: Lab, index: number, options: LabOptions) {
    const families = options.families ?? [4, 6];
    const ofFamilies = (texts: readonly string[]) =>
      texts.filter((text) => families.includes(text.includes(':') ? 6 : 4));
    this.lab = lab;
    this.name = `node-${index}`;
    this.folder = join(lab.folder, this.name);
    mkdirSync(this.folder, { recursive: true });
    this.socketPath = join(this.folder, 'cni.sock');
    this.addresses = ofFamilies([`172.18.0.${index + 2}`, `fd00:18::${(index + 2).toString(16)}`]);
    this.podCidrs = options.podCidrs?.(index) ?? ofFamilies([`10.244.${index}.0/24`, `fd00:10:244:${index}::/64`]);
    this.ns = NetworkNamespace.create(join(this.folder, 'netns'));
    this.rtnl = Rtnetlink.open(this.ns);
  }

  static async create(lab: Lab, index: number, options: LabOptions): Promise<LabNode> {
    const node = new LabNode(lab, index, options);
    // A forwarded packet waits for neighbour discovery, which waits for the link-local address: a second, with DAD.
    writeSysctl(node.ns, 'net.ipv6.conf.default.accept_dad', 0);
    lab.underlayRtnl.createVeth({
      name: `node${index}`,
      master: 'br0',
      up: true,
      peer: { name: 'eth0', netns: node.ns, up: true },
    });
    for (const address of node.addresses) {
      const prefix = address.includes(':') ? 64 : 16;
      node.rtnl.addAddress({ device: 'eth0', address: `${address}/${prefix}`, nodad: true });
    }
    writeSysctl(node.ns, 'net.ipv4.ip_forward', 1);
    writeSysctl(node.ns, 'net.ipv6.conf.all.forwarding', 1);
    if (!options.bare) await node.serve(options);
    return node;
  }

  async serve(options: LabOptions): Promise<void> {
    const log = silentLogger;
    this.ipam = await Ipam.open({ path: join(this.folder, 'ipam'), podCidrs: this.podCidrs, log });
    this.#nft = Nftables.open(this.ns);
    this.network = new PodNetwork({
      nft: this.#nft,
      ipam: this.ipam,
      log,
      mtu: () => options.mtu ?? 1450,
      netns: this.ns,
      hooks: options.hooks ?? [],
      nodeAddresses: () => options.nodeAddresses ?? this.addresses,
    });
    await this.network.start(this.#abort.signal);
    const server = new CniServer({ socketPath: this.socketPath, network: this.network, log });
    await server.start(this.#abort.signal);
    this.#stopped = server.stopped;
  }

  /** A pod's namespace, not yet attached. */
  newPod(name: string): LabPod {
    const pod = new LabPod(this, name);
    this.pods.push(pod);
    return pod;
  }

  /** An attached pod. */
  async addPod(name: string): Promise<LabPod> {
    const pod = this.newPod(name);
    const { exitCode, json } = await pod.cni('ADD');
    if (exitCode !== 0) throw new Error(`ADD of ${name}: ${JSON.stringify(json)}`);
    pod.addresses = json.ips!.map(({ address }) => address.split('/')[0]!);
    return pod;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#stopped;
    this.network?.close();
    this.#nft?.close();
    this.ipam?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pod of this.pods) pod[Symbol.dispose]();
    await this.stop();
    this.rtnl.close();
    this.ns.close();
    NetworkNamespace.delete(join(this.folder, 'netns'));
  }
}

export class LabPod implements Disposable {
  readonly node: LabNode;
  readonly name: string;
  readonly containerId: string;
  readonly netnsPath: string;
  readonly ns: NetworkNamespace;
  addresses: readonly string[] = [];
  readonly #servers: Server[] = [];

  constructor(node: LabNode, name: string) {
    this.node = node;
    this.name = name;
    this.containerId = `container-${node.name}-${name}`;
    this.netnsPath = join(node.folder, `pod-${name}`);
    this.ns = NetworkNamespace.create(this.netnsPath);
    writeSysctl(this.ns, 'net.ipv4.ping_group_range', '0 2147483647');
  }

  /** Executes the shim as a runtime does. */
  async cni(command: string, config: object = {}, environment: Record<string, string> = {}): Promise<ShimAnswer> {
    return await executeShim(join(this.node.lab.binDir, 'podwire'), {
      config: { cniVersion: '1.1.0', name: 'podwire', type: 'podwire', socket: this.node.socketPath, ...config },
      environment: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: this.containerId,
        CNI_NETNS: this.netnsPath,
        CNI_IFNAME: 'eth0',
        CNI_PATH: this.node.lab.binDir,
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${this.name};K8S_POD_UID=uid-${this.name}`,
        ...environment,
      },
    });
  }

  /** A TCP server that answers with its client's address, then with everything it receives. Returns its port. */
  async echo(address: string): Promise<number> {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.write(`${socket.remoteAddress}\n`);
      socket.pipe(socket);
    });
    this.#servers.push(server);
    const fd = listenTcp({ ns: this.ns, address, port: 7 });
    server.listen({ fd });
    await once(server, 'listening');
    return 7;
  }

  connect(address: string, port: number, timeoutMs = 3000): Promise<Socket> {
    return connectFrom(this.ns, address, port, timeoutMs);
  }

  [Symbol.dispose](): void {
    for (const server of this.#servers) server.close();
    this.ns.close();
    NetworkNamespace.delete(this.netnsPath);
  }
}

export async function connectFrom(
  ns: NetworkNamespace,
  address: string,
  port: number,
  timeoutMs = 3000,
): Promise<Socket> {
  return new Socket({ fd: await connectTcp({ ns, address, port, timeoutMs }), readable: true, writable: true });
}

/** Connects, sends `bytes` and returns who the server saw and whether all came back intact. */
export async function talk(
  from: NetworkNamespace,
  address: string,
  bytes: Buffer,
): Promise<{ seen: string; intact: boolean }> {
  const socket = await connectFrom(from, address, 7);
  const chunks: Buffer[] = [];
  socket.setTimeout(20_000, () => socket.destroy(new Error(`no data from ${address} for 20 s`)));
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.end(bytes);
  await once(socket, 'close');
  const received = Buffer.concat(chunks);
  const line = received.indexOf(0x0a);
  return { seen: received.toString('utf8', 0, line), intact: received.subarray(line + 1).equals(bytes) };
}

export async function executeShim(
  path: string,
  { config, environment }: { config: object | string; environment: Record<string, string> },
): Promise<ShimAnswer> {
  const input = typeof config === 'string' ? config : JSON.stringify(config);
  const { exitCode, stdout } = await runCommand([path], { input, env: environment, timeoutMs: 30_000 });
  return { exitCode, json: stdout.trim() === '' ? {} : JSON.parse(stdout) };
}

/** Runs a command inside a namespace. */
export async function runInside(ns: NetworkNamespace, argv: readonly [string, ...string[]]): Promise<string> {
  const child = ns.run(() => spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], timeout: 20_000 }));
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
  });
  child.stderr.on('data', (chunk) => {
    text += chunk;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${text}`);
  return text;
}
