/** A cluster's API in memory with policy controllers on the lab's nodes, and the proof that the kernel has what it shall. */
import assert from 'node:assert/strict';
import { silentLogger } from '../../src/base/log.ts';
import { FakeClient } from '../../src/kube/fake-client.ts';
import { Informer } from '../../src/kube/informer.ts';
import type {
  ClusterNetworkPolicy,
  Draft,
  KindMap,
  Namespace,
  NetworkPolicy,
  Node,
  Pod,
} from '../../src/kube/types.ts';
import { type AttachedPod, PolicyController, type PolicyControllerOptions } from '../../src/node/policy/controller.ts';
import type { Elements } from '../../src/node/policy/elements.ts';
import { readKernelState } from '../../src/node/policy/kernel-state.ts';
import { PolicyModel } from '../../src/node/policy/model.ts';
import { table } from '../../src/node/policy/render.ts';
import { setDeclarations } from '../../src/node/policy/sets.ts';
import { namespaces, podObjects } from '../../src/node/policy/testing-matrix.ts';
import { eventually, type LabNode, nodeOf } from './policy-lab.ts';

type Written = Namespace | NetworkPolicy | ClusterNetworkPolicy | Node | Pod;

export class PolicyCluster implements AsyncDisposable {
  readonly client = new FakeClient();
  readonly #agents = new Map<string, Agent>();

  /** With the namespaces and pods of the matrix. */
  static async create(): Promise<PolicyCluster> {
    const cluster = new PolicyCluster();
    for (const object of [...namespaces(), ...podObjects(nodeOf)]) await cluster.create(object);
    return cluster;
  }

  async create<T extends Written>(object: T): Promise<T> {
    const kind = object.kind as 'Pod';
    return (await this.client.create(kind, object as unknown as Draft<KindMap['Pod']>)) as unknown as T;
  }

  async replacePolicies(policies: readonly NetworkPolicy[]): Promise<void> {
    for (const { metadata } of (await this.client.list('NetworkPolicy')).items) {
      await this.client.delete('NetworkPolicy', metadata);
    }
    for (const policy of policies) await this.create(policy);
  }

  async replaceClusterPolicies(policies: readonly ClusterNetworkPolicy[]): Promise<void> {
    for (const { metadata } of (await this.client.list('ClusterNetworkPolicy')).items) {
      await this.client.delete('ClusterNetworkPolicy', metadata);
    }
    for (const policy of policies) await this.create(policy);
  }

  async startAgent(node: LabNode, options: Partial<PolicyControllerOptions> = {}): Promise<Agent> {
    const agent = new Agent(this.client, node, options);
    this.#agents.set(node.name, agent);
    await agent.start();
    return agent;
  }

  async stopAgent(node: LabNode): Promise<void> {
    await this.#agents.get(node.name)?.stop();
    this.#agents.delete(node.name);
  }

  /** Waits until each node's kernel holds exactly what a fresh start would load. */
  async settled(nodes: readonly LabNode[], attached: readonly AttachedPod[] = []): Promise<void> {
    const state = await this.state();
    for (const node of nodes) await eventually(() => assertKernel(node, modelOf(node.name, state, attached).elements));
  }

  async state() {
    const [pods, spaces, policies, clusterPolicies, nodes] = await Promise.all([
      this.client.list('Pod'),
      this.client.list('Namespace'),
      this.client.list('NetworkPolicy'),
      this.client.list('ClusterNetworkPolicy'),
      this.client.list('Node'),
    ]);
    return {
      pods: pods.items,
      namespaces: spaces.items,
      policies: policies.items,
      clusterPolicies: clusterPolicies.items,
      nodes: nodes.items,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents.values()) await agent.stop();
  }
}

/** One life of a node's agent. */
export class Agent {
  readonly controller: PolicyController;
  readonly #abort = new AbortController();

  constructor(client: FakeClient, { name, nft }: LabNode, options: Partial<PolicyControllerOptions>) {
    const common = { client, log: silentLogger };
    this.controller = new PolicyController({
      nodeName: name,
      nft,
      log: silentLogger,
      informers: {
        pods: new Informer('Pod', common),
        namespaces: new Informer('Namespace', common),
        policies: new Informer('NetworkPolicy', common),
        clusterPolicies: new Informer('ClusterNetworkPolicy', common),
        nodes: new Informer('Node', common),
      },
      ...options,
    });
  }

  start(): Promise<void> {
    return this.controller.start(this.#abort.signal);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export function modelOf(
  nodeName: string,
  state: Awaited<ReturnType<PolicyCluster['state']>>,
  attached: readonly AttachedPod[] = [],
): PolicyModel {
  const model = new PolicyModel({ nodeName });
  for (const namespace of state.namespaces) model.setNamespace(namespace);
  for (const policy of state.policies) model.setPolicy(policy);
  for (const policy of state.clusterPolicies) model.setClusterPolicy(policy);
  for (const node of state.nodes) model.setNode(node);
  for (const pod of state.pods) model.setPod(pod);
  for (const { ips, ...pod } of attached) model.attach({ ...pod, addresses: ips as never });
  model.settle();
  return model;
}

/** Compares a node's kernel, element by element, with what it shall hold. */
export function assertKernel(node: Pick<LabNode, 'eyes'>, wanted: Elements): void {
  const { layoutMatches, sets } = readKernelState(node.eyes.listJson(`table ${table}`));
  assert.ok(layoutMatches, 'the layout');
  for (const set of Object.keys(setDeclarations)) {
    const sorted = (elements: ReadonlyMap<string, string>) => Object.fromEntries([...elements].sort());
    assert.deepEqual(sorted(sets.get(set)!), sorted(wanted.entries(set)), set);
  }
}
