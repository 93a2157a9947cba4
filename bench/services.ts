/**
 * services.load_10k, services.change_at_10k, services.churn, services.connect: what it costs to program Services and to
 * connect through them. The peer is the ruleset shape of kube-proxy's nftables mode made from the same Services and loaded
 * with `nft -f`, as kube-proxy does; for kube-proxy itself its own work comes on top.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { checkedCommand } from '../src/base/command.ts';
import { silentLogger } from '../src/base/log.ts';
import type { KubeClient } from '../src/kube/client.ts';
import { Informer } from '../src/kube/informer.ts';
import type { EndpointSlice, KindName, Service } from '../src/kube/types.ts';
import { Conntrack } from '../src/linux/conntrack.ts';
import { NetworkNamespace } from '../src/linux/netns.ts';
import { Nftables } from '../src/linux/nftables.ts';
import { Rtnetlink } from '../src/linux/rtnetlink.ts';
import { writeSysctl } from '../src/linux/sysctl.ts';
import { ServicesController } from '../src/node/services/controller.ts';
import { makeNode, makeService, makeSlice } from '../src/node/services/fixtures.ts';
import { nftablesRules } from '../src/node/services/nftables/reconciler.ts';
import { distribution, type Metrics } from './metrics.ts';
import { Feed } from './services/feed.ts';
import { renderShape, renderShapeChange, type ShapeService } from './services/kube-proxy-shape.ts';

export const about =
  'Services in the kernel: load, change and churn at 10,000, cost of a connect; peer: kube-proxy nftables shape';

const SERVICES = 10_000;
const CHANGES = 300;
const CHURN = 30_000;
const CONNECTS = 4000;
const PEER_CHANGES = 12;
const PEER_BATCH = 100;
const PEER = 'kube-proxy nftables mode, ruleset shape';
const SERVER = '10.244.0.2';

export interface Options {
  /** Services in load, change and churn; default 10,000. */
  readonly services?: number;
}

