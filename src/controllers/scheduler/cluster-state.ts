/**
 * Nodes with the pods on them, kept up to date change by change, so that one decision does not look at every pod. Pods that
 * the scheduler has placed but the watch has not yet shown are in it as assumed ones.
 */
import { keyOf } from '../../kube/names.ts';
import type { Node, Pod } from '../../kube/types.ts';
import { controllerOf } from '../owners.ts';
import { isPodTerminal } from '../pod-state.ts';
import { addResources, type NodeCapacity, nodeCapacity, podRequests, type Resources } from './resources.ts';

export interface HostPort {
  readonly ip: string;
  readonly protocol: string;
  readonly port: number;
}

/** A pod with what a decision needs of it, computed once. */
export interface PodInfo {
  readonly pod: Pod;
  readonly requests: Resources;
  readonly hostPorts: readonly HostPort[];
  /** Pods of one group are spread over the nodes: those of one owner, or a namespace's pods without one. */
  readonly group: string;
}

export interface NodeInfo {
  readonly node: Node;
  readonly capacity: NodeCapacity;
  readonly pods: ReadonlyMap<string, PodInfo>;
  readonly requested: Resources;
  /** How many pods of each group are here. */
  readonly groups: ReadonlyMap<string, number>;
  /** The number of the last decision for this node; 0 for none. */
  readonly lastPicked: number;
}

interface MutableNodeInfo extends NodeInfo {
  node: Node;
  capacity: NodeCapacity;
  readonly pods: Map<string, PodInfo>;
  readonly requested: Map<string, number>;
  readonly groups: Map<string, number>;
  lastPicked: number;
}

export function podInfo(pod: Pod): PodInfo {
  return { pod, requests: podRequests(pod), hostPorts: hostPortsOf(pod), group: groupOf(pod) };
}

function groupOf(pod: Pod): string {
  return controllerOf(pod)?.uid ?? `bare pods of ${pod.metadata.namespace}`;
}

function hostPortsOf(pod: Pod): readonly HostPort[] {
  const ports: HostPort[] = [];
  for (const container of [...pod.spec.containers, ...(pod.spec.initContainers ?? [])]) {
    for (const { hostPort, hostIP, protocol } of container.ports ?? []) {
      if (hostPort) ports.push({ port: hostPort, ip: hostIP || '0.0.0.0', protocol: protocol ?? 'TCP' });
    }
  }
  return ports;
}

export class ClusterState {
  /** Nodes that exist, and those that only pods speak of (no node object yet, or no longer). */
  readonly #nodes = new Map<string, MutableNodeInfo>();
  /** Where each pod is counted. */
  readonly #places = new Map<string, string>();
  readonly #assumed = new Map<string, { readonly uid: string; readonly nodeName: string }>();
  #decisions = 0;

  /** The nodes that exist. */
  get nodes(): readonly NodeInfo[] {
    return [...this.#nodes.values()].filter((info) => info.node.metadata.uid !== '');
  }

  setNode(node: Node): void {
    const info = this.#node(node.metadata.name);
    info.node = node;
    info.capacity = nodeCapacity(node);
  }

  removeNode(name: string): void {
    const info = this.#nodes.get(name);
    if (!info) return;
    if (info.pods.size === 0) this.#nodes.delete(name);
    else info.node = absentNode(name);
  }

  /** Counts the pod where its spec says; an assumed pod stays where it is assumed until then. */
  setPod(pod: Pod): void {
    const key = keyOf(pod);
    const assumed = this.#assumed.get(key);
    if (assumed && (pod.spec.nodeName || assumed.uid !== pod.metadata.uid)) this.#assumed.delete(key);
    const nodeName = isPodTerminal(pod) ? undefined : pod.spec.nodeName || this.#assumed.get(key)?.nodeName;
    this.#take(key);
    if (nodeName) this.#place(key, nodeName, podInfo(pod));
  }

  removePod(key: string): void {
    this.#assumed.delete(key);
    this.#take(key);
  }

  isAssumed(key: string): boolean {
    return this.#assumed.has(key);
  }

  /** Counts the pod on the node from now on, before the server knows. */
  assume(pod: Pod, nodeName: string): void {
    const key = keyOf(pod);
    this.#take(key);
    this.#assumed.set(key, { uid: pod.metadata.uid, nodeName });
    this.#place(key, nodeName, podInfo(pod));
    this.#node(nodeName).lastPicked = ++this.#decisions;
  }

  /** Takes back an assumption that the server refused. */
  forget(pod: Pod): void {
    const key = keyOf(pod);
    if (this.#assumed.get(key)?.uid !== pod.metadata.uid) return;
    this.#assumed.delete(key);
    this.#take(key);
  }

  #node(name: string): MutableNodeInfo {
    let info = this.#nodes.get(name);
    if (!info) {
      const node = absentNode(name);
      info = {
        node,
        capacity: nodeCapacity(node),
        pods: new Map(),
        requested: new Map(),
        groups: new Map(),
        lastPicked: 0,
      };
      this.#nodes.set(name, info);
    }
    return info;
  }

  #place(key: string, nodeName: string, info: PodInfo): void {
    const node = this.#node(nodeName);
    node.pods.set(key, info);
    addResources(node.requested, info.requests);
    node.groups.set(info.group, (node.groups.get(info.group) ?? 0) + 1);
    this.#places.set(key, nodeName);
  }

  #take(key: string): void {
    const nodeName = this.#places.get(key);
    if (nodeName === undefined) return;
    const node = this.#node(nodeName);
    const info = node.pods.get(key)!;
    this.#places.delete(key);
    node.pods.delete(key);
    addResources(node.requested, info.requests, -1);
    const left = node.groups.get(info.group)! - 1;
    if (left > 0) node.groups.set(info.group, left);
    else node.groups.delete(info.group);
    if (node.pods.size === 0 && node.node.metadata.uid === '') this.#nodes.delete(nodeName);
  }
}

/** Stands for a node of which only the name is known; its empty uid says so. */
function absentNode(name: string): Node {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, uid: '', resourceVersion: '', creationTimestamp: '' },
    spec: {},
  };
}
