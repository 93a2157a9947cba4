/**
 * Starts a cluster's processes and keeps them alive: one server (API server and controllers) in the underlay's namespace,
 * and for every node a containerd and an agent in the node's namespace. Everything starts at once; each process waits for
 * what it needs.
 *
 * The API server's listener on 127.0.0.1 is opened here, in the machine's namespace, and handed down: the server itself
 * lives inside the cluster, and while it restarts connections wait in the listener instead of being refused.
 */
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { ensureAuthority, issueCertificate } from '../apiserver/pki.ts';
import { cidrAddress, parseCidr } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import { renderKubeconfig } from '../kube/kubeconfig.ts';
import { mountTmpfs } from '../linux/mount.ts';
import type { NetworkNamespace } from '../linux/netns.ts';
import { closeFd, listenTcp, socketAddress } from '../linux/sockets.ts';
import type { ClusterNetwork } from './cluster-network.ts';
import { containerdCommand, containerdRejoinCommand, type OciRuntime, writeContainerdConfig } from './containerd.ts';
import type { ClusterDescription, NodeDescription } from './description.ts';
import { familiesOf, writeDescription } from './description.ts';
import { OciLayout } from './images/layout.ts';
import { ManagedProcess } from './managed-process.ts';
import { type ClusterPaths, cacheRoot, type NodePaths } from './paths.ts';
import { recordProcess, startTimeOf } from './process-table.ts';
import { selfCommand } from './self.ts';
import { copyContainerdRoot, type Prepared } from './setup.ts';
import { inCgroup, makeSocketCgroup, type SocketCgroup } from './socket-cgroup.ts';
import { attachNamespace, createUnderlay, OUTSIDE_NAMESPACE, outsideAddresses, serverAddresses } from './underlay.ts';

export const API_PORT = 6443;
export const REGISTRY_PORT = 5000;

