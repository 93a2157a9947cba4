/**
 * policy.load, policy.label_change, policy.label_change_idle, policy.policy_added, policy.connect: 1,000 policies x 100 local
 * pods x 5,000 pods, and what a connection costs through them; policy.early_packets: whether a crowd of new pods is reached
 * before its policy.
 * Everything happens in namespaces of its own, which are gone afterwards.
 *
 * podwire's figures hold all from the API object in hand to the committed transaction; the peer's only what the kernel takes
 * for its text, without the making of it.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { silentLogger } from '../src/base/log.ts';
import { NetworkNamespace } from '../src/linux/netns.ts';
import { Nftables } from '../src/linux/nftables.ts';
import { Rtnetlink } from '../src/linux/rtnetlink.ts';
import { closeFd, connectTcpSync, listenTcp } from '../src/linux/sockets.ts';
import { writeSysctl } from '../src/linux/sysctl.ts';
import { PolicyModel } from '../src/node/policy/model.ts';
import { PolicyReconciler } from '../src/node/policy/reconciler.ts';
import { table } from '../src/node/policy/render.ts';
import { startCrowd } from '../test/netns/policy-crowd.ts';
import { distribution, type Metric, type Metrics } from './metrics.ts';
import { renderShapeSync, shapeName, shapeTable } from './policy/kube-router-shape.ts';
import { type BenchState, connectState, largePolicy, largeState, nodeName } from './policy/state.ts';

export const about =
  'NetworkPolicy: load, one label changed, one policy added, connect through 1 to 1,000 policies, 200 pods at once';

export interface PolicyBenchOptions {
  /** Loads that are measured; default 7. */
  readonly loads?: number;
  /** Single changes that are measured; default 400. The peer, which loads all each time, does a twentieth. */
  readonly changes?: number;
  /** Single changes that are measured each after `idleMs` without any; default 5. */
  readonly idleChanges?: number;
  /** Connections that are measured per case; default 3000. */
  readonly connects?: number;
  /** Pods that start at once; default 200. */
  readonly crowd?: number;
}

/** Longer than anything is kept for the next transaction (src/linux/nftables.ts frees what is unused), milliseconds. */
const idleMs = 6_000;

const addresses = [
  ['10.244.0.2', 'fd00:10:244::2'],
  ['10.244.0.3', 'fd00:10:244::3'],
] as const;

export async function run(options: PolicyBenchOptions = {}): Promise<Metrics> {
  const { loads = 7, changes = 400, idleChanges = 5, connects = 3000 } = options;
  // The crowd first, in a process that has nothing else in memory yet.
  const crowd = await measureCrowd(options.crowd ?? 200);
  return { ...(await measureChanges(loads, changes, idleChanges)), ...(await measureConnects(connects)), ...crowd };
}

/** Pods that start at once under a default deny, while another process knocks at their addresses all the time. */
async function measureCrowd(pods: number): Promise<Metrics> {
  const { early, reachedAfter, addMs, prober } = await startCrowd({ pods });
  if (reachedAfter !== pods) throw new Error(`only ${reachedAfter} of ${pods} pods were reached without the policy`);
  const every = (prober.elapsed / prober.sweeps).toFixed(1);
  return {
    'policy.early_packets': {
      unit: 'packets',
      podwire: distribution([early]),
      note:
        `packets that reached any of ${pods} pods before the default deny held; ${prober.datagrams} datagrams, ` +
        `one from each of two senders to each address every ${every} ms, and ${prober.tcpTries} TCP connections`,
    },
    'policy.add_crowd': {
      unit: 'ms',
      podwire: distribution([addMs]),
      note: `CNI ADD of the ${pods} pods at once, through the shim, with the knocking beside`,
    },
  };
}

