/** `podwire policy …`: what policies do to packets of a running cluster, for people. */
import colors from 'picocolors';
import { UserError } from '../base/errors.ts';
import { hostPort } from '../base/ip.ts';
import { Cluster } from '../cluster/cluster.ts';
import { familiesOf } from '../cluster/description.ts';
import { probeUdp } from '../cluster/probe-udp.ts';
import { requireRoot } from '../cluster/requirements.ts';
import { outsideAddresses } from '../cluster/underlay.ts';
import { type CheckedPair, type CheckResult, check } from '../insight/policy/check.ts';
import { parseDestination, parseSource, type TransportProtocol } from '../insight/policy/endpoints.ts';
import {
  computeMatrix,
  differs,
  type Matrix,
  type MatrixCell,
  type MatrixPod,
  type Measured,
} from '../insight/policy/matrix.ts';
import { reasonText } from '../insight/policy/reason-text.ts';
import type { PolicySnapshot } from '../insight/policy/snapshot.ts';
import { printJson } from './terminal.ts';

interface Common {
  readonly name: string;
  readonly output: string;
}

/** Reads the live state through the API. */
export async function readSnapshot(cluster: Cluster): Promise<PolicySnapshot> {
  const { client } = cluster;
  const [pods, namespaces, policies, clusterPolicies, nodes, services, slices] = await Promise.all([
    client.list('Pod'),
    client.list('Namespace'),
    client.list('NetworkPolicy'),
    client.list('ClusterNetworkPolicy'),
    client.list('Node'),
    client.list('Service'),
    client.list('EndpointSlice'),
  ]);
  return {
    pods: pods.items,
    namespaces: namespaces.items,
    policies: policies.items,
    clusterPolicies: clusterPolicies.items,
    nodes: nodes.items,
    services: services.items,
    slices: slices.items,
    outside: outsideAddresses(familiesOf(cluster.description.ipFamily)),
  };
}

/** Exit code 0 when the answer is allow, 1 when anything is denied. */
export async function policyCheck(
  from: string,
  to: string,
  options: Common & { readonly namespace: string; readonly protocol: string },
): Promise<void> {
  const question = {
    from: parseSource(from, options.namespace),
    to: parseDestination(to, options.namespace),
    protocol: options.protocol.toUpperCase() as TransportProtocol,
  };
  const cluster = Cluster.open(options.name);
  try {
    const result = check(question, await readSnapshot(cluster));
    if (options.output === 'json') printJson(result);
    else printCheck(result);
    process.exitCode = result.verdict === 'allow' ? 0 : 1;
  } finally {
    cluster.client.close();
  }
}

function printCheck({ pairs }: CheckResult): void {
  for (const pair of pairs) process.stdout.write(`${checkText(pair)}\n`);
}

function checkText({ from, to, through, packet, verdict, suggestions }: CheckedPair): string {
  const { srcIp, dstIp, dport, protocol } = packet;
  const end = dport === undefined ? dstIp : hostPort(dstIp, dport);
  const about = `${from} (${srcIp}) -> ${through ? `${through} -> ` : ''}${to} (${end}) ${protocol}`;
  const reasons = verdict.reasons.map((reason) => {
    const side = reason.direction === 'egress' ? `egress of ${from}` : `ingress of ${to}`;
    return `  ${word(reason.verdict)}  ${side}: ${reasonText(reason)}`;
  });
  const would = verdict.verdict === 'allow' ? 'deny' : 'allow';
  const changes = suggestions.map(({ text, direction, changes: what }) => {
    const only = what === 'direction' ? colors.dim(` (opens ${direction} only; the other side denies too)`) : '';
    return `    - ${text}${only}`;
  });
  const list = changes.length ? [`  to ${would} it:`, ...changes] : [];
  return [`${word(verdict.verdict)}  ${about}`, ...reasons, ...list].join('\n');
}

function word(verdict: 'allow' | 'deny'): string {
  return verdict === 'allow' ? colors.green('allow') : colors.red('deny ');
}

export interface MatrixCommandOptions extends Common {
  readonly namespace?: string;
  readonly port?: number;
  readonly probe?: boolean;
  /** Default TCP; with `probe` TCP and UDP. */
  readonly protocol?: string;
}

/** Connections that are measured at once, and at most in all: each that is denied takes its whole time limit. */
const probesAtOnce = 32;
const mostProbes = 2500;
const probeTimeoutMs = 700;

/** Exit code 1 when what was measured differs from what was computed. */
export async function policyMatrix(options: MatrixCommandOptions): Promise<void> {
  const { namespace, port, probe = false } = options;
  const protocols = options.protocol
    ? [options.protocol.toUpperCase() as TransportProtocol]
    : (['TCP', 'UDP'] as const).slice(0, probe ? 2 : 1);
  if (probe) {
    requireRoot('connecting from the network namespaces of pods');
    if (protocols.includes('SCTP')) {
      throw new UserError('--probe knows TCP and UDP: this kernel may have no SCTP sockets', { exitCode: 2 });
    }
  }
  const cluster = Cluster.open(options.name);
  try {
    const computed = computeMatrix(await readSnapshot(cluster), { namespace, port, protocols, policyPorts: probe });
    const matrix = probe ? await measure(cluster, computed) : computed;
    const wrong = matrix.cells.filter(differs);
    if (options.output === 'json') printJson({ ...matrix, differences: wrong });
    else process.stdout.write(matrixText(matrix, wrong));
    if (wrong.length > 0) process.exitCode = 1;
  } finally {
    cluster.client.close();
  }
}

