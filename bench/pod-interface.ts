/**
 * pod_interface.*: a routed veth per pod against a bridge, between two pods of one node: request/response, stream, and what
 * the kernel takes to attach a pod. The figures behind docs/decisions/0003-pod-interface.md. A bare veth between the two
 * namespaces is the ceiling.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkedCommand } from '../src/base/command.ts';
import { NetworkNamespace } from '../src/linux/netns.ts';
import { type Operation, Rtnetlink } from '../src/linux/rtnetlink.ts';
import { writeSysctl } from '../src/linux/sysctl.ts';
import {
  HOST_MAC,
  hostSideActivation,
  hostSidePreparation,
  podMac,
  podSideOperations,
} from '../src/node/cni/pod-link.ts';
import { distribution, type Metrics } from './metrics.ts';

export const about = 'two pods of a node: routed veth, bridge and bare veth compared';

const ADDRESSES = ['10.98.0.2', '10.98.0.3'] as const;
const ROUNDS = 7;
const PORT = '7000';

const KINDS = ['routed', 'bridge', 'bare'] as const;
type Kind = (typeof KINDS)[number];

interface Samples {
  readonly rr: number[];
  readonly stream: number[];
  readonly attach: number[];
}

export async function run(): Promise<Metrics> {
  const folder = mkdtempSync(join(tmpdir(), 'podwire-bench-if-'));
  try {
    const traffic = join(folder, 'traffic');
    await checkedCommand(['gcc', '-O2', '-o', traffic, join(import.meta.dirname, 'cni/traffic.c')]);
    const samples = Object.fromEntries(KINDS.map((kind) => [kind, { rr: [], stream: [], attach: [] } as Samples]));
    // In turns, so that a noisy minute harms all alike.
    for (let round = 0; round < ROUNDS; round++) {
      for (const kind of KINDS) await measure(kind, traffic, samples[kind]!);
    }
    return metrics(samples as Record<Kind, Samples>);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function metrics({ routed, bridge, bare }: Record<Kind, Samples>): Metrics {
  const against = (name: keyof Samples, peer: Samples, title: string, unit: string, moreIsBetter = false) => ({
    ...{ unit, moreIsBetter, podwire: distribution(routed[name]) },
    peer: { name: title, ...distribution(peer[name]) },
  });
  return {
    'pod_interface.rr': against('rr', bridge, 'bridge', 'us'),
    'pod_interface.rr_bare': against('rr', bare, 'bare veth', 'us'),
    'pod_interface.stream': against('stream', bridge, 'bridge', 'Gbit/s', true),
    'pod_interface.stream_bare': against('stream', bare, 'bare veth', 'Gbit/s', true),
    'pod_interface.attach': against('attach', bridge, 'bridge', 'ms'),
  };
}

async function measure(kind: Kind, traffic: string, samples: Samples): Promise<void> {
  using node = NetworkNamespace.anonymous();
  using a = NetworkNamespace.anonymous();
  using b = NetworkNamespace.anonymous();
  writeSysctl(node, 'net.ipv4.ip_forward', 1);
  using rtnl = Rtnetlink.open(node);
  if (kind === 'bridge') {
    rtnl.createBridge({ name: 'br', up: true });
    rtnl.addAddress({ device: 'br', address: '10.98.0.1/24' });
  }
  if (kind === 'bare') attachBare(a, b);
  else for (const [i, pod] of [a, b].entries()) samples.attach.push(timed(() => attach[kind](rtnl, pod, i)));
  if (kind === 'bare') samples.attach.push(0);
  const server = start(b, [traffic, 'serve', ADDRESSES[1], PORT]);
  try {
    await once(server.stdout!, 'data');
    await client(a, [traffic, 'rr', ADDRESSES[1], PORT, '2000']);
    samples.rr.push(await client(a, [traffic, 'rr', ADDRESSES[1], PORT, '20000']));
    samples.stream.push(await client(a, [traffic, 'stream', ADDRESSES[1], PORT, '700']));
  } finally {
    server.kill('SIGKILL');
    await once(server, 'close');
  }
}

const attach = {
  routed(rtnl: Rtnetlink, pod: NetworkNamespace, i: number): void {
    const link = { containerId: `c${i}`, ifname: 'eth0', addresses: [ADDRESSES[i]!] };
    const peer = { name: 'eth0', mac: podMac(link.addresses), netns: pod };
    const device = rtnl.createVeth({ name: `pod${i}`, mac: HOST_MAC, peer });
    apply(rtnl, hostSidePreparation(link, device, 'bench'));
    using podRtnl = Rtnetlink.open(pod);
    apply(podRtnl, podSideOperations(link));
    apply(rtnl, hostSideActivation(link, device, []));
  },
  bridge(rtnl: Rtnetlink, pod: NetworkNamespace, i: number): void {
    rtnl.createVeth({ name: `pod${i}`, master: 'br', up: true, peer: { name: 'eth0', netns: pod } });
    using podRtnl = Rtnetlink.open(pod);
    apply(podRtnl, [
      { op: 'setLink', device: 'lo', changes: { up: true } },
      { op: 'setLink', device: 'eth0', changes: { up: true } },
      { op: 'addAddress', address: { device: 'eth0', address: `${ADDRESSES[i]}/24` } },
      { op: 'addRoute', route: { destination: '0.0.0.0/0', via: '10.98.0.1', device: 'eth0' } },
    ]);
  },
};

function attachBare(a: NetworkNamespace, b: NetworkNamespace): void {
  using rtnlA = Rtnetlink.open(a);
  using rtnlB = Rtnetlink.open(b);
  rtnlA.createVeth({ name: 'eth0', up: true, peer: { name: 'eth0', netns: b, up: true } });
  rtnlA.addAddress({ device: 'eth0', address: `${ADDRESSES[0]}/24` });
  rtnlB.addAddress({ device: 'eth0', address: `${ADDRESSES[1]}/24` });
}

function apply(rtnl: Rtnetlink, operations: readonly Operation[]): void {
  const [failure] = rtnl.transaction(operations);
  if (failure) throw failure.error;
}

function timed(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

function start(ns: NetworkNamespace, argv: readonly [string, ...string[]]): ChildProcess {
  return ns.run(() => spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'], timeout: 60_000 }));
}

/** Runs a client to its end and returns the number that it printed. */
async function client(ns: NetworkNamespace, argv: readonly [string, ...string[]]): Promise<number> {
  const child = start(ns, argv);
  let output = '';
  child.stdout!.on('data', (chunk) => {
    output += chunk;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${argv.slice(1).join(' ')} failed`);
  return Number(output);
}
