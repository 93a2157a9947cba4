/**
 * cni.add, cni.add_100, cni.del: what attaching a pod costs as a runtime sees it, from fork to exit of the plugin; against
 * Debian's bridge + host-local, both with IPv4. `cni.add_dual` is podwire with both families (the bridge plugin waits a
 * second there, for duplicate address detection).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkedCommand, runCommand } from '../src/base/command.ts';
import { NetworkNamespace } from '../src/linux/netns.ts';
import { Rtnetlink } from '../src/linux/rtnetlink.ts';
import { writeSysctl } from '../src/linux/sysctl.ts';
import { buildShim, installShim } from '../src/node/cni/build.ts';
import { distribution, type Metrics } from './metrics.ts';

export const about = 'CNI ADD and DEL of a pod, one by one and 100 at once; peer: bridge + host-local';

const PODS = 100;
const ROUNDS = 5;
const PACKAGE = 'containernetworking-plugins';
const AGENT = join(import.meta.dirname, '../test/netns/cni-agent.ts');

interface Timings {
  readonly add: number[];
  readonly addAll: number[];
  readonly del: number[];
}

interface Plugin {
  readonly path: string;
  readonly config: object;
}

export async function run(): Promise<Metrics> {
  const folder = mkdtempSync(join(tmpdir(), 'podwire-bench-cni-'));
  try {
    await checkedCommand(['gcc', '-O2', '-o', join(folder, 'execute'), join(import.meta.dirname, 'cni/execute.c')]);
    await buildShim(join(folder, 'shim'));
    installShim(join(folder, 'shim'), join(folder, 'bin'));
    const plugins = await peerPlugins(folder);
    const peer = plugins ? await measure(folder, 'peer', bridge(folder, plugins)) : undefined;
    const podwire = await measurePodwire(folder, '10.99.0.0/24');
    const dual = await measurePodwire(folder, '10.99.0.0/24,fd00:99::/64');
    return metrics(podwire, dual, peer);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function metrics(podwire: Timings, dual: Timings, peer: Timings | undefined): Metrics {
  const row = (name: keyof Timings) => ({
    unit: 'ms',
    podwire: distribution(podwire[name]),
    ...(peer
      ? { peer: { name: 'bridge + host-local', ...distribution(peer[name]) } }
      : { note: `no peer: the package ${PACKAGE} cannot be had` }),
  });
  return {
    'cni.add': row('add'),
    'cni.add_100': row('addAll'),
    'cni.del': row('del'),
    'cni.add_dual': { unit: 'ms', podwire: distribution(dual.add) },
  };
}

/** The agent in a process of its own, as on a node. */
async function measurePodwire(folder: string, podCidrs: string): Promise<Timings> {
  const socket = join(folder, 'cni.sock');
  const config = { cniVersion: '1.0.0', name: 'podwire', type: 'podwire', socket };
  return await measure(folder, 'podwire', { path: join(folder, 'bin/podwire'), config }, async (node) => {
    rmSync(join(folder, 'ipam'), { force: true });
    const env = { ...process.env, PODWIRE_LOG: 'silent' };
    const argv = [AGENT, join(folder, 'ipam'), socket, podCidrs];
    const child = node.run(() => spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'], env }));
    await once(child.stdout!, 'data');
    child.stdout!.resume();
    return child;
  });
}

function bridge(folder: string, plugins: string): Plugin {
  const ranges = [[{ subnet: '10.99.0.0/24' }]];
  const ipam = { type: 'host-local', ranges, dataDir: join(folder, 'host-local'), routes: [{ dst: '0.0.0.0/0' }] };
  const config = { cniVersion: '1.0.0', name: 'bench', type: 'bridge', bridge: 'cni0', isGateway: true, ipam };
  return { path: join(plugins, 'bridge'), config };
}

async function measure(
  folder: string,
  name: string,
  plugin: Plugin,
  startAgent?: (node: NetworkNamespace) => Promise<ChildProcess>,
): Promise<Timings> {
  const configPath = join(folder, `${name}.json`);
  writeFileSync(configPath, JSON.stringify(plugin.config));
  const pods = join(folder, 'pods');
  mkdirSync(pods, { recursive: true });
  const node = NetworkNamespace.create(join(folder, 'node'));
  const paths = Array.from({ length: PODS }, (_, i) => join(pods, String(i)));
  for (const path of paths) NetworkNamespace.create(path).close();
  const agent = await startAgent?.(node);
  try {
    writeSysctl(node, 'net.ipv4.ip_forward', 1);
    const execute = async (command: string, count: number, how: 'one' | 'all'): Promise<number[]> => {
      const argv = [join(folder, 'execute'), plugin.path, configPath, pods, command, String(count), how] as const;
      return (await inside(node, argv))
        .trim()
        .split('\n')
        .map((line) => Number(line) / 1000);
    };
    const result: Timings = { add: [], addAll: [], del: [] };
    // Warm-up: the first calls pay for what is loaded once.
    await execute('ADD', 10, 'one');
    await execute('DEL', 10, 'one');
    for (let round = 0; round < ROUNDS; round++) {
      result.add.push(...(await execute('ADD', 30, 'one')));
      result.del.push(...(await execute('DEL', 30, 'one')));
      result.addAll.push(...(await execute('ADD', PODS, 'all')));
      await execute('DEL', PODS, 'all');
    }
    return result;
  } finally {
    if (agent) {
      agent.kill('SIGKILL');
      await once(agent, 'close');
    }
    removeLinks(node);
    node.close();
    NetworkNamespace.delete(join(folder, 'node'));
    for (const path of paths) NetworkNamespace.delete(path);
  }
}

/** The namespace dies with its last handle; its bridge would keep nothing alive, but be thorough. */
function removeLinks(node: NetworkNamespace): void {
  using rtnl = Rtnetlink.open(node);
  for (const { ifindex, kind } of rtnl.links()) if (kind !== undefined) rtnl.ensureNoLink(ifindex);
}

async function inside(node: NetworkNamespace, argv: readonly [string, ...string[]]): Promise<string> {
  const child = node.run(() => spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], timeout: 120_000 }));
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${argv.slice(1).join(' ')}: ${errors}`);
  return output;
}

/** The folder of Debian's CNI plugins: installed, or fetched into `folder` and unpacked; undefined when neither works. */
async function peerPlugins(folder: string): Promise<string | undefined> {
  const installed = ['/usr/lib/cni', '/opt/cni/bin'].find((path) => existsSync(join(path, 'host-local')));
  if (installed) return installed;
  const target = join(folder, 'peer');
  mkdirSync(target);
  const fetched = await runCommand(['apt-get', 'download', PACKAGE], { cwd: target, timeoutMs: 60_000 });
  if (fetched.exitCode !== 0) return undefined;
  await checkedCommand(['sh', '-c', 'dpkg -x *.deb .'], { cwd: target });
  return join(target, 'usr/lib/cni');
}
