/** `podwire status`: the clusters of this machine. */
import colors from 'picocolors';
import { UserError } from '../base/errors.ts';
import { Cluster } from '../cluster/cluster.ts';
import { findDescription } from '../cluster/description.ts';
import { checkName, clusterPaths } from '../cluster/paths.ts';
import { recordedProcesses } from '../cluster/process-table.ts';
import { DEFAULT_PROXY_MODE, type ProxyMode } from '../cluster/proxy-mode.ts';
import { existingClusters } from '../cluster/teardown.ts';
import { isReady } from '../kube/conditions.ts';
import { internalAddresses } from '../kube/node-addresses.ts';
import { printJson, renderTable } from './terminal.ts';

interface NodeStatus {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly podCIDRs: readonly string[];
  readonly ready: boolean;
}

interface ClusterStatus {
  readonly name: string;
  /** running: supervised and its API answers; degraded: something is missing; broken: nothing of it can be read. */
  readonly state: 'running' | 'degraded' | 'broken';
  readonly context?: string;
  readonly server?: string;
  readonly ipFamily?: string;
  readonly proxy?: ProxyMode;
  readonly createdAt?: string;
  readonly nodes: readonly NodeStatus[];
  readonly pods: number;
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
}

export async function status(options: { name?: string; output: string }): Promise<void> {
  const names = existingClusters();
  if (options.name !== undefined && !names.includes(checkName(options.name))) {
    throw new UserError(`there is no cluster named ${JSON.stringify(options.name)}`, { hint: 'podwire up starts one' });
  }
  const statuses = await Promise.all((options.name ? [options.name] : names).map(statusOf));
  if (options.output === 'json') return printJson(statuses);
  if (statuses.length === 0) return void process.stdout.write('no clusters; podwire up starts one\n');
  for (const one of statuses) print(one);
}

async function statusOf(name: string): Promise<ClusterStatus> {
  const processes = recordedProcesses(clusterPaths(name));
  const description = readDescriptionIfAny(name);
  if (!description) return { name, state: 'broken', nodes: [], pods: 0, processes };
  const supervised = processes.some((one) => one.name === 'supervisor');
  const live = await ask(name);
  return {
    name,
    state: live && supervised && live.nodes.every((node) => node.ready) ? 'running' : 'degraded',
    context: `podwire-${name}`,
    server: `https://127.0.0.1:${description.apiPort}`,
    ipFamily: description.ipFamily,
    proxy: description.proxy ?? DEFAULT_PROXY_MODE,
    createdAt: description.createdAt,
    nodes: live?.nodes ?? description.nodes.map((node) => ({ ...node, podCIDRs: [], ready: false })),
    pods: live?.pods ?? 0,
    processes,
  };
}

function readDescriptionIfAny(name: string) {
  try {
    return findDescription(name);
  } catch {
    return undefined;
  }
}

async function ask(name: string): Promise<{ nodes: NodeStatus[]; pods: number } | undefined> {
  try {
    const { client } = Cluster.open(name);
    const [nodes, pods] = await Promise.all([client.list('Node'), client.list('Pod')]);
    client.close();
    return {
      pods: pods.items.length,
      nodes: nodes.items.map((node) => ({
        name: node.metadata.name,
        addresses: internalAddresses(node),
        podCIDRs: node.spec.podCIDRs ?? [],
        ready: isReady(node),
      })),
    };
  } catch {
    return undefined;
  }
}

function print(one: ClusterStatus): void {
  const paint = { running: colors.green, degraded: colors.yellow, broken: colors.red }[one.state];
  const lines = [
    `${colors.bold(one.name)}  ${paint(one.state)}  ${one.server ?? ''}  context ${one.context ?? '-'}  proxy ${one.proxy ?? '-'}  ${one.pods} pods`,
  ];
  const rows = one.nodes.map((node) => [
    node.name,
    node.ready ? 'Ready' : 'NotReady',
    node.addresses.join(','),
    node.podCIDRs.join(','),
    one.processes
      .filter((process) => process.name.startsWith(`${node.name}-`))
      .map((process) => `${process.name.slice(node.name.length + 1)}:${process.pid}`)
      .join(' '),
  ]);
  lines.push(renderTable(['NODE', 'STATUS', 'ADDRESSES', 'POD CIDRS', 'PROCESSES'], rows));
  if (one.state !== 'running') lines.push(colors.dim(`podwire down --name ${one.name} removes it`));
  process.stdout.write(`${lines.join('\n')}\n\n`);
}
