/**
 * Gives every node its podCIDRs, one of each family, once.
 *
 * The nodes are the only store: after a (re)start all subnets of existing nodes are occupied before the first one is given
 * out. A subnet is kept for a node from the decision until the node is deleted, also while the write fails or its outcome is
 * unknown, so that no subnet is ever on two nodes.
 */
import { type Cidr, formatCidr, parseCidr } from '../../base/ip.ts';
import type { Startable } from '../../base/startable.ts';
import { type ReconcileResult, WorkQueue } from '../../base/work-queue.ts';
import { EventRecorder } from '../../kube/events.ts';
import { isInvalid, isNotFound } from '../../kube/status.ts';
import type { Node } from '../../kube/types.ts';
import type { ControllerContext } from '../informers.ts';
import { tolerant } from '../reconciling.ts';
import { parsePodCidrs, SubnetAllocator } from './allocator.ts';

export interface NodeIpamOptions {
  /** The pods' networks, at most one of each family. */
  readonly clusterCidrs: readonly string[];
  /** Prefix lengths of a node's subnets; default 24 and 64. */
  readonly nodeMaskSizes?: { readonly ipv4?: number; readonly ipv6?: number };
}

interface Holding {
  readonly uid: string;
  readonly cidrs: readonly Cidr[];
}

export class NodeIpam implements Startable {
  readonly #context: ControllerContext;
  readonly #allocators: readonly SubnetAllocator[];
  readonly #holdings = new Map<string, Holding>();
  readonly #waiting = new Set<string>();
  readonly #queue: WorkQueue;
  readonly #events: EventRecorder;

  constructor(context: ControllerContext, options: NodeIpamOptions) {
    const { client, log, clock, informers } = context;
    this.#context = context;
    const { ipv4 = 24, ipv6 = 64 } = options.nodeMaskSizes ?? {};
    this.#allocators = options.clusterCidrs.map((text) => {
      const cluster = parseCidr(text);
      return new SubnetAllocator(cluster, cluster.family === 4 ? ipv4 : ipv6);
    });
    this.#events = new EventRecorder({ client, log, clock, component: 'cidrAllocator' });
    this.#queue = new WorkQueue({ name: 'node-ipam', log, clock, reconcile: tolerant((key) => this.#reconcile(key)) });
    informers.of('Node').addHandler({
      onAdd: (node) => this.#changed(node),
      onUpdate: (_, node) => this.#changed(node),
      onDelete: (node) => this.#removed(node),
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.#context.informers.of('Node').start(signal);
    this.#queue.start(signal);
  }

  #changed(node: Node): void {
    const cidrs = parsePodCidrs(node.spec);
    if (cidrs.length === 0) return this.#queue.add(node.metadata.name);
    this.#waiting.delete(node.metadata.name);
    const held = this.#holdings.get(node.metadata.name);
    if (held && held.uid === node.metadata.uid && sameCidrs(held.cidrs, cidrs)) return;
    this.#give(node, cidrs);
  }

  #removed(node: Node): void {
    this.#waiting.delete(node.metadata.name);
    this.#free(node.metadata.name);
    for (const name of this.#waiting) this.#queue.add(name);
  }

  /** What the node has is what it holds; what was planned for it is free again. */
  #give(node: Node, cidrs: readonly Cidr[]): void {
    this.#free(node.metadata.name);
    this.#holdings.set(node.metadata.name, { uid: node.metadata.uid, cidrs });
    for (const cidr of cidrs) for (const allocator of this.#allocators) allocator.occupy(cidr);
  }

  #free(name: string): void {
    const held = this.#holdings.get(name);
    if (!held) return;
    this.#holdings.delete(name);
    for (const cidr of held.cidrs) for (const allocator of this.#allocators) allocator.release(cidr);
  }

  async #reconcile(name: string): Promise<ReconcileResult> {
    const node = this.#context.informers.of('Node').get(name);
    if (!node || node.metadata.deletionTimestamp || parsePodCidrs(node.spec).length > 0) return;
    const cidrs = this.#planned(node);
    if (!cidrs) {
      this.#waiting.add(name);
      this.#events.event(node, 'Warning', 'CIDRNotAvailable', `Node ${name} status is now: CIDRNotAvailable`);
      return;
    }
    this.#waiting.delete(name);
    const podCIDRs = cidrs.map(formatCidr);
    const metadata = { uid: node.metadata.uid, resourceVersion: node.metadata.resourceVersion };
    try {
      await this.#context.client.patch('Node', { name }, { metadata, spec: { podCIDR: podCIDRs[0], podCIDRs } });
    } catch (error) {
      if (isNotFound(error)) return;
      // Someone else gave it others in the meantime, which cannot be changed any more: the watch will tell.
      if (isInvalid(error)) return { requeueAfterMs: 1000 };
      throw error;
    }
  }

  /** The subnets kept for the node, taken now if there are none yet; undefined when a family has run out. */
  #planned(node: Node): readonly Cidr[] | undefined {
    const held = this.#holdings.get(node.metadata.name);
    if (held?.uid === node.metadata.uid) return held.cidrs;
    this.#free(node.metadata.name);
    if (this.#allocators.some((allocator) => allocator.free === 0)) return undefined;
    const cidrs = this.#allocators.map((allocator) => allocator.allocate()!);
    this.#holdings.set(node.metadata.name, { uid: node.metadata.uid, cidrs });
    return cidrs;
  }
}

function sameCidrs(a: readonly Cidr[], b: readonly Cidr[]): boolean {
  return a.map(formatCidr).join() === b.map(formatCidr).join();
}
