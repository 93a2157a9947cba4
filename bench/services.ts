/**
 * services.load_10k, services.change_at_10k, services.churn, services.connect, services.memory_10k, services.endpoints_100k:
 * what it costs to program Services, to hold them and to connect through them. The peer is the ruleset shape of kube-proxy's nftables mode made from the same Services and loaded
 * with `nft -f`, as kube-proxy does; for kube-proxy itself its own work comes on top. Where PODWIRE_KUBE_PROXY names a
 * kube-proxy, services.api_* measure it and podwire's agent over podwire's API server (services/from-api).
 */
import { execFileSync } from 'node:child_process';
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
import { ServicesController } from '../src/node/services/controller.ts';
import { makeNode, makeService, makeSlice } from '../src/node/services/fixtures.ts';
import { nftablesRules } from '../src/node/services/nftables/reconciler.ts';
import { distribution, type Metrics } from './metrics.ts';
import { ConnectLab, compilePrograms, type Programs, SERVER, SERVERS } from './services/connect-lab.ts';
import { ConnectRounds } from './services/connect-rounds.ts';
import { ebpfBench, type SocketBench } from './services/ebpf.ts';
import { Feed } from './services/feed.ts';
import { fromApiMetrics } from './services/from-api/metrics.ts';
import { renderShape, renderShapeChange, type ShapeService } from './services/kube-proxy-shape.ts';

export const about =
  'Services in the kernel: load, change and churn at 10,000, cost of a connect; peer: kube-proxy nftables shape';

const SERVICES = 10_000;
const CHANGES = 300;
const CHURN = 30_000;
const PEER_CHANGES = 12;
const PEER_BATCH = 100;
/** Services when connects are timed; the peer is loaded with the first of them and with as many as it changes. */
const SIZES = [1000, 10_000, 30_000] as const;
const PEER = 'kube-proxy nftables mode, ruleset shape';

export interface Options {
  /** Services in load, change and churn; default 10,000. */
  readonly services?: number;
}

