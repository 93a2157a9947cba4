/**
 * One containerd per node: its configuration, and the command that starts it in a mount namespace of its own.
 *
 * Inside that mount namespace the node's run folder lies over /run, so that containerd's sockets, its shims' and the pods'
 * network namespace files (/run/netns) belong to the node alone and vanish with it; a control group hierarchy of version 2
 * beside version 1 (a hybrid) is unmounted there, because crun refuses the mixture.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PAUSE_IMAGE } from './images/starter-images.ts';
import type { NodePaths } from './paths.ts';

export type OciRuntime = 'crun' | 'runc';

export interface ContainerdOptions {
  readonly paths: NodePaths;
  /** "http://172.18.0.1:5000" */
  readonly registry: string;
  readonly runtime: OciRuntime;
}

/** Writes containerd's configuration and registry hosts. */
export function writeContainerdConfig({ paths, registry, runtime }: ContainerdOptions): void {
  const hosts = join(paths.state, 'registry-hosts');
  mkdirSync(join(hosts, '_default'), { recursive: true });
  // Not as [host."http://[fd00::1]"]: the TOML of containerd 1.6 knows no ] in a table's name. It insists on the table, though.
  writeFileSync(join(hosts, '_default', 'hosts.toml'), `server = "${registry}"\n\n[host]\n`);
  writeFileSync(paths.containerdConfig, renderConfig(paths, hosts, runtime));
}

/** State and sockets lie under /run, which is the node's own inside the mount namespace. */
function renderConfig(paths: NodePaths, hosts: string, runtime: OciRuntime): string {
  return `version = 2
root = ${JSON.stringify(paths.containerdRoot)}
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]

[grpc]
  address = "/run/containerd/containerd.sock"

[ttrpc]
  address = "/run/containerd/containerd.sock.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
  path = ${JSON.stringify(join(paths.state, 'opt'))}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = ${JSON.stringify(PAUSE_IMAGE)}
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  stats_collect_period = 60
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "default"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.default]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.default.options]
        BinaryName = "${runtime}"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = ${JSON.stringify(paths.cniBin)}
    conf_dir = ${JSON.stringify(paths.cniConf)}
    max_conf_num = 1
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = ${JSON.stringify(hosts)}
`;
}

/**
 * The shell that prepares the namespaces, then becomes containerd. $1: run folder, $2: configuration, $3: the node's name,
 * which is the hostname of pods with hostNetwork.
 */
const ENTER = `set -e
mount --make-rprivate /
awk '$3 == "cgroup2" && $2 != "/sys/fs/cgroup" { print $2 }' /proc/self/mounts | while read -r hierarchy; do umount "$hierarchy"; done
mount --bind "$1" /run
echo "$3" > /proc/sys/kernel/hostname
exec containerd --config "$2" --log-level warn`;

/** The first start: a new mount and a new UTS namespace. To be spawned inside the node's network namespace. */
export function containerdCommand(paths: NodePaths): [string, ...string[]] {
  return [
    'unshare',
    '--mount',
    '--uts',
    '--propagation',
    'unchanged',
    'sh',
    '-c',
    ENTER,
    'containerd',
    paths.run,
    paths.containerdConfig,
    paths.name,
  ];
}

/**
 * A restart while pods run: joins the namespaces that a surviving shim holds, so that the pods' namespace files and
 * root filesystems stay reachable.
 */
export function containerdRejoinCommand(paths: NodePaths, shimPid: number): [string, ...string[]] {
  return [
    'nsenter',
    `--mount=/proc/${shimPid}/ns/mnt`,
    `--uts=/proc/${shimPid}/ns/uts`,
    'containerd',
    '--config',
    paths.containerdConfig,
    '--log-level',
    'warn',
  ];
}
