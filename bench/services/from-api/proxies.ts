/** podwire's agent and kube-proxy, started in a node's namespace: until every Service is in its kernel. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConnectLab } from '../connect-lab.ts';
import type { StartedAgent } from './agent.ts';
import { commandOf, type SyncCounts, syncCounts } from './kube-proxy.ts';
import { clusterIp, NODE } from './objects.ts';
import { BenchProcess } from './processes.ts';

const LONGEST_LOAD_MS = 180_000;
/** Between two looks: the resolution of the figures. */
const LOOK_MS = 2;
const METRICS_LOOK_MS = 100;

/** One that has everything in force; the times are in milliseconds, as in `FromApi`. */
export interface RunningProxy extends AsyncDisposable {
  readonly process: BenchProcess;
  readonly loadMs: number;
  readonly syncMs: number;
  readonly loadCpuMs: number;
}

export async function startAgent(kubeconfig: string, lab: ConnectLab, count: number): Promise<RunningProxy> {
  const began = performance.now();
  const process = BenchProcess.module('agent.ts', [kubeconfig, NODE], lab.node);
  return started(process, async () => {
    const { syncMs } = await process.said<StartedAgent>();
    await untilServed(process, lab, count);
    return { loadMs: performance.now() - began, syncMs, loadCpuMs: process.cpuMs };
  });
}

/** Its first sync is one transaction: when the last Service leads somewhere, so do all. */
export async function startKubeProxy(
  program: string,
  configuration: string,
  lab: ConnectLab,
  count: number,
): Promise<RunningProxy> {
  const began = performance.now();
  const process = new BenchProcess(commandOf(program, configuration), lab.node);
  return started(process, async () => {
    await untilServed(process, lab, count);
    const loadMs = performance.now() - began;
    const { fullMs, full } = await firstSync(process, lab);
    return { loadMs, syncMs: fullMs / full, loadCpuMs: process.cpuMs };
  });
}

async function started(
  process: BenchProcess,
  work: () => Promise<Omit<RunningProxy, 'process' | symbol>>,
): Promise<RunningProxy> {
  try {
    const times = await work();
    return { ...times, process, [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() } as RunningProxy;
  } catch (error) {
    await process[Symbol.asyncDispose]();
    throw error;
  }
}

async function untilServed(process: BenchProcess, lab: ConnectLab, count: number): Promise<void> {
  const until = performance.now() + LONGEST_LOAD_MS;
  while (!lab.reaches(clusterIp(count - 1))) {
    process.check();
    if (performance.now() > until) throw new Error(`the Services were not served in time: ${process.complaints}`);
    await sleep(LOOK_MS);
  }
}

async function firstSync(process: BenchProcess, lab: ConnectLab): Promise<SyncCounts> {
  for (;;) {
    const counts = await syncCounts(lab.node);
    if (counts && counts.full > 0) return counts;
    process.check();
    await sleep(METRICS_LOOK_MS);
  }
}