export interface SupervisorOptions {
  readonly paths: ClusterPaths;
  readonly description: Omit<ClusterDescription, 'apiPort'>;
  readonly network: ClusterNetwork;
  readonly prepared: Prepared;
  /** The compiled programs of the proxy mode ebpf, in that mode. */
  readonly servicePrograms?: string | undefined;
  readonly runtime: OciRuntime;
  readonly nodeMaskSizes?: { readonly ipv4?: number; readonly ipv6?: number };
  readonly nodeGracePeriodMs?: number;
  readonly log: Logger;
}

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #processes: ManagedProcess[] = [];
  readonly #namespaces: NetworkNamespace[] = [];
  #apiListener: number | undefined;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  get processes(): readonly ManagedProcess[] {
    return this.#processes;
  }

  /**
   * Makes the network and starts every process; resolves when all are started, not yet ready. When it rejects, also for an
   * abort of the signal, nothing is under way any more: what was started so far is for `stop` and `tearDown`.
   */
  async start(signal?: AbortSignal): Promise<ClusterDescription> {
    const { paths, description } = this.#options;
    mkdirSync(paths.run, { recursive: true });
    mkdirSync(paths.state, { recursive: true, mode: 0o700 });
    recordProcess(paths, 'supervisor', process.pid);
    this.#apiListener = listenTcp({ address: '127.0.0.1', port: 0, backlog: 511 });
    const complete = { ...description, apiPort: socketAddress(this.#apiListener).port };
    writeDescription(complete);
    const families = familiesOf(description.ipFamily);
    const underlay = createUnderlay(paths, families);
    const outside = attachNamespace(paths, underlay, OUTSIDE_NAMESPACE, outsideAddresses(families));
    this.#namespaces.push(underlay, outside);
    const pki = await this.#issueCertificates(complete);
    this.#startServer(underlay, this.#apiListener);
    signal?.throwIfAborted();
    const started = await Promise.allSettled(
      description.nodes.map((node) => this.#startNode(underlay, node, pki, signal)),
    );
    for (const one of started) if (one.status === 'rejected') throw one.reason;
    return complete;
  }

  /** Ends every process, agents first so that nothing is reported as failing meanwhile. */
  async stop(): Promise<void> {
    const servers = this.#processes.filter((one) => !one.name.endsWith('-containerd'));
    await Promise.all(servers.map((one) => one.stop(1000)));
    await Promise.all(this.#processes.map((one) => one.stop(1000)));
    for (const namespace of this.#namespaces) namespace.close();
    if (this.#apiListener !== undefined) closeFd(this.#apiListener);
    this.#apiListener = undefined;
  }

  async #issueCertificates({ apiPort }: ClusterDescription): Promise<ClusterPki> {
    const { paths, network, description } = this.#options;
    const authority = await ensureAuthority(paths.pki);
    const families = familiesOf(description.ipFamily);
    const serviceAddresses = network.serviceCidrs.map((cidr) => cidrAddress(parseCidr(cidr), 1));
    const names = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
    const save = async (name: string, options: Parameters<typeof issueCertificate>[1]) => {
      const { cert, key } = await issueCertificate(authority, options);
      writeFileSync(join(paths.pki, `${name}.crt`), cert);
      writeFileSync(join(paths.pki, `${name}.key`), key, { mode: 0o600 });
      return { cert, key };
    };
    const client = (name: string, commonName: string, group: string) =>
      save(name, { commonName, organizations: [group], usages: ['client'] });
    const [admin] = await Promise.all([
      client('admin', 'kubernetes-admin', 'system:masters'),
      client('controllers', 'system:kube-controller-manager', 'system:masters'),
      client('kubelet-client', 'kube-apiserver-kubelet-client', 'system:masters'),
      save('server', {
        commonName: 'kube-apiserver',
        organizations: [],
        usages: ['server'],
        sans: [
          'localhost',
          '127.0.0.1',
          ...serverAddresses(families),
          ...serviceAddresses,
          ...names,
          `kubernetes.default.svc.${network.clusterDomain}`,
        ],
      }),
    ]);
    const ca = readFileSync(join(paths.pki, 'ca.crt'), 'utf8');
    const access = { ca, ...admin };
    const context = contextName(paths.name);
    writeFileSync(paths.kubeconfig, renderKubeconfig(context, { ...access, server: `https://127.0.0.1:${apiPort}` }), {
      mode: 0o600,
    });
    return { ca, authority, server: apiServerUrl(serverAddresses(families)[0]!) };
  }

  #startServer(underlay: NetworkNamespace, listener: number): void {
    const { paths, network, description, prepared, nodeMaskSizes = {}, nodeGracePeriodMs } = this.#options;
    const { ipv4, ipv6 } = nodeMaskSizes;
    const addresses = serverAddresses(familiesOf(description.ipFamily));
    new OciLayout(paths.images);
    const args = [
      'server',
      ...['--pki', paths.pki, '--store', paths.store, '--listen-fd', '3'],
      ...addresses.flatMap((address) => ['--listen', `${address}`]),
      ...['--port', `${API_PORT}`, '--cluster-domain', network.clusterDomain],
      ...network.serviceCidrs.flatMap((cidr) => ['--service-cidr', cidr]),
      ...network.podCidrs.flatMap((cidr) => ['--cluster-cidr', cidr]),
      ...(ipv4 === undefined ? [] : ['--node-mask-ipv4', `${ipv4}`]),
      ...(ipv6 === undefined ? [] : ['--node-mask-ipv6', `${ipv6}`]),
      ...(nodeGracePeriodMs === undefined ? [] : ['--node-grace-period', `${nodeGracePeriodMs}`]),
      ...network.loadBalancerPool.flatMap((range) => ['--load-balancer-pool', range]),
      ...['--registry-port', `${REGISTRY_PORT}`, '--registry', prepared.images, '--registry', paths.images],
    ];
    this.#run('server', underlay, () => selfCommand(args), join(paths.logs, 'server.log'), [listener]);
  }

  async #startNode(
    underlay: NetworkNamespace,
    node: NodeDescription,
    pki: ClusterPki,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { paths, prepared, runtime, network, nodeGracePeriodMs } = this.#options;
    const at = paths.node(node.name);
    const namespace = attachNamespace(paths, underlay, node.name, node.addresses);
    this.#namespaces.push(namespace);
    for (const folder of [at.run, at.state, at.agent, at.memory, at.cniBin, at.cniConf])
      mkdirSync(folder, { recursive: true });
    // Before containerd copies the mounts that it sees; root's alone, and gone with `tearDown`.
    mountTmpfs(at.memory, { mode: 0o700 });
    const registryHost = apiServerUrl(
      serverAddresses(familiesOf(this.#options.description.ipFamily))[0]!,
      REGISTRY_PORT,
    );
    writeContainerdConfig({ paths: at, registry: registryHost.replace('https', 'http'), runtime });
    for (const plugin of ['podwire', 'loopback']) shareFile(prepared.shim, join(at.cniBin, plugin));
    await this.#issueNodeCertificates(node, at, pki);
    signal?.throwIfAborted();
    const cgroup = this.#makeSocketCgroup(node);
    const args = [
      ...agentArgs(node, at, paths, network),
      ...(cgroup ? ['--service-programs', this.#options.servicePrograms!, '--socket-cgroup', cgroup.node] : []),
      ...(nodeGracePeriodMs === undefined ? [] : ['--node-lease-duration', `${nodeGracePeriodMs}`]),
    ];
    const inside = (command: readonly [string, ...string[]]) =>
      cgroup ? inCgroup(cgroup.processes, command) : command;
    this.#run(`${node.name}-agent`, namespace, () => inside(selfCommand(args)), at.log('agent'));
    await copyContainerdRoot(prepared, at.containerdRoot);
    signal?.throwIfAborted();
    this.#run(`${node.name}-containerd`, namespace, () => inside(containerdStart(at)), at.log('containerd'));
  }

  /** In the mode ebpf a node has a control group, at whose sockets its Services are translated. */
  #makeSocketCgroup(node: NodeDescription): SocketCgroup | undefined {
    const { servicePrograms, paths } = this.#options;
    return servicePrograms === undefined ? undefined : makeSocketCgroup(paths, node.name);
  }

  async #issueNodeCertificates(node: NodeDescription, at: NodePaths, pki: ClusterPki): Promise<void> {
    const [client, server] = await Promise.all([
      issueCertificate(pki.authority, {
        commonName: `system:node:${node.name}`,
        organizations: ['system:nodes'],
        usages: ['client'],
      }),
      issueCertificate(pki.authority, {
        commonName: `system:node:${node.name}`,
        organizations: ['system:nodes'],
        usages: ['server'],
        sans: [node.name, ...node.addresses],
      }),
    ]);
    writeFileSync(at.kubeconfig, renderKubeconfig(node.name, { server: pki.server, ca: pki.ca, ...client }), {
      mode: 0o600,
    });
    writeFileSync(join(at.agent, 'ca.crt'), pki.ca);
    writeFileSync(join(at.agent, 'kubelet.crt'), server.cert);
    writeFileSync(join(at.agent, 'kubelet.key'), server.key, { mode: 0o600 });
  }

  #run(
    name: string,
    namespace: NetworkNamespace,
    command: (attempt: number) => readonly [string, ...string[]],
    logFile: string,
    inherit: readonly number[] = [],
  ): void {
    const { paths, log } = this.#options;
    const managed = new ManagedProcess({
      name,
      namespace,
      command,
      logFile,
      log,
      inherit,
      env: childEnvironment(),
      onStarted: (pid) => recordProcess(paths, name, pid),
    });
    this.#processes.push(managed);
    managed.start();
  }
}

interface ClusterPki {
  readonly ca: string;
  readonly authority: Awaited<ReturnType<typeof ensureAuthority>>;
  readonly server: string;
}

/** The kubeconfig context of a cluster, as kind names its own. */
export function contextName(name: string): string {
  return `podwire-${name}`;
}

function apiServerUrl(address: string, port = API_PORT): string {
  return `https://${address.includes(':') ? `[${address}]` : address}:${port}`;
}

function agentArgs(node: NodeDescription, at: NodePaths, paths: ClusterPaths, network: ClusterNetwork): string[] {
  return [
    'agent',
    ...['--node-name', node.name, '--kubeconfig', at.kubeconfig, '--state', at.agent],
    ...node.addresses.flatMap((address) => ['--node-ip', address]),
    ...['--cri-socket', at.criSocket, '--cni-socket', at.cniSocket, '--cni-conf', at.cniConf],
    ...['--cgroup-parent', `/${paths.cgroup}/${node.name}`, '--cluster-domain', network.clusterDomain],
    ...network.dnsAddresses.flatMap((address) => ['--cluster-dns', address]),
    ...network.serviceCidrs.flatMap((cidr) => ['--service-cidr', cidr]),
    ...network.podCidrs.flatMap((cidr) => ['--cluster-cidr', cidr]),
    ...network.nodeportAddresses.flatMap((choice) => ['--nodeport-addresses', choice]),
    ...['--pod-network', network.podNetwork, '--proxy', network.proxy],
  ];
}

/** The first start of a node's containerd, or a restart beside pods that live on. */
function containerdStart(at: NodePaths): readonly [string, ...string[]] {
  rmSync(at.criSocket, { force: true });
  const shim = survivingShim(at);
  return shim === undefined ? containerdCommand(at) : containerdRejoinCommand(at, shim);
}

/** A containerd shim of this node: its pid is in the runtime's state folder, /run/containerd of the node. */
function survivingShim(at: NodePaths): number | undefined {
  const tasks = join(at.run, 'containerd', 'io.containerd.runtime.v2.task', 'k8s.io');
  const cgroupPids = existsSync(tasks)
    ? readdirSync(tasks).flatMap((id) => {
        const init = join(tasks, id, 'init.pid');
        return existsSync(init) ? [Number(readFileSync(init, 'utf8').trim())] : [];
      })
    : [];
  for (const init of cgroupPids) {
    const parent = parentOf(init);
    if (parent !== undefined && parent > 1) return parent;
  }
  return undefined;
}

function parentOf(pid: number): number | undefined {
  if (startTimeOf(pid) === undefined) return undefined;
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

function shareFile(source: string, target: string): void {
  if (existsSync(target)) return;
  try {
    linkSync(source, target);
  } catch {
    copyFileSync(source, target);
  }
}

/** A small environment: no credentials or settings of the caller's shell reach the cluster's processes. */
function childEnvironment(): NodeJS.ProcessEnv {
  const kept = ['PATH', 'HOME', 'LANG', 'TZ', 'PODWIRE_LOG', 'PODWIRE_CACHE', 'NODE_COMPILE_CACHE', 'NODE_V8_COVERAGE'];
  const env: NodeJS.ProcessEnv = {};
  for (const name of kept) if (process.env[name] !== undefined) env[name] = process.env[name];
  env['PATH'] = [env['PATH'], '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin'].filter(Boolean).join(':');
  // One arena: threads that allocate little need none of their own.
  env['MALLOC_ARENA_MAX'] = '1';
  env['NODE_COMPILE_CACHE'] ??= join(cacheRoot(), 'compile');
  return env;
}
