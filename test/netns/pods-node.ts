/**
 * A node for the tests of the pod workers: a real containerd with Debian's CNI bridge, an in-memory API, and the pod
 * manager. It must run in network, mount and PID namespaces of its own (`insideOwnNamespaces`), which take everything
 * down with them: no packet can leave, no process or mount can stay.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkedCommand } from '../../src/base/command.ts';
import { createLogger } from '../../src/base/log.ts';
import { OciLayout } from '../../src/cluster/images/layout.ts';
import { RootFilesystem } from '../../src/cluster/images/root-filesystem.ts';
import type { FakeClient } from '../../src/kube/fake-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import { isNotFound } from '../../src/kube/status.ts';
import type { Pod, PodSpec } from '../../src/kube/types.ts';
import { CriClient } from '../../src/node/pods/cri/client.ts';
import { ContainerdEvents } from '../../src/node/pods/cri/containerd-events.ts';
import { PodManager, type PodManagerOptions } from '../../src/node/pods/manager.ts';
import { nodeResources } from '../../src/node/pods/node-resources.ts';
import { ProcessMounts } from '../../src/node/pods/volumes/mounts.ts';

export const NODE_NAME = 'node-1';
/** Of the network namespace that the tests run in: what hostNetwork pods have. */
export const NODE_IP = '127.0.0.1';
const INSIDE = 'PODWIRE_TEST_INSIDE';
const PAUSE_IMAGE = 'podwire.test/pause:1';

/** Whether this process runs in the namespaces; if not, runs the test file again inside them and returns its exit code. */
export async function insideOwnNamespaces(file: string): Promise<true | { exitCode: number | null; output: string }> {
  if (process.env[INSIDE]) return true;
  const folder = mkdtempSync(join(tmpdir(), 'podwire-pods-'));
  const cgroup = `podwire-test-${process.pid}`;
  try {
    const child = spawn(
      'unshare',
      [
        '--net',
        '--mount',
        '--pid',
        '--fork',
        '--kill-child',
        '--mount-proc',
        process.execPath,
        '--test-reporter=spec',
        file,
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...cleanEnvironment(), [INSIDE]: folder, PODWIRE_TEST_CGROUP: cgroup },
      },
    );
    const output: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => output.push(chunk));
    const [exitCode] = (await once(child, 'close')) as [number | null];
    return { exitCode, output: Buffer.concat(output).toString() };
  } finally {
    await removeCgroups(cgroup);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Without what makes a nested test runner report to its parent instead of its output. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
  return environment;
}

/** Control groups outlive namespaces: removes the test's own, deepest first. */
async function removeCgroups(name: string): Promise<void> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const left = readdirSync('/sys/fs/cgroup').filter(
      (hierarchy) => !removeTree(join('/sys/fs/cgroup', hierarchy, name)),
    );
    if (!left.length) return;
    await sleep(50);
  }
}

function removeTree(path: string): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true }))
      if (entry.isDirectory()) removeTree(join(path, entry.name));
    rmdirSync(path);
    return true;
  } catch (error) {
    return ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');
  }
}

/** containerd with images busybox and pause, and a bridge network 10.244.7.0/`prefix`. */
export class TestRuntime {
  readonly folder: string;
  readonly socket: string;
  #process: ChildProcess | undefined;

  constructor(folder = process.env[INSIDE]!) {
    this.folder = folder;
    this.socket = join(folder, 'containerd.sock');
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Prepares the namespaces and starts containerd for the first time. */
  async setUp(prefix = 24): Promise<void> {
    await checkedCommand(['sh', '-c', PREPARE]);
    mkdirSync(join(this.folder, 'cni'), { recursive: true });
    writeFileSync(join(this.folder, 'cni/10-test.conflist'), renderNetwork(this.folder, prefix));
    writeFileSync(join(this.folder, 'containerd.toml'), renderConfig(this.folder, this.socket));
    await this.start();
    const archive = await buildImages(this.folder);
    await checkedCommand(['ctr', '-a', this.socket, '-n', 'k8s.io', 'images', 'import', archive]);
  }

  async start(): Promise<void> {
    const log = openSync(join(this.folder, 'containerd.log'), 'a');
    const config = join(this.folder, 'containerd.toml');
    this.#process = spawn('containerd', ['--config', config, '--log-level', 'warn'], { stdio: ['ignore', log, log] });
    await this.ready();
  }

  /** Until its CRI answers. */
  async ready(): Promise<void> {
    const cri = new CriClient(this.socket);
    try {
      for (let attempt = 0; ; attempt++) {
        try {
          await cri.version();
          return;
        } catch (error) {
          if (attempt > 200) throw error;
          await sleep(25);
        }
      }
    } finally {
      cri.close();
    }
  }

  async stop(): Promise<void> {
    const child = this.#process!;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }

  /** kill -9; pods and their shims stay. */
  async kill(): Promise<void> {
    const child = this.#process!;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
}

const PREPARE = `set -e
ip link set lo up
mount --make-rprivate /
awk '$3 == "cgroup2" && $2 != "/sys/fs/cgroup" { print $2 }' /proc/self/mounts | while read -r at; do umount "$at"; done
mount -t tmpfs tmpfs /run`;

function renderNetwork(folder: string, prefix: number): string {
  return JSON.stringify({
    cniVersion: '1.0.0',
    name: 'test',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        ipam: { type: 'host-local', dataDir: join(folder, 'ipam'), ranges: [[{ subnet: `10.244.7.0/${prefix}` }]] },
      },
    ],
  });
}

function renderConfig(folder: string, socket: string): string {
  const at = (name: string) => JSON.stringify(join(folder, name));
  return `version = 2
root = ${at('containerd')}
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = ${JSON.stringify(socket)}
[plugins."io.containerd.internal.v1.opt"]
  path = ${at('opt')}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "crun"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
        BinaryName = "crun"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = ${at('cni')}
`;
}

async function buildImages(folder: string): Promise<string> {
  const program = '/usr/bin/busybox';
  const root = new RootFilesystem().directory('/tmp', 0o1777).directory('/root', 0o700).copy(program, '/bin/busybox');
  root.file('/etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n');
  root.file('/etc/group', 'root:x:0:\nnogroup:x:65534:\n');
  const applets = (await checkedCommand([program, '--list'])).split('\n').filter((name) => name && name !== 'busybox');
  for (const applet of applets) root.symlink(`/bin/${applet}`, 'busybox');
  const layer = await root.toTar();
  const layout = new OciLayout(join(folder, 'images'));
  const Env = ['PATH=/bin'];
  layout.addImage(PAUSE_IMAGE, { Env, Cmd: ['sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'] }, [layer]);
  layout.addImage('busybox:latest', { Env, Cmd: ['sh'] }, [layer]);
  const archive = join(folder, 'images.tar');
  await checkedCommand(['tar', '-C', layout.path, '-cf', archive, '.']);
  return archive;
}

export interface AgentOptions extends Omit<Partial<PodManagerOptions>, 'runtime'> {
  readonly client: FakeClient;
  readonly runtime: TestRuntime;
}

/** The pod manager as an agent wires it. `stop` is its sudden end: it only stops to act. */
export class TestAgent {
  readonly manager: PodManager;
  readonly cri: CriClient;
  readonly events: string[] = [];
  readonly #controller = new AbortController();

