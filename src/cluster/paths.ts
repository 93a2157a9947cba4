/** Where a cluster's files are. Nothing outside these folders and the control groups of `cgroup` belongs to a cluster. */
import { join } from 'node:path';
import { UserError } from '../base/errors.ts';

/** State that lasts from start to `down`, one folder a cluster. */
export const STATE_ROOT = '/var/lib/podwire';
/** Sockets, namespaces, process files, one folder a cluster. */
export const RUN_ROOT = '/run/podwire';

/** What set-up built: programs, images, the prepared containerd root. Survives clusters. */
export function cacheRoot(env: NodeJS.ProcessEnv = process.env): string {
  return env['PODWIRE_CACHE'] ?? '/var/cache/podwire';
}

export const DEFAULT_NAME = 'default';

/** Checks a cluster's name: it becomes part of interface names, folders, and a kubeconfig context. */
export function checkName(name: string): string {
  if (!/^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/.test(name)) {
    throw new UserError(`the cluster name ${JSON.stringify(name)} is not valid`, {
      hint: 'use up to 32 lower-case letters, digits and dashes, beginning and ending with a letter or digit',
      exitCode: 2,
    });
  }
  return name;
}

export interface NodePaths {
  readonly name: string;
  readonly state: string;
  /** Bound onto /run inside the node's mount namespace. */
  readonly run: string;
  readonly containerdRoot: string;
  readonly containerdConfig: string;
  readonly criSocket: string;
  readonly cniBin: string;
  readonly cniConf: string;
  /** The agent's CNI socket as the host sees it; the runtime sees it at /run/podwire-cni.sock. */
  readonly cniSocket: string;
  readonly agent: string;
  /** A tmpfs, for Secrets. */
  readonly memory: string;
  readonly kubeconfig: string;
  readonly namespace: string;
  readonly log: (process: string) => string;
}

export interface ClusterPaths {
  readonly name: string;
  readonly state: string;
  readonly run: string;
  readonly pki: string;
  readonly store: string;
  readonly images: string;
  readonly description: string;
  readonly namespaces: string;
  readonly processes: string;
  readonly logs: string;
  readonly kubeconfig: string;
  readonly cgroup: string;
  namespace(name: string): string;
  node(node: string): NodePaths;
}

export function clusterPaths(name: string): ClusterPaths {
  const state = join(STATE_ROOT, checkName(name));
  const run = join(RUN_ROOT, name);
  const namespace = (one: string) => join(run, 'netns', one);
  return {
    name,
    state,
    run,
    pki: join(state, 'pki'),
    store: join(state, 'store'),
    images: join(state, 'images'),
    description: join(run, 'cluster.json'),
    namespaces: join(run, 'netns'),
    processes: join(run, 'processes'),
    logs: join(state, 'log'),
    kubeconfig: join(state, 'kubeconfig'),
    cgroup: `podwire-${name}`,
    namespace,
    node: (node) => nodePaths(state, run, node, namespace(node)),
  };
}

function nodePaths(state: string, run: string, node: string, namespace: string): NodePaths {
  const nodeState = join(state, 'nodes', node);
  const nodeRun = join(run, 'nodes', node, 'run');
  return {
    name: node,
    state: nodeState,
    run: nodeRun,
    containerdRoot: join(nodeState, 'containerd'),
    containerdConfig: join(nodeState, 'containerd.toml'),
    criSocket: join(nodeRun, 'containerd', 'containerd.sock'),
    cniBin: join(nodeState, 'cni', 'bin'),
    cniConf: join(nodeState, 'cni', 'net.d'),
    cniSocket: join(nodeRun, 'podwire-cni.sock'),
    agent: join(nodeState, 'agent'),
    memory: join(nodeState, 'agent', 'memory'),
    kubeconfig: join(run, 'nodes', node, 'kubeconfig'),
    namespace,
    log: (process) => join(state, 'log', `${node}-${process}.log`),
  };
}