function elapsed(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

async function elapsedAsync(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

function modelOf(state: BenchState): PolicyModel {
  const model = new PolicyModel({ nodeName });
  for (const namespace of state.namespaces) model.setNamespace(namespace);
  for (const policy of state.policies) model.setPolicy(policy);
  for (const pod of state.pods) model.setPod(pod);
  model.settle();
  return model;
}

async function measureChanges(loads: number, changes: number, idleChanges: number): Promise<Metrics> {
  using ns = NetworkNamespace.anonymous();
  using nft = Nftables.open(ns);
  const state = largeState();
  const reconciler = () => new PolicyReconciler({ nft, log: silentLogger });
  const load: number[] = [];
  for (let i = 0; i < loads; i++) {
    nft.run(`add table ${table}\ndelete table ${table}\n`);
    load.push(await elapsedAsync(() => reconciler().apply(modelOf(state).elements)));
  }
  const adopt: number[] = [];
  for (let i = 0; i < loads; i++) adopt.push(await elapsedAsync(() => reconciler().apply(modelOf(state).elements)));
  const model = modelOf(state);
  const live = reconciler();
  await live.apply(model.elements);
  const numbers = Array.from({ length: changes }, (_, i) => i);
  const labels = await labelChanges(model, live, state, numbers, () => turn());
  // Even ones: each with labels that no pod had before.
  const idleNumbers = Array.from({ length: idleChanges }, (_, i) => 2 * (changes + i));
  const idle = await labelChanges(model, live, state, idleNumbers, () => sleep(idleMs));
  const added = await policyChanges(model, live, changes);
  const elements = model.elements.size;
  nft.run(`delete table ${table}\n`);
  const shape = measureShape(nft, state, loads, Math.max(5, Math.round(changes / 20)));
  const kinder = `its sets alone, were they changed in place: ${shape.elementMs.toFixed(2)} ms`;
  return {
    'policy.load': {
      unit: 'ms',
      podwire: distribution(load),
      peer: { name: shapeName, ...distribution(shape.load) },
      note: `${elements} elements; podwire with its computation, the peer without`,
    },
    'policy.restart': {
      unit: 'ms',
      podwire: distribution(adopt),
      note: 'the agent starts anew over a full table: compute, list, compare; the kernel is not written to',
    },
    'policy.label_change': {
      unit: 'ms',
      podwire: distribution(labels),
      peer: { name: `${shapeName}, full sync`, ...distribution(shape.sync) },
      note: `kube-router loads everything anew on any event; ${kinder}`,
    },
    'policy.label_change_idle': {
      unit: 'ms',
      podwire: distribution(idle),
      note: `each after ${idleMs / 1000} s without any change`,
    },
    'policy.policy_added': {
      unit: 'ms',
      podwire: distribution(added),
      peer: { name: `${shapeName}, full sync`, ...distribution(shape.sync) },
    },
  };
}

/** A remote pod takes the labels of another app and back: from the pod's object to the kernel. */
async function labelChanges(
  model: PolicyModel,
  live: PolicyReconciler,
  { pods }: BenchState,
  numbers: readonly number[],
  pause: () => Promise<unknown>,
) {
  const samples: number[] = [];
  for (const i of numbers) {
    await pause();
    const pod = pods[(i * 37) % pods.length]!;
    const labels: Record<string, string> =
      i % 2 ? { app: `app-${i % 50}`, tier: 'tier-1' } : { app: `app-${i % 50}`, tier: 'tier-2', release: `r${i}` };
    const changed = { ...pod, metadata: { ...pod.metadata, labels } };
    samples.push(
      await elapsedAsync(async () => {
        model.setPod(changed);
        model.settle();
        await live.apply(model.elements);
      }),
    );
  }
  return samples;
}

async function policyChanges(model: PolicyModel, live: PolicyReconciler, count: number) {
  const samples: number[] = [];
  for (let i = 0; i < count / 4; i++) {
    const policy = largePolicy('ns-0', 0, 1000 + i);
    samples.push(
      await elapsedAsync(async () => {
        model.setPolicy(policy);
        model.settle();
        await live.apply(model.elements);
      }),
    );
    model.deletePolicy(`ns-0/${policy.metadata.name}`);
    model.settle();
    await live.apply(model.elements);
    await turn();
  }
  return samples;
}

function measureShape(nft: Nftables, state: BenchState, loads: number, syncs: number) {
  const text = renderShapeSync(state);
  const load: number[] = [];
  for (let i = 0; i < loads; i++) {
    nft.run(`add table ${shapeTable}\ndelete table ${shapeTable}\n`);
    load.push(elapsed(() => nft.run(text)));
  }
  const sync = Array.from({ length: syncs }, () => elapsed(() => nft.run(text)));
  const elements = Array.from({ length: 20 }, (_, i) => {
    const verb = i % 2 ? 'delete' : 'add';
    const lines = Array.from({ length: 8 }, (_, s) => `${verb} element ${shapeTable} src_${s}_0_4 { 10.99.0.1 }\n`);
    return elapsed(() => nft.run(lines.join('')));
  });
  nft.run(`delete table ${shapeTable}\n`);
  return { load, sync, elementMs: distribution(elements).p50 };
}

async function measureConnects(count: number): Promise<Metrics> {
  using node = NetworkNamespace.anonymous();
  using client = NetworkNamespace.anonymous();
  using server = NetworkNamespace.anonymous();
  using nft = Nftables.open(node);
  join(node, [client, server]);
  using sink = await Sink.open(server);
  const cases: { name: string; prepare: () => Promise<void> | void; samples: number[]; rounds: number[] }[] = [];
  const clear = () => {
    for (const each of [table, shapeTable]) nft.run(`add table ${each}\ndelete table ${each}\n`);
  };
  cases.push({ name: 'no rules', prepare: clear, samples: [], rounds: [] });
  for (const policies of [0, 1, 100, 1000]) {
    const state = connectState(policies, addresses);
    cases.push({
      name: `podwire ${policies}`,
      prepare: async () => {
        clear();
        await new PolicyReconciler({ nft, log: silentLogger }).apply(modelOf(state).elements);
      },
      samples: [],
      rounds: [],
    });
    cases.push({
      name: `shape ${policies}`,
      prepare: () => {
        clear();
        nft.run(renderShapeSync(state));
      },
      samples: [],
      rounds: [],
    });
  }
  // In rounds, so that the machine's moods hit all cases alike.
  for (let round = 0; round < 10; round++) {
    for (const each of cases) {
      await each.prepare();
      await connectMany(client, sink, 50);
      const samples = await connectMany(client, sink, Math.ceil(count / 10));
      each.samples.push(...samples);
      each.rounds.push(distribution(samples).p50);
    }
  }
  return connectMetrics(new Map(cases.map((each) => [each.name, each])));
}

interface ConnectCase {
  readonly samples: readonly number[];
  /** The median of each round. */
  readonly rounds: readonly number[];
}

function connectMetrics(cases: ReadonlyMap<string, ConnectCase>): Metrics {
  const of = (name: string) => distribution(cases.get(name)!.samples);
  // Round by round: the machine's moods last longer than a round, and a round's medians share them.
  const none = cases.get('podwire 0')!.rounds;
  const above = (name: string) => distribution(cases.get(name)!.rounds.map((median, i) => median / none[i]! - 1)).p50;
  const result: Record<string, Metric> = {
    'policy.connect_0': {
      unit: 'us',
      podwire: of('podwire 0'),
      peer: { name: 'no rules, no conntrack', ...of('no rules') },
      note: 'the rules of a node on which no policy selects the pod',
    },
  };
  for (const policies of [1, 100, 1000]) {
    const podwire = of(`podwire ${policies}`);
    result[`policy.connect_${policies}`] = {
      unit: 'us',
      podwire,
      peer: { name: shapeName, ...of(`shape ${policies}`) },
      note: `${(above(`podwire ${policies}`) * 100).toFixed(1)}% above no policy, the median of ten rounds`,
    };
  }
  return result;
}

function join(node: NetworkNamespace, pods: readonly NetworkNamespace[]): void {
  writeSysctl(node, 'net.ipv4.conf.all.forwarding', 1);
  using rtnl = Rtnetlink.open(node);
  pods.forEach((ns, i) => {
    const name = `pod${i}`;
    const address = addresses[i]![0];
    rtnl.createVeth({ name, up: true, peer: { name: 'eth0', up: true, netns: ns } });
    rtnl.addAddress({ device: name, address: '169.254.1.1/32' });
    rtnl.replaceRoute({ destination: `${address}/32`, device: name });
    using inside = Rtnetlink.open(ns);
    inside.addAddress({ device: 'eth0', address: `${address}/32` });
    inside.replaceRoute({ destination: '169.254.1.1/32', device: 'eth0', scope: 'link' });
    inside.replaceRoute({ destination: '0.0.0.0/0', via: '169.254.1.1', device: 'eth0' });
  });
}

/** A server that hangs up at once, so that no connection is left anywhere. */
class Sink implements Disposable {
  readonly #server: Server;
  #accepted = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.#accepted++;
      socket.on('error', () => {});
      socket.resetAndDestroy();
    });
  }

  static async open(ns: NetworkNamespace): Promise<Sink> {
    const server = createServer();
    const sink = new Sink(server);
    server.listen({ fd: listenTcp({ ns, address: '0.0.0.0', port: 80 }) });
    await once(server, 'listening');
    return sink;
  }

  /** Waits until so many more have been accepted: the queue of the socket is empty then. */
  async drain(connected: number): Promise<void> {
    while (this.#accepted < connected) await sleep(1);
    this.#accepted -= connected;
  }

  [Symbol.dispose](): void {
    this.#server.close();
  }
}

/** Microseconds of each connect; the server empties its queue between batches. */
async function connectMany(client: NetworkNamespace, sink: Sink, count: number): Promise<number[]> {
  const samples: number[] = [];
  while (samples.length < count) {
    const batch = Math.min(50, count - samples.length);
    for (let i = 0; i < batch; i++) {
      const start = performance.now();
      const fd = connectTcpSync({ ns: client, address: addresses[1][0], port: 80, timeoutMs: 2000 });
      samples.push((performance.now() - start) * 1000);
      closeFd(fd);
    }
    await sink.drain(batch);
  }
  return samples;
}
