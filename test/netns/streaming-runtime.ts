/**
 * A real containerd for the streaming tests, with one image (busybox) and pods in its own network namespace (no CNI).
 * To be used inside a mount, PID and network namespace of its own: see streaming-containerd.test.ts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkedCommand } from '../../src/base/command.ts';
import { statusError } from '../../src/kube/status.ts';
import { CriClient } from '../../src/node/pods/cri/client.ts';
import type { ContainerRef, PodStreams } from '../../src/node/pods/streaming/pod-streams.ts';

const IMAGE = 'podwire.test/busybox:1';

/** Names are "pod/container". */
export class StreamingRuntime implements AsyncDisposable, PodStreams {
  readonly cri: CriClient;
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #sandboxes = new Map<string, string>();
  readonly #containers = new Map<string, string>();

  private constructor(folder: string, process: ChildProcess, cri: CriClient) {
    this.#folder = folder;
    this.#process = process;
    this.cri = cri;
  }

  static async start(folder: string): Promise<StreamingRuntime> {
    const socket = join(folder, 'containerd.sock');
    writeFileSync(join(folder, 'config.toml'), renderConfig(folder, socket));
    const log = openSync(join(folder, 'containerd.log'), 'w');
    const process = spawn('containerd', ['--config', join(folder, 'config.toml')], { stdio: ['ignore', log, log] });
    const cri = new CriClient(socket);
    for (let attempt = 0; ; attempt++) {
      try {
        await cri.version();
        break;
      } catch (error) {
        if (attempt > 100 || process.exitCode !== null) throw error;
        await sleep(100);
      }
    }
    await checkedCommand(['ctr', '-a', socket, '-n', 'k8s.io', 'images', 'import', await writeImage(folder)]);
    return new StreamingRuntime(folder, process, cri);
  }

