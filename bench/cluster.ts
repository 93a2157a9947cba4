/**
 * cluster.start and cluster.memory: from nothing to three Ready nodes, to the first pod that answers through a Service, and
 * what the whole takes in memory when idle. Set-up (packages, images) is done before the clock starts.
 *
 * Peers: kind and k3s need Docker or a VM and are not on this machine; their published times are not measured here.
 */
import { readFileSync } from 'node:fs';
import { Cluster } from '../src/cluster/cluster.ts';
import { recordedProcesses } from '../src/cluster/process-table.ts';
import { distribution, type Metrics } from './metrics.ts';

export const about = 'a three-node cluster: start to Ready, first answer through a Service, memory';

const RUNS = 5;
/** Idle processes give memory back within this time. */
const SETTLE_MS = 20_000;

const MANIFESTS = `
apiVersion: v1
kind: Pod
metadata: { name: server, labels: { app: server } }
spec: { containers: [{ name: nginx, image: nginx }] }
---
apiVersion: v1
kind: Service
metadata: { name: server }
spec: { selector: { app: server }, ports: [{ port: 80 }] }
`;

export async function run(): Promise<Metrics> {
  const ready: number[] = [];
  const answered: number[] = [];
  const memory: Record<string, number[]> = {};
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now();
    await using cluster = await Cluster.start({ name: `bench-${process.pid}`, nodes: 3 });
    ready.push(performance.now() - start);
    await cluster.apply(MANIFESTS);
    while (
      (await cluster.connect({ node: 'node-1' }, 'service/server:80', { timeoutMs: 200 })).outcome !== 'connected'
    ) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    answered.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    for (const [role, megabytes] of Object.entries(memoryByRole(cluster))) {
      memory[role] = [...(memory[role] ?? []), megabytes];
    }
  }
  const note = 'no peer on this machine: kind and k3s need Docker or a VM';
  return {
    'cluster.start': { unit: 'ms', podwire: distribution(ready), note },
    'cluster.first_answer': { unit: 'ms', podwire: distribution(answered) },
    ...Object.fromEntries(
      Object.entries(memory).map(([role, values]) => [
        `cluster.memory.${role}`,
        { unit: 'MB', podwire: distribution(values) },
      ]),
    ),
  };
}

/** Resident memory in MB: of the server, of the largest agent, and proportional memory of everything supervised. */
function memoryByRole(cluster: Cluster): Record<string, number> {
  const processes = recordedProcesses(cluster.paths).filter((one) => one.name !== 'supervisor');
  const agents = processes.filter((one) => one.name.endsWith('-agent')).map((one) => rss(one.pid));
  return {
    server_rss: rss(processes.find((one) => one.name === 'server')!.pid),
    agent_rss: Math.max(...agents),
    total_pss: processes.reduce((sum, one) => sum + pss(one.pid), 0),
  };
}

function field(pid: number, file: string, name: string): number {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/${file}`, 'utf8'));
  return Number(match?.[1] ?? 0) / 1024;
}

const rss = (pid: number) => field(pid, 'status', 'VmRSS');
const pss = (pid: number) => field(pid, 'smaps_rollup', 'Pss');
