/**
 * From a write at podwire's API server to the kernel, for podwire's agent and the real kube-proxy alike: the same API server
 * and Services, the same start and end of the clock, one after the other, each in a namespace of its own.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NetworkNamespace } from '../../../src/linux/netns.ts';
import { ConnectLab, type Programs, SERVERS } from '../connect-lab.ts';
import { ApiUnderTest } from './api.ts';
import { Commits } from './commits.ts';
import { nameOf, renderConfiguration } from './kube-proxy.ts';
import { clusterIp, NODE } from './objects.ts';
import type { BenchProcess } from './processes.ts';
import { type RunningProxy, startAgent, startKubeProxy } from './proxies.ts';

const LONE_CHANGES = 6;
/** Between two lone changes, in milliseconds: more than kube-proxy's least time between two syncs by default. */
const LONE_REST_MS = 1200;
const STREAM_CHANGES = 30;
const STREAM_REST_MS = 250;
const CHURN_MS = 10_000;
/** Bytes of a listed map. */
const MOST_LISTED = 1 << 26;
const LONGEST_MS = 120_000;
/** The least that kube-proxy's configuration takes; 0 means its default. */
export const SHORTEST_SYNC_MS = 1;

export interface Changes {
  /** From the write to the kernel's new generation, in milliseconds. */
  readonly ms: readonly number[];
  /** Processor time of one of them, in milliseconds. */
  readonly cpuMs: number;
}

export interface Churn {
  readonly written: number;
  /** From the first write to the last commit. */
  readonly perSecond: number;
  /** Of one change, in milliseconds. */
  readonly cpuMs: number;
}

export interface FromApi {
  /** From the start of its process to all in the kernel, in milliseconds. */
  readonly loadMs: number;
  /** Of this the sync alone, when everything was read. */
  readonly syncMs: number;
  readonly loadCpuMs: number;
  /** One after the other, with a rest between. */
  readonly lone: Changes;
  /** Four a second, whatever became of those before. */
  readonly stream: Changes;
  readonly churn: Churn;
  /** Microseconds above a direct connect. */
  readonly connect: readonly number[];
}

export interface Compared {
  /** "kube-proxy v1.36.3, nftables by nft 1.0.6" */
  readonly peer: string;
  readonly podwire: FromApi;
  readonly kubeProxy: FromApi;
  /** The stream under a kube-proxy with the least time between syncs that it takes, in a new namespace. */
  readonly hasty: Changes;
}

/** Starts both, one after the other, over the same API server; `program` is a kube-proxy. */
export async function compareFromApi(
  program: string,
  folder: string,
  programs: Programs,
  count: number,
): Promise<Compared> {
  const peer = await nameOf(program);
  using own = new ConnectLab(programs);
  using other = new ConnectLab(programs);
  using third = new ConnectLab(programs);
  const labs = [own, other, third];
  await Promise.all(labs.map((lab) => lab.serve()));
  const nodes = labs.map((lab) => lab.node);
  await using api = await ApiUnderTest.start(folder, nodes, count, SERVERS);
  const podwire = await measureAgent(own, api, api.kubeconfigs[0]!, count);
  const start = (lab: ConnectLab, minSyncMs?: number) => {
    const kubeconfig = api.kubeconfigs[labs.indexOf(lab)]!;
    const path = join(folder, 'kube-proxy.yaml');
    writeFileSync(path, renderConfiguration({ kubeconfig, nodeName: NODE, minSyncMs }));
    return startKubeProxy(program, path, lab, count);
  };
  const kubeProxy = await measureKubeProxy(other, api, () => start(other), count);
  await using again = await start(third, SHORTEST_SYNC_MS);
  const hasty = await measureStream(third.node, api, again);
  return { peer, podwire, kubeProxy, hasty };
}

async function measureAgent(lab: ConnectLab, api: ApiUnderTest, kubeconfig: string, count: number): Promise<FromApi> {
  await using proxy = await startAgent(kubeconfig, lab, count);
  requireAll(lab.node, ['ip', 'podwire-services', 'services'], count);
  return await measureRunning(lab, api, proxy, count);
}