  /** Starts a pod with one container that runs the command. */
  async run(
    pod: string,
    command: readonly string[],
    options: { stdin?: boolean; stdinOnce?: boolean } = {},
  ): Promise<void> {
    const namespaceOptions = { network: 'NODE', pid: 'CONTAINER', ipc: 'POD' } as const;
    const logDirectory = join(this.#folder, 'logs', pod);
    mkdirSync(join(logDirectory, 'main'), { recursive: true });
    const sandbox = {
      metadata: { name: pod, uid: pod, namespace: 'default', attempt: 0 },
      logDirectory,
      labels: {},
      annotations: {},
      linux: { cgroupParent: cgroupOf(this.#folder), securityContext: { namespaceOptions } },
    };
    const sandboxId = await this.cri.runPodSandbox(sandbox);
    this.#sandboxes.set(pod, sandboxId);
    const container = {
      metadata: { name: 'main', attempt: 0 },
      image: { image: IMAGE },
      command,
      labels: {},
      annotations: {},
      logPath: 'main/0.log',
      ...options,
      linux: { securityContext: { namespaceOptions } },
    };
    const id = await this.cri.createContainer(sandboxId, container, sandbox);
    this.#containers.set(`${pod}/main`, id);
    await this.cri.startContainer(id);
  }

  #container({ pod, container }: ContainerRef): string {
    const id = this.#containers.get(`${pod}/${container}`);
    if (!id) throw statusError('NotFound', `container not found ("${container}")`);
    return id;
  }

  async execUrl(options: Parameters<PodStreams['execUrl']>[0]): Promise<string> {
    return await this.cri.exec(this.#container(options), options.command, options);
  }

  async attachUrl(options: Parameters<PodStreams['attachUrl']>[0]): Promise<string> {
    return await this.cri.attach(this.#container(options), options);
  }

  async portForwardUrl({ pod, ports }: Parameters<PodStreams['portForwardUrl']>[0]): Promise<string> {
    const id = this.#sandboxes.get(pod);
    if (!id) throw statusError('NotFound', `pod "${pod}" not found`);
    return await this.cri.portForward(id, ports);
  }

  async logFile(options: Parameters<PodStreams['logFile']>[0]): Promise<{ path: string; running: boolean }> {
    const { state } = await this.cri.containerStatus(this.#container(options));
    const path = join(this.#folder, 'logs', options.pod, options.container, '0.log');
    return { path, running: state === 'CONTAINER_RUNNING' };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.#containers.values()].map((id) => this.cri.stopContainer(id, 0)));
    await Promise.allSettled([...this.#sandboxes.values()].map((id) => this.cri.stopPodSandbox(id)));
    await Promise.allSettled([...this.#sandboxes.values()].map((id) => this.cri.removePodSandbox(id)));
    this.cri.close();
    if (this.#process.exitCode === null) {
      this.#process.kill('SIGTERM');
      await once(this.#process, 'exit');
    }
  }
}

/** The parent of all control groups of a runtime in the folder. */
const cgroupOf = (folder: string): string => `/${basename(folder)}`;

/** Removes what a runtime in the folder has left of control groups; its processes must have ended. */
export function removeCgroups(folder: string): void {
  for (const hierarchy of [CGROUPS, ...foldersIn(CGROUPS)]) removeCgroup(join(hierarchy, cgroupOf(folder)));
}

const CGROUPS = '/sys/fs/cgroup';

const foldersIn = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [join(folder, entry.name)] : [],
  );

function removeCgroup(path: string): void {
  if (!existsSync(path)) return;
  for (const child of foldersIn(path)) removeCgroup(child);
  rmdirSync(path);
}

function renderConfig(folder: string, socket: string): string {
  const at = (name: string) => JSON.stringify(join(folder, name));
  return `version = 2
root = ${at('root')}
state = ${at('state')}
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = ${JSON.stringify(socket)}
[plugins."io.containerd.internal.v1.opt"]
  path = ${at('opt')}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${IMAGE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "crun"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
        BinaryName = "crun"
`;
}

/** An OCI layout with the machine's static busybox; as the sandbox's image it sleeps. */
async function writeImage(folder: string): Promise<string> {
  const rootfs = join(folder, 'image/rootfs');
  const blobs = join(folder, 'image/oci/blobs/sha256');
  for (const name of ['bin', 'tmp', 'etc', 'proc', 'sys', 'dev']) mkdirSync(join(rootfs, name), { recursive: true });
  mkdirSync(blobs, { recursive: true });
  copyFileSync('/usr/bin/busybox', join(rootfs, 'bin/busybox'));
  await checkedCommand(['/usr/bin/busybox', '--install', '-s', join(rootfs, 'bin')]);
  await checkedCommand([
    'sh',
    '-c',
    `cd ${rootfs}/bin && for f in *; do [ "$f" = busybox ] || ln -sf busybox "$f"; done`,
  ]);
  const layer = join(folder, 'image/layer.tar');
  await checkedCommand(['tar', '-C', rootfs, '-cf', layer, '.']);
  const addBlob = (bytes: Buffer, mediaType: string) => {
    const digest = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, digest), bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
  };
  const addJson = (value: object, mediaType: string) => addBlob(Buffer.from(JSON.stringify(value)), mediaType);
  const layerBlob = addBlob(readFileSync(layer), 'application/vnd.oci.image.layer.v1.tar');
  const config = addJson(
    {
      architecture: { x64: 'amd64', arm64: 'arm64' }[process.arch as string] ?? process.arch,
      os: 'linux',
      config: { Env: ['PATH=/bin'], Cmd: ['sleep', '1000000'] },
      rootfs: { type: 'layers', diff_ids: [layerBlob.digest] },
    },
    'application/vnd.oci.image.config.v1+json',
  );
  const manifestType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = addJson({ schemaVersion: 2, mediaType: manifestType, config, layers: [layerBlob] }, manifestType);
  const annotations = { 'io.containerd.image.name': IMAGE };
  const index = { schemaVersion: 2, manifests: [{ ...manifest, annotations }] };
  writeFileSync(join(folder, 'image/oci/index.json'), JSON.stringify(index));
  writeFileSync(join(folder, 'image/oci/oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  const archive = join(folder, 'image.tar');
  await checkedCommand(['tar', '-C', join(folder, 'image/oci'), '-cf', archive, '.']);
  return archive;
}