  private constructor(manager: PodManager, cri: CriClient, events: string[]) {
    this.manager = manager;
    this.cri = cri;
    this.events = events;
  }

  static async start({ client, runtime, ...options }: AgentOptions): Promise<TestAgent> {
    const log = createLogger('pods-test');
    const cri = new CriClient(runtime.socket);
    const events: string[] = [];
    const informer = { client, log };
    const cgroup = process.env['PODWIRE_TEST_CGROUP'];
    const manager = new PodManager({
      nodeName: NODE_NAME,
      nodeIPs: [NODE_IP],
      client,
      podInformer: new Informer('Pod', { ...informer, fieldSelector: `spec.nodeName=${NODE_NAME}` }),
      serviceInformer: new Informer('Service', informer),
      log,
      runtime: cri,
      runtimeEvents: new ContainerdEvents(runtime.socket, log),
      events: { event: (about, type, reason, message) => events.push(`${about.name} ${type} ${reason}: ${message}`) },
      resources: await nodeResources(runtime.folder),
      dirs: { pods: join(runtime.folder, 'pods'), logs: join(runtime.folder, 'logs') },
      mounts: new ProcessMounts(() => runtime.pid),
      clusterDns: ['10.96.0.10'],
      clusterDomain: 'cluster.local',
      networkReady: () => true,
      cgroupParent: (pod) => `/${cgroup}/pod${pod.metadata.uid}`,
      ...options,
    });
    const agent = new TestAgent(manager, cri, events);
    await manager.start(agent.#controller.signal);
    return agent;
  }

  async stop(): Promise<void> {
    this.#controller.abort();
    await this.manager.stopped;
    this.cri.close();
  }
}

type Draft = Omit<Partial<PodSpec>, 'containers'> & { containers?: PodSpec['containers'] };

/** Creates a pod that is bound to the node: one busybox that sleeps, unless the spec says otherwise. */
export function createPod(client: FakeClient, name: string, spec: Draft = {}, labels: Record<string, string> = {}) {
  return client.create('Pod', {
    metadata: { name, namespace: 'default', labels },
    spec: { nodeName: NODE_NAME, containers: [busybox('sleep 1000000')], terminationGracePeriodSeconds: 1, ...spec },
  });
}

/** A container that runs a shell script. */
export function busybox(
  script: string,
  more: Partial<PodSpec['containers'][number]> = {},
): PodSpec['containers'][number] {
  return { name: 'main', image: 'busybox', imagePullPolicy: 'IfNotPresent', command: ['sh', '-c', script], ...more };
}

/** Waits until the pod is as wanted; fails with what it is instead. */
export async function eventually(
  client: FakeClient,
  name: string,
  wanted: (pod: Pod) => boolean,
  seconds = 20,
): Promise<Pod> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const pod = await client.get('Pod', { namespace: 'default', name });
    if (wanted(pod)) return pod;
    if (Date.now() > end)
      assert.fail(`pod ${name} has not come to be as wanted:\n${JSON.stringify(pod.status, null, 1)}`);
    await sleep(5);
  }
}

export async function untilGone(client: FakeClient, name: string, seconds = 20): Promise<void> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    try {
      const pod = await client.get('Pod', { namespace: 'default', name });
      if (Date.now() > end) assert.fail(`pod ${name} is still there:\n${JSON.stringify(pod.status, null, 1)}`);
    } catch (error) {
      if (isNotFound(error)) return;
      throw error;
    }
    await sleep(5);
  }
}

export const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;

export const phaseIs = (phase: string) => (pod: Pod) => pod.status?.phase === phase;

/** What a container has written so far. */
export async function logOf(agent: TestAgent, pod: string, container = 'main', previous = false): Promise<string> {
  const { path } = await agent.manager.logFile({ namespace: 'default', pod, container, previous });
  const lines = readFileSync(path, 'utf8').split('\n').filter(Boolean);
  return lines.map((line) => line.split(' ').slice(3).join(' ')).join('\n');
}
