/** `podwire policy drops`: the packets that policies denied, from the sockets of all nodes' agents. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import colors from 'picocolors';
import { messageOf, UserError } from '../base/errors.ts';
import { hostPort } from '../base/ip.ts';
import { Cluster } from '../cluster/cluster.ts';
import { requireRoot } from '../cluster/requirements.ts';
import type { Drop, DropEnd } from '../node/policy/drops.ts';
import { DROPS_SOCKET } from './policy-socket.ts';

export interface DropsOptions {
  readonly name: string;
  readonly output: string;
  readonly follow?: boolean;
  readonly namespace?: string;
}

export async function policyDrops(options: DropsOptions): Promise<void> {
  requireRoot("reading the nodes' sockets");
  const cluster = Cluster.open(options.name);
  cluster.client.close();
  const interrupt = new AbortController();
  const stop = () => interrupt.abort();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const show = (drop: Drop) => {
    if (options.namespace === undefined || concerns(drop, options.namespace)) print(drop, options.output);
  };
  const nodes = cluster.nodes.map((node) => ({
    node,
    path: join(dirname(cluster.paths.node(node).cniSocket), DROPS_SOCKET),
  }));
  if (options.follow && options.output === 'table') process.stderr.write('denied packets; Ctrl-C ends\n');
  const past = await Promise.all(nodes.map(({ node, path }) => readNode(node, path, options, interrupt.signal, show)));
  if (!options.follow) {
    const all = past.flat().sort((a, b) => (a.time < b.time ? -1 : 1));
    for (const drop of all) show(drop);
    if (all.length === 0 && options.output === 'table') process.stdout.write('no packet was denied\n');
  }
}

/** Without --follow resolves with the past drops; with it shows all as they come, until the signal. */
async function readNode(
  node: string,
  path: string,
  { follow }: DropsOptions,
  signal: AbortSignal,
  show: (drop: Drop) => void,
): Promise<Drop[]> {
  const socket = await open(node, path);
  const end = () => socket.destroy();
  signal.addEventListener('abort', end, { once: true });
  const past: Drop[] = [];
  try {
    const lines = createInterface({ input: socket });
    // A socket that is destroyed has no end that the lines could see.
    socket.once('close', () => lines.close());
    for await (const line of lines) {
      const value = JSON.parse(line) as Drop | { live: true };
      if (follow && !('live' in value)) show(value);
      else if ('live' in value && !follow) break;
      else if (!('live' in value)) past.push(value);
    }
    if (follow && !signal.aborted) process.stderr.write(colors.yellow(`${node}: its agent ended\n`));
    return past;
  } finally {
    socket.destroy();
  }
}

async function open(node: string, path: string): Promise<Socket> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return socket;
  } catch (error) {
    throw new UserError(`the agent of ${node} does not answer: ${messageOf(error)}`, { hint: 'see: podwire status' });
  }
}

function concerns({ source, destination }: Drop, namespace: string): boolean {
  return [source, destination].some(({ pod }) => pod?.startsWith(`${namespace}/`));
}

function print(drop: Drop, output: string): void {
  process.stdout.write(output === 'json' ? `${JSON.stringify(drop)}\n` : `${dropText(drop)}\n`);
}

function dropText({ time, node, direction, protocol, source, destination, policies, note }: Drop): string {
  const by = policies.length ? colors.red(policies.join(', ')) : colors.yellow(note ?? 'nobody');
  const clock = colors.dim(`${time.slice(11, 23)} ${node}`);
  return `${clock}  ${direction.padEnd(7)}  ${endText(source)} -> ${endText(destination)} ${protocol}  by ${by}`;
}

function endText({ address, port, pod }: DropEnd): string {
  const where = port === undefined ? address : hostPort(address, port);
  return pod ? `${colors.bold(pod)} (${where})` : where;
}
