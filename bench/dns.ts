/**
 * DNS: answers per second of the server's CPU time under full load, latency at 10,000 queries a second, memory with 10,000
 * Services. Loader and servers are processes of their own on 127.0.0.1; CPU time and memory are the server's alone
 * (/proc/PID/stat, VmRSS), so a loader that is slower than the server does not change the figure.
 *
 * Peers: unbound with the same names as local data (the ceiling: a resolver in C that looks nothing up elsewhere), from
 * Debian's package or PODWIRE_UNBOUND; CoreDNS with its kubernetes plugin, where PODWIRE_COREDNS names the program.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LoadOptions, LoadResult } from './dns/loader.ts';
import {
  findProgram,
  type MeasuredServer,
  startCoreDns,
  startPodwire,
  startSockets,
  startUnbound,
} from './dns/servers.ts';
import { distribution, type Metric, type Metrics } from './metrics.ts';

export const about = 'DNS: answers per CPU-second, latency at 10k queries/s, memory with 10k Services';

const ROUNDS = 5;
const SECONDS = 2;
const RATE = 10_000;
/** USER_HZ, the unit of CPU time in /proc (man 5 proc); 100 on all Linux of today. */
const TICKS_PER_SECOND = 100;
const CHANGES_PER_SECOND = 20;

interface Measured {
  readonly perCpuSecond: number[];
  /** Percentiles of each round, milliseconds. */
  readonly p50: number[];
  readonly p99: number[];
  /** MB, after the load. */
  readonly memory: number[];
}

export async function run(): Promise<Metrics> {
  await using stack = new AsyncDisposableStack();
  const servers = new Map<string, MeasuredServer>();
  for (const [name, start] of startable()) servers.set(name, stack.use(await start()));
  const measured = await measureInTurn(servers);
  const podwire = measured.get('podwire')!;
  const metrics: Metrics = {};
  for (const peer of ['unbound', 'CoreDNS']) {
    const other = measured.get(peer);
    if (!other && peer !== 'unbound') continue;
    const suffix = peer === 'unbound' ? '' : `.${peer.toLowerCase()}`;
    const add = (id: string, metric: Pick<Metric, 'unit' | 'moreIsBetter'>, samples: (of: Measured) => number[]) => {
      const against = other
        ? { peer: { name: peer, ...distribution(samples(other)) } }
        : { note: 'unbound is not on this machine (apt-get install unbound, or PODWIRE_UNBOUND)' };
      metrics[`dns.${id}${suffix}`] = { ...metric, podwire: distribution(samples(podwire)), ...against };
    };
    add('answers_per_cpu_second', { unit: 'answers/s', moreIsBetter: true }, (of) => of.perCpuSecond);
    add('p50_at_10k', { unit: 'ms' }, (of) => of.p50);
    add('p99_at_10k', { unit: 'ms' }, (of) => of.p99);
    add('memory', { unit: 'MB' }, (of) => of.memory);
  }
  metrics['dns.answers_per_cpu_second.changing'] = {
    unit: 'answers/s',
    moreIsBetter: true,
    podwire: distribution(measured.get('changing')!.perCpuSecond),
    note: `while a Service changes ${CHANGES_PER_SECOND} times a second and the cache forgets everything each time`,
  };
  metrics['dns.sockets.answers_per_cpu_second'] = {
    unit: 'answers/s',
    moreIsBetter: true,
    podwire: distribution(measured.get('batch')!.perCpuSecond),
    peer: { name: 'node:dgram', ...distribution(measured.get('dgram')!.perCpuSecond) },
    note: "nothing but the sockets: recvmmsg and sendmmsg by FFI against Node's own",
  };
  return metrics;
}

/** What this machine has. */
function startable(): [string, () => Promise<MeasuredServer>][] {
  const unbound = findProgram('PODWIRE_UNBOUND', 'unbound');
  const coreDns = findProgram('PODWIRE_COREDNS', 'coredns');
  return [
    ['podwire', () => startPodwire()],
    ['changing', () => startPodwire(CHANGES_PER_SECOND)],
    ['batch', () => startSockets('batch')],
    ['dgram', () => startSockets('dgram')],
    ...(unbound ? [['unbound', () => startUnbound(unbound)] as [string, () => Promise<MeasuredServer>]] : []),
    ...(coreDns ? [['CoreDNS', () => startCoreDns(coreDns)] as [string, () => Promise<MeasuredServer>]] : []),
  ];
}

/** One after the other in each round, so that what else the machine does meets all of them. */
async function measureInTurn(servers: ReadonlyMap<string, MeasuredServer>): Promise<Map<string, Measured>> {
  const measured = new Map<string, Measured>();
  for (let round = -1; round < ROUNDS; round++) {
    for (const [name, server] of servers) {
      const one = measured.get(name) ?? { perCpuSecond: [], p50: [], p99: [], memory: [] };
      // The first round warms up.
      if (round >= 0) await measure(server, one);
      else await load({ port: server.port, seconds: 1 });
      measured.set(name, one);
    }
  }
  return measured;
}

async function measure({ pid, port }: MeasuredServer, into: Measured): Promise<void> {
  const before = cpuSeconds(pid);
  const { answers } = await load({ port, seconds: SECONDS });
  into.perCpuSecond.push(answers / (cpuSeconds(pid) - before));
  const { p50, p99 } = distribution((await load({ port, seconds: SECONDS, rate: RATE })).latencies);
  into.p50.push(p50);
  into.p99.push(p99!);
  into.memory.push(residentMegabytes(pid));
}

async function load(options: LoadOptions): Promise<LoadResult> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(import.meta.dirname, 'dns/loader.ts'), JSON.stringify(options)],
    { timeout: 30_000, maxBuffer: 64 << 20 },
  );
  const result = JSON.parse(stdout) as LoadResult;
  if (result.answers === 0 || result.wrong > 0) {
    throw new Error(`the server answered badly: ${result.answers} answers, ${result.wrong} of them wrong`);
  }
  return result;
}

/** User and system time of a process. */
function cpuSeconds(pid: number): number {
  // The fields behind the name in parentheses; utime and stime are the 14th and 15th of all.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function residentMegabytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}