async function measureKubeProxy(
  lab: ConnectLab,
  api: ApiUnderTest,
  start: () => Promise<RunningProxy>,
  count: number,
): Promise<FromApi> {
  await using proxy = await start();
  requireAll(lab.node, ['ip', 'kube-proxy', 'service-ips'], count);
  return await measureRunning(lab, api, proxy, count);
}

async function measureRunning(
  lab: ConnectLab,
  api: ApiUnderTest,
  proxy: RunningProxy,
  count: number,
): Promise<FromApi> {
  const { loadMs, syncMs, loadCpuMs } = proxy;
  lab.measure(clusterIp(count - 1));
  const connect = lab.measure(clusterIp(count - 1));
  const lone = await measureLone(lab.node, api, proxy);
  const stream = await measureStream(lab.node, api, proxy);
  const churn = await measureChurn(lab.node, api, proxy);
  return { loadMs, syncMs, loadCpuMs, lone, stream, churn, connect };
}

/** Throws unless the map of the frontends has all of them; "kubernetes", which leads to the API server, is one more. */
function requireAll(ns: NetworkNamespace, map: readonly string[], count: number): void {
  const list = () => execFileSync('nft', ['list', 'map', ...map], { encoding: 'utf8', maxBuffer: MOST_LISTED });
  const found = ns.run(list).match(/10\.\d+\.\d+\.\d+ \. tcp \. \d+/g)?.length ?? 0;
  if (found !== count + 1) throw new Error(`${found} of ${count + 1} frontends are in ${map.join(' ')}`);
}

async function measureLone(ns: NetworkNamespace, api: ApiUnderTest, proxy: RunningProxy): Promise<Changes> {
  using commits = new Commits(ns);
  const before = proxy.process.cpuMs;
  const ms: number[] = [];
  for (let i = 0; i < LONE_CHANGES; i++) {
    await sleep(LONE_REST_MS);
    ms.push(await timeChange(commits, api, proxy));
  }
  return { ms, cpuMs: (proxy.process.cpuMs - before) / LONE_CHANGES };
}

async function measureStream(ns: NetworkNamespace, api: ApiUnderTest, proxy: RunningProxy): Promise<Changes> {
  using commits = new Commits(ns);
  const before = proxy.process.cpuMs;
  const running: Promise<number>[] = [];
  for (let i = 0; i < STREAM_CHANGES; i++) {
    await sleep(STREAM_REST_MS);
    running.push(timeChange(commits, api, proxy));
  }
  const ms = await Promise.all(running);
  return { ms, cpuMs: (proxy.process.cpuMs - before) / STREAM_CHANGES };
}

async function timeChange(commits: Commits, api: ApiUnderTest, { process }: RunningProxy): Promise<number> {
  const { address, write } = api.next();
  const seen = inTime(commits.bringing(address), process);
  const began = performance.now();
  const [at] = await Promise.all([seen, write()]);
  if (at === undefined) throw new Error('the kernel lost what it had to tell of a change');
  return at - began;
}

/** A last change marks the end: watches keep the order. Where the kernel could not tell of so much at once, another one. */
async function measureChurn(ns: NetworkNamespace, api: ApiUnderTest, { process }: RunningProxy): Promise<Churn> {
  const cpuBefore = process.cpuMs;
  const began = performance.now();
  const written = await api.churn(CHURN_MS);
  using commits = new Commits(ns);
  let ended: number | undefined;
  while (ended === undefined) {
    const { address, write } = api.next();
    [ended] = await Promise.all([inTime(commits.bringing(address), process), write()]);
  }
  const perSecond = (written * 1000) / (ended - began);
  return { written, perSecond, cpuMs: (process.cpuMs - cpuBefore) / written };
}

async function inTime<T>(promise: Promise<T>, process: BenchProcess): Promise<T> {
  const done = new AbortController();
  const late = sleep(LONGEST_MS, undefined, { signal: done.signal }).then(() => {
    throw new Error(`a change was not in the kernel within ${LONGEST_MS} ms: ${process.complaints}`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late, process.failed()]);
  } finally {
    done.abort();
  }
}