async function measure(cluster: Cluster, { pods, cells }: Matrix): Promise<Matrix> {
  if (cells.length > mostProbes) {
    throw new UserError(`${cells.length} connections are too many to measure; the limit is ${mostProbes}`, {
      hint: 'name a namespace with --namespace, a port with --port, or one protocol with --protocol',
    });
  }
  const measured: MatrixCell[] = [...cells];
  const queue = cells.entries();
  const worker = async () => {
    for (const [i, cell] of queue) measured[i] = { ...cell, measured: await measureCell(cluster, cell) };
  };
  await Promise.all(Array.from({ length: probesAtOnce }, worker));
  return { pods, cells: measured };
}

async function measureCell(cluster: Cluster, { from, to, dstIp, protocol, port }: MatrixCell): Promise<Measured> {
  const words = {
    connected: 'open',
    open: 'open',
    refused: 'closed',
    closed: 'closed',
    timeout: 'silent',
    unreachable: 'failed',
  } as const;
  if (protocol === 'UDP') {
    using source = await cluster.openNamespace({ pod: from });
    using target = await cluster.openNamespace({ pod: to });
    return words[await probeUdp({ from: source, to: target, address: dstIp, port, timeoutMs: probeTimeoutMs })];
  }
  const { outcome } = await cluster.connect({ pod: from }, hostPort(dstIp, port), { timeoutMs: probeTimeoutMs });
  return words[outcome];
}

/** Rows are sources, columns destinations; "." allowed, "X" denied, and in red what was measured otherwise. */
function matrixText({ pods, cells }: Matrix, wrong: readonly MatrixCell[]): string {
  if (pods.length === 0) return 'no running pods with addresses of their own\n';
  const byPair = Map.groupBy(cells, ({ from, to }) => `${from} ${to}`);
  const width = Math.max(...pods.map(({ key }) => key.length));
  const header = pods.map((_, i) => String(i + 1).padStart(4)).join('');
  const lines = pods.map((from, i) => {
    const marks = pods.map((to) => mark(byPair.get(`${from.key} ${to.key}`) ?? [])).join('');
    return `${String(i + 1).padStart(3)} ${from.key.padEnd(width)}${marks}  ${colors.dim(portsText(from.ports))}`;
  });
  const probed = cells.some(({ measured }) => measured !== undefined);
  const denied = cells.filter(({ computed }) => computed === 'deny').length;
  const summary = `${cells.length} connections, ${denied} denied`;
  const verdict = probed
    ? wrong.length
      ? colors.red(`, ${wrong.length} measured otherwise`)
      : ', all measured as computed'
    : '';
  const mixed = [...byPair.values()].flatMap(mixedText);
  const differences = wrong.map(({ from, to, dstIp, protocol, port, computed, measured }) =>
    colors.red(
      `  ${from} -> ${to} (${hostPort(dstIp, port)} ${protocol}): computed ${computed}, measured ${measured}\n`,
    ),
  );
  const legend = colors.dim(
    'from the rows to the columns, on the ports of the column: . allowed  X denied  / it depends  - no common family',
  );
  const title = colors.bold(`${' '.repeat(4 + width)}${header}`);
  return `${title}\n${lines.join('\n')}\n${legend}\n${mixed.join('')}${summary}${verdict}\n${differences.join('')}`;
}

/** ":80" for one TCP port, else "TCP 80,443 UDP 53". */
function portsText(ports: MatrixPod['ports']): string {
  const [only, more] = ports;
  if (only && !more && only.protocol === 'TCP') return `:${only.port}`;
  const byProtocol = Map.groupBy(ports, ({ protocol }) => protocol);
  return [...byProtocol].map(([protocol, some]) => `${protocol} ${some.map(({ port }) => port).join()}`).join(' ');
}

/** What is denied of a pair of which not everything is. */
function mixedText(cells: readonly MatrixCell[]): string[] {
  const denied = cells.filter(({ computed }) => computed === 'deny');
  if (denied.length === 0 || denied.length === cells.length) return [];
  const { from, to } = denied[0]!;
  const what = denied.map(({ protocol, dstIp, port }) => `${protocol} ${hostPort(dstIp, port)}`);
  return [colors.dim(`  ${from} / ${to}: denied ${what.join(', ')}\n`)];
}

/** One mark for all ports and families of a pair. */
function mark(cells: readonly MatrixCell[]): string {
  if (cells.length === 0) return '   -';
  const denied = cells.filter(({ computed }) => computed === 'deny').length;
  const text = denied === 0 ? '.' : denied === cells.length ? 'X' : '/';
  const bad = cells.some(differs);
  return `   ${bad ? colors.red(colors.inverse(text)) : denied ? colors.yellow(text) : colors.green(text)}`;
}