export async function run(options: Options = {}): Promise<Metrics> {
  const count = options.services ?? SERVICES;
  const folder = mkdtempSync(join(tmpdir(), 'podwire-bench-services-'));
  try {
    const program = join(folder, 'connect');
    await checkedCommand(['gcc', '-O2', '-o', program, join(import.meta.dirname, 'services/connect.c')]);
    const own = await measurePodwire(count);
    const connects = await measureConnects(program, [1000, 10_000, 30_000]);
    const peer = await measurePeer(folder, program, count);
    return metrics(own, connects, peer);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Figures {
  readonly load: readonly number[];
  readonly change: readonly number[];
  readonly churn: number;
}
/** Microseconds above a direct connect, by the number of Services. */
type Connects = ReadonlyMap<number, readonly number[]>;

function metrics(own: Figures, connects: Connects, peer: Figures & { connects: Connects }): Metrics {
  const name = PEER;
  const result: Metrics = {
    'services.load_10k': { unit: 'ms', podwire: distribution(own.load), peer: { name, ...distribution(peer.load) } },
    'services.change_at_10k': {
      unit: 'ms',
      podwire: distribution(own.change),
      peer: { name, ...distribution(peer.change) },
    },
    'services.churn': {
      unit: 'updates/s',
      moreIsBetter: true,
      podwire: distribution([own.churn]),
      peer: { name: `${PEER}, ${PEER_BATCH} changes in a transaction`, ...distribution([peer.churn]) },
    },
  };
  for (const [services, samples] of connects) {
    const other = peer.connects.get(services);
    result[`services.connect_${services / 1000}k`] = {
      unit: 'us',
      podwire: distribution(samples),
      ...(other ? { peer: { name, ...distribution(other) } } : {}),
      note: `cost above a direct connect${other ? '' : '; the peer is not loaded at this size, it takes minutes'}`,
    };
  }
  return result;
}

const address = (prefix: string, n: number): string => `${prefix}.${(n >> 8) & 255}.${n & 255}`;
const clusterIp = (n: number): string => address(`10.${96 + (n >> 16)}`, n);
/** The endpoints of the n-th Service: any addresses, but the last Service leads to the server of the connect test. */
const endpointsOf = (n: number, generation = 0): string[] => [address('10.245', n), address('10.246', n + generation)];

const service = (n: number): Service =>
  makeService(`svc-${n}`, { clusterIP: clusterIp(n), clusterIPs: [clusterIp(n)], ports: [{ name: 'http', port: 80 }] });
const slice = (n: number, addresses: readonly string[]): EndpointSlice =>
  makeSlice(
    `svc-${n}`,
    addresses.map((each) => ({ address: each, node: 'n2' })),
    [{ name: 'http', port: 8080 }],
  );

function startedIn(ns: NetworkNamespace, feed: Feed, signal: AbortSignal, onCommit: () => void = () => {}) {
  const nft = Nftables.open(ns);
  const conntrack = Conntrack.open(ns);
  const informer = <K extends KindName>(kind: K) =>
    new Informer(kind, { client: feed as unknown as KubeClient, log: silentLogger });
  const controller = new ServicesController({
    nodeName: 'n1',
    informers: {
      services: informer('Service'),
      endpointSlices: informer('EndpointSlice'),
      pods: informer('Pod'),
      nodes: informer('Node'),
    },
    rules: nftablesRules({
      run(text) {
        nft.run(text);
        onCommit();
      },
      async runAsync(text) {
        await nft.runAsync(text);
        onCommit();
      },
      list: (what) => nft.list(what),
    }),
    conntrack,
    podCidrs: ['10.244.0.0/16'],
    serviceCidrs: ['10.96.0.0/12'],
    nodeAddresses: ['192.0.2.1'],
    log: silentLogger,
  });
  signal.addEventListener('abort', () => {
    nft.close();
    conntrack.close();
  });
  return { controller, start: () => controller.start(signal) };
}

const feedOf = (count: number, lastLeadsTo?: string): Feed => {
  const numbers = Array.from({ length: count }, (_, n) => n);
  return new Feed({
    Service: numbers.map(service),
    EndpointSlice: numbers.map((n) =>
      slice(n, lastLeadsTo && n === count - 1 ? [lastLeadsTo, lastLeadsTo.replace(/2$/, '3')] : endpointsOf(n)),
    ),
    Node: [makeNode('n1', ['192.0.2.1'])],
  });
};

/** Cold loads, then changes one by one from the event to the commit, then churn until all is committed. */
async function measurePodwire(count: number): Promise<Figures> {
  const load: number[] = [];
  for (let i = 0; i < 5; i++) load.push(await timeLoad(count));
  using ns = NetworkNamespace.anonymous();
  const abort = new AbortController();
  const feed = feedOf(count);
  let committed = Promise.withResolvers<number>();
  const { controller, start } = startedIn(ns, feed, abort.signal, () => committed.resolve(performance.now()));
  await start();
  const change: number[] = [];
  for (let i = 0; i < CHANGES; i++) {
    committed = Promise.withResolvers();
    const began = performance.now();
    feed.push(slice((i * 37) % count, endpointsOf((i * 37) % count, i + 1)));
    change.push((await committed.promise) - began);
    await sleep(20);
  }
  const churn = await timeChurn(feed, count, controller);
  abort.abort();
  return { load, change, churn };
}

async function timeLoad(count: number): Promise<number> {
  using ns = NetworkNamespace.anonymous();
  const abort = new AbortController();
  const { start } = startedIn(ns, feedOf(count), abort.signal);
  const began = performance.now();
  await start();
  const took = performance.now() - began;
  abort.abort();
  return took;
}

/** Each update moves an endpoint of another Service; the events come in small groups, as from a socket. */
async function timeChurn(feed: Feed, count: number, controller: ServicesController): Promise<number> {
  const began = performance.now();
  for (let i = 0; i < CHURN; i++) {
    feed.push(slice(i % count, endpointsOf(i % count, i + 1000)));
    if (i % 20 === 19) await turn();
  }
  const last = (CHURN - 1) % count;
  const wanted = `${endpointsOf(last, CHURN - 1 + 1000)[1]} . 8080`;
  while (!controller.endpointsOf(`${clusterIp(last)} . tcp . 80`).includes(wanted)) await turn();
  return (CHURN / (performance.now() - began)) * 1000;
}

/** Client and server in namespaces of their own, the rules in the node between them. */
export class ConnectLab implements Disposable {
  readonly node = NetworkNamespace.anonymous();
  readonly #client = NetworkNamespace.anonymous();
  readonly #server = NetworkNamespace.anonymous();
  readonly #program: string;
  #serving: ChildProcess | undefined;

  constructor(program: string) {
    this.#program = program;
    writeSysctl(this.node, 'net.ipv4.ip_forward', 1);
    using links = Rtnetlink.open(this.node);
    this.#attach(links, 'client', this.#client, ['10.244.0.9']);
    this.#attach(links, 'server', this.#server, [SERVER, SERVER.replace(/2$/, '3')]);
  }

  #attach(links: Rtnetlink, name: string, ns: NetworkNamespace, addresses: readonly string[]): void {
    const index = links.createVeth({ name, up: true, peer: { name: 'eth0', netns: ns } });
    links.addAddress({ device: index, address: '169.254.1.1/32', scope: 'link' });
    using inside = Rtnetlink.open(ns);
    inside.setLink('eth0', { up: true });
    for (const each of addresses) {
      inside.addAddress({ device: 'eth0', address: `${each}/32` });
      links.addRoute({ destination: `${each}/32`, device: index });
    }
    inside.addRoute({ destination: '0.0.0.0/0', via: '169.254.1.1', device: 'eth0', onlink: true });
  }

  async serve(): Promise<void> {
    this.#serving = this.#server.run(() =>
      spawn(this.#program, ['serve', '8080'], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    await once(this.#serving.stdout!, 'data');
  }

  /** Microseconds above a direct connect, round by round. */
  measure(target: string): number[] {
    const rounds = this.rounds(target);
    const direct = distribution(rounds.map(([first]) => first)).p50;
    return rounds.map(([, second]) => second - direct);
  }

  /** Microseconds of a direct connect and of one to the target, round by round. */
  rounds(target: string): readonly (readonly [direct: number, target: number])[] {
    const argv = [String(CONNECTS), SERVER, '8080', target, '80'];
    const text = this.#client.run(() => execFileSync(this.#program, argv, { encoding: 'utf8', maxBuffer: 1 << 26 }));
    return text
      .trim()
      .split('\n')
      .map((line) => line.split(' ').map(Number) as [number, number]);
  }

  [Symbol.dispose](): void {
    this.#serving?.kill('SIGKILL');
    for (const ns of [this.node, this.#client, this.#server]) ns.close();
  }
}

async function measureConnects(program: string, counts: readonly number[]): Promise<Connects> {
  const result = new Map<number, number[]>();
  for (const count of counts) {
    using lab = new ConnectLab(program);
    await lab.serve();
    const abort = new AbortController();
    await startedIn(lab.node, feedOf(count, SERVER), abort.signal).start();
    lab.measure(clusterIp(count - 1));
    result.set(count, lab.measure(clusterIp(count - 1)));
    abort.abort();
  }
  return result;
}

async function measurePeer(folder: string, program: string, count: number): Promise<Figures & { connects: Connects }> {
  const connects = new Map<number, number[]>();
  let figures: Figures | undefined;
  for (const each of [1000, count]) {
    using lab = new ConnectLab(program);
    await lab.serve();
    const services = Array.from({ length: each }, (_, n): ShapeService => {
      const endpoints = n === each - 1 ? [SERVER, SERVER.replace(/2$/, '3')] : endpointsOf(n);
      return { name: `svc-${n}`, clusterIp: clusterIp(n), endpoints };
    });
    const nft = (text: string): number => {
      const file = join(folder, 'peer.nft');
      writeFileSync(file, text);
      const began = performance.now();
      lab.node.run(() => execFileSync('nft', ['-f', file]));
      return performance.now() - began;
    };
    const load = [nft(renderShape(services))];
    lab.measure(clusterIp(each - 1));
    connects.set(each, lab.measure(clusterIp(each - 1)));
    if (each === count) figures = { load, ...peerChanges(services, nft) };
  }
  return { ...figures!, connects };
}

function peerChanges(services: ShapeService[], nft: (text: string) => number): { change: number[]; churn: number } {
  const changed = (n: number, generation: number): string => {
    const before = services[n]!;
    const after = { ...before, endpoints: endpointsOf(n, generation) };
    services[n] = after;
    return renderShapeChange(before, after);
  };
  const change = Array.from({ length: PEER_CHANGES }, (_, i) => nft(changed(i * 37, i + 1)));
  const batches = Array.from({ length: 3 }, (_, i) =>
    nft(Array.from({ length: PEER_BATCH }, (_, j) => changed(1000 + i * PEER_BATCH + j, 7000 + j)).join('')),
  );
  return { change, churn: (PEER_BATCH / distribution(batches).p50) * 1000 };
}

if (import.meta.main) {
  const { ratio } = await import('./metrics.ts');
  for (const [id, metric] of Object.entries(await run())) {
    const show = (part: { p50: number; p99?: number } | undefined) =>
      part ? `${part.p50.toFixed(3)}${part.p99 === undefined ? '' : ` (p99 ${part.p99.toFixed(3)})`}` : '-';
    const times = ratio(metric);
    process.stdout.write(
      `${id.padEnd(26)} ${metric.unit.padEnd(10)} ${show(metric.podwire).padEnd(28)} peer ${show(metric.peer).padEnd(28)} ${times ? `${times.toFixed(1)}x` : ''}\n`,
    );
  }
}