export async function run(options: Options = {}): Promise<Metrics> {
  const count = options.services ?? SERVICES;
  const folder = mkdtempSync(join(tmpdir(), 'podwire-bench-services-'));
  try {
    const programs = await compilePrograms(folder);
    const own = await measurePodwire(count);
    const held = await measureHeld(folder, count, 10);
    const single = await measureHeld(folder, 1, 100_000);
    const sockets = await measureSockets(programs, count);
    await using rounds = new ConnectRounds();
    for (const size of SIZES) {
      await addPodwire(rounds, programs, size);
      if (sockets) await addSockets(rounds, programs, size);
    }
    const peer = await measurePeer(folder, programs, count, rounds);
    const connects = rounds.measure();
    return {
      ...metrics(own, connects, peer),
      ...(sockets ? socketMetrics(sockets, connects, peer) : {}),
      ...heldMetrics(held, single),
      ...(await fromApiMetrics(folder, programs, count)),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What `services/memory.ts` prints. */
interface Held {
  readonly rss: number;
  readonly peak: number;
  readonly loadMs: number;
  readonly changeMs: readonly number[];
}

/** In processes of their own: an empty one, and one that holds so many Services with so many endpoints each. */
async function measureHeld(folder: string, services: number, endpoints: number): Promise<{ empty: Held; held: Held }> {
  const script = join(import.meta.dirname, 'services/memory.ts');
  const node = [process.execPath, '--disable-warning=ExperimentalWarning', script] as const;
  const measure = async (name: string, ...counts: number[]): Promise<Held> => {
    const pages = join(folder, name);
    await checkedCommand([...node, 'write', pages, ...counts.map(String)]);
    const text = await checkedCommand([...node, 'measure', pages]);
    rmSync(pages, { recursive: true });
    return JSON.parse(text) as Held;
  };
  return { empty: await measure('empty', 0, 0), held: await measure('held', services, endpoints) };
}

function heldMetrics(held: { empty: Held; held: Held }, single: { empty: Held; held: Held }): Metrics {
  const megabytes = (bytes: number) => distribution([bytes / 1e6]);
  const inAll = `; the whole process, of which ${Math.round(held.empty.rss / 1e6)} MB are there without any Service`;
  return {
    'services.memory_10k': {
      unit: 'MB',
      podwire: megabytes(held.held.rss),
      note: `10k Services x 10 endpoints, resident when idle${inAll}; ${Math.round(held.held.peak / 1e6)} MB while it starts`,
    },
    'services.endpoints_100k_memory': {
      unit: 'MB',
      podwire: megabytes(single.held.rss),
      note: 'one Service, likewise',
    },
    'services.endpoints_100k_load': {
      unit: 'ms',
      podwire: distribution([single.held.loadMs]),
      note: '100k endpoints in the 1000 slices of one Service, from JSON to in force',
    },
    'services.endpoints_100k_change': {
      unit: 'ms',
      podwire: distribution(single.held.changeMs),
      note: 'one of the 100k changed: event to commit',
    },
  };
}

interface Figures {
  readonly load: readonly number[];
  readonly change: readonly number[];
  readonly churn: number;
}
/** Microseconds above a direct connect, by mode and number of Services. */
type Connects = ReadonlyMap<string, readonly number[]>;

function metrics(own: Figures, connects: Connects, peer: Figures): Metrics {
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
  for (const size of SIZES) {
    const other = connects.get(`peer ${size}`);
    result[`services.connect_${size / 1000}k`] = {
      unit: 'us',
      podwire: distribution(connects.get(`nftables ${size}`)!),
      ...(other ? { peer: { name, ...distribution(other) } } : {}),
      note: `cost above a direct connect${other ? '' : '; the peer is not loaded at this size, it takes minutes'}`,
    };
  }
  return result;
}

function socketMetrics(sockets: SocketFigures, connects: Connects, peer: Figures): Metrics {
  const result: Metrics = {
    'services.ebpf_load_10k': {
      unit: 'ms',
      podwire: distribution(sockets.load),
      peer: { name: PEER, ...distribution(peer.load) },
      note: 'mode ebpf, which writes the nftables rules as well',
    },
    'services.ebpf_change_at_10k': {
      unit: 'ms',
      podwire: distribution(sockets.change),
      peer: { name: PEER, ...distribution(peer.change) },
    },
    'services.ebpf_churn': {
      unit: 'updates/s',
      moreIsBetter: true,
      podwire: distribution([sockets.churn]),
      peer: { name: `${PEER}, ${PEER_BATCH} changes in a transaction`, ...distribution([peer.churn]) },
    },
  };
  for (const size of SIZES) {
    const shape = connects.get(`peer ${size}`);
    const other = shape
      ? { name: PEER, samples: shape }
      : { name: 'podwire, mode nftables', samples: connects.get(`nftables ${size}`)! };
    result[`services.ebpf_connect_${size / 1000}k`] = {
      unit: 'us',
      podwire: distribution(connects.get(`ebpf ${size}`)!),
      peer: { name: other.name, ...distribution(other.samples) },
      note: 'cost above a direct connect',
    };
  }
  for (const protocol of ['tcp', 'udp'] as const) {
    result[`services.ebpf_exchange_${protocol}`] = {
      unit: '% of direct',
      podwire: distribution(sockets.exchanges[protocol].sockets),
      peer: { name: 'podwire, mode nftables', ...distribution(sockets.exchanges[protocol].packets) },
      note: 'a request and its answer through a Service',
    };
  }
  return result;
}

const address = (prefix: string, n: number): string => `${prefix}.${(n >> 8) & 255}.${n & 255}`;
const clusterIp = (n: number): string => address(`10.${96 + (n >> 16)}`, n);
/** The endpoints of the n-th Service: any addresses, but the last Service leads to the server of the connect test. */
const endpointsOf = (n: number, generation = 0): string[] => [address('10.245', n), address('10.246', n + generation)];

type Ports = readonly { readonly name: string; readonly protocol: 'TCP' | 'UDP' }[];
const HTTP: Ports = [{ name: 'http', protocol: 'TCP' }];

const service = (n: number, ports = HTTP): Service =>
  makeService(`svc-${n}`, {
    clusterIP: clusterIp(n),
    clusterIPs: [clusterIp(n)],
    ports: ports.map((port) => ({ ...port, port: 80 })),
  });
const slice = (n: number, addresses: readonly string[], ports = HTTP): EndpointSlice =>
  makeSlice(
    `svc-${n}`,
    addresses.map((each) => ({ address: each, node: 'n2' })),
    ports.map((port) => ({ ...port, port: 8080 })),
  );

function startedIn(
  ns: NetworkNamespace,
  feed: Feed,
  signal: AbortSignal,
  onCommit: () => void = () => {},
  socket: SocketBench | undefined = undefined,
) {
  const nft = Nftables.open(ns);
  const conntrack = Conntrack.open(ns);
  const informer = <K extends KindName>(kind: K) =>
    new Informer(kind, { client: feed as unknown as KubeClient, log: silentLogger });
  const committed = socket ? () => {} : onCommit;
  const packets = nftablesRules({
    run: (text) => nft.run(text),
    runAsync: (text) => nft.runAsync(text),
    list: (what) => nft.list(what),
    elements: {
      commit(changes) {
        nft.elements.commit(changes);
        committed();
      },
      async commitAsync(changes) {
        await nft.elements.commitAsync(changes);
        committed();
      },
    },
  });
  const controller = new ServicesController({
    nodeName: 'n1',
    informers: {
      services: informer('Service'),
      endpointSlices: informer('EndpointSlice'),
      pods: informer('Pod'),
      nodes: informer('Node'),
    },
    rules: socket ? socket.rules(packets, onCommit) : packets,
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

const feedOf = (count: number, lastLeadsTo: readonly string[] = [], ports = HTTP): Feed => {
  const numbers = Array.from({ length: count }, (_, n) => n);
  return new Feed({
    Service: numbers.map((n) => service(n, ports)),
    EndpointSlice: numbers.map((n) =>
      slice(n, lastLeadsTo.length > 0 && n === count - 1 ? lastLeadsTo : endpointsOf(n), ports),
    ),
    Node: [makeNode('n1', ['192.0.2.1'])],
  });
};

/** Cold loads, then changes one by one from the event to the commit, then churn until all is committed. */
async function measurePodwire(count: number, socket?: SocketBench): Promise<Figures> {
  const load: number[] = [];
  for (let i = 0; i < 5; i++) load.push(await timeLoad(count, socket));
  using ns = NetworkNamespace.anonymous();
  const abort = new AbortController();
  const feed = feedOf(count);
  let committed = Promise.withResolvers<number>();
  const { controller, start } = startedIn(ns, feed, abort.signal, () => committed.resolve(performance.now()), socket);
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

async function timeLoad(count: number, socket?: SocketBench): Promise<number> {
  using ns = NetworkNamespace.anonymous();
  const abort = new AbortController();
  const { start } = startedIn(ns, feedOf(count), abort.signal, () => {}, socket);
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

async function addPodwire(rounds: ConnectRounds, programs: Programs, size: number): Promise<void> {
  const lab = new ConnectLab(programs);
  const abort = new AbortController();
  rounds.add(`nftables ${size}`, lab, clusterIp(size - 1), () => abort.abort());
  await lab.serve();
  await startedIn(lab.node, feedOf(size, SERVERS), abort.signal).start();
}

async function addSockets(rounds: ConnectRounds, programs: Programs, size: number): Promise<void> {
  const socket = await ebpfBench(String(size));
  if (!socket) return;
  const lab = new ConnectLab(programs, socket.cgroup);
  const abort = new AbortController();
  rounds.add(`ebpf ${size}`, lab, clusterIp(size - 1), async () => {
    abort.abort();
    await socket[Symbol.asyncDispose]();
  });
  await lab.serve();
  await startedIn(lab.node, feedOf(size, SERVERS), abort.signal, () => {}, socket).start();
}

interface SocketFigures extends Figures {
  /** How long a request and its answer take through a Service, in percent of a direct one. */
  readonly exchanges: Readonly<Record<'tcp' | 'udp', { readonly sockets: number[]; readonly packets: number[] }>>;
}

/** The mode ebpf; undefined where this machine has not what it needs. */
async function measureSockets(programs: Programs, count: number): Promise<SocketFigures | undefined> {
  await using socket = await ebpfBench('figures');
  if (!socket) return undefined;
  const figures = await measurePodwire(count, socket);
  socket.release();
  return { ...figures, exchanges: await measureExchanges(programs, socket) };
}

async function measureExchanges(programs: Programs, socket: SocketBench): Promise<SocketFigures['exchanges']> {
  const measured = {
    sockets: { tcp: [] as number[], udp: [] as number[] },
    packets: { tcp: [] as number[], udp: [] as number[] },
  };
  for (const way of ['packets', 'sockets'] as const) {
    using lab = new ConnectLab(programs, way === 'sockets' ? socket.cgroup : undefined);
    await lab.echo();
    const abort = new AbortController();
    await startedIn(
      lab.node,
      feedOf(100, [SERVER], [...HTTP, { name: 'udp', protocol: 'UDP' }]),
      abort.signal,
      () => {},
      way === 'sockets' ? socket : undefined,
    ).start();
    for (const protocol of ['tcp', 'udp'] as const) {
      lab.exchange(protocol, clusterIp(99));
      measured[way][protocol] = lab.exchange(protocol, clusterIp(99));
    }
    abort.abort();
    socket.release();
  }
  const of = (protocol: 'tcp' | 'udp') => ({
    sockets: measured.sockets[protocol],
    packets: measured.packets[protocol],
  });
  return { tcp: of('tcp'), udp: of('udp') };
}

async function measurePeer(folder: string, programs: Programs, count: number, rounds: ConnectRounds): Promise<Figures> {
  let figures: Figures | undefined;
  for (const each of [1000, count]) {
    const lab = new ConnectLab(programs);
    rounds.add(`peer ${each}`, lab, clusterIp(each - 1));
    await lab.serve();
    const services = Array.from({ length: each }, (_, n): ShapeService => {
      const endpoints = n === each - 1 ? SERVERS : endpointsOf(n);
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
    if (each === count) figures = { load, ...peerChanges(services, nft) };
  }
  return figures!;
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
