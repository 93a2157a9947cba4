/**
 * What every mode of the proxy is to the controller: something that brings the kernel to what the models say. The modes are
 * folders beside this file (nftables/, iptables/, ipvs/, ebpf/), each with its `render.ts` and `reconciler.ts`; the model, the
 * claims, the oracle and the tests with packets are the same for all of them.
 */
import type { Cidr, Family } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Problem, ServiceModel } from './model.ts';
import type { StaleFlows } from './stale-flows.ts';

/** What the rules are told about the cluster. */
export interface ClusterAddresses {
  readonly podCidrs: readonly Cidr[];
  /** The part of them whose pods are this node's (Node.spec.podCIDRs); while it is unknown no pod is. */
  readonly ownPodCidrs: readonly Cidr[];
  readonly serviceCidrs: readonly Cidr[];
}

/** A model, or its absence, by key. */
export type KeyedModel = readonly [key: string, model: ServiceModel | undefined];

/** Counts since the start. */
export interface RulesStats {
  /** Changes committed to the kernel. */
  readonly transactions: number;
  /** Elements, rules or entries written and deleted. */
  readonly elements: number;
  /** Times everything was written anew. */
  readonly rebuilds: number;
  readonly failures: number;
}

/** The rules of one node in its kernel. Calls of `apply` never overlap. */
export interface ServiceRules {
  /**
   * Applies the models of some Services, and what earlier calls left to do. The first call takes over what an earlier agent
   * left. Throws a KernelError when the kernel refuses also the whole; the models are kept, and calling again (with none) tries
   * again.
   */
  apply(models: Iterable<KeyedModel>): Promise<void>;
  /** What is left to do: when it is not 0 the controller calls `apply` again soon (10 ms) though nothing has changed. */
  readonly leftovers: number;
  /** Whether the kernel still has what was applied, as far as a cheap look (under a millisecond) tells. */
  isIntact(): boolean;
  /** Says that the kernel may have lost what was applied: the next `apply` writes everything anew. */
  invalidate(): void;
  /** Changes the CIDRs of pods and Services; in force with the next `apply`. */
  setAddresses(addresses: ClusterAddresses): void;
  /** The endpoints of a frontend ("10.96.0.10 . tcp . 80") in the kernel now, as "address . port"; those of all pools. */
  endpointsOf(frontend: string): readonly string[];
  /** Services and pods with host ports that are known. */
  readonly services: number;
  readonly frontends: number;
  readonly stats: RulesStats;
  /** Takes everything of podwire's Services out of the kernel. */
  remove(): void;
}

/** What the controller gives to the rules that it opens. */
export interface RulesContext {
  readonly addresses: ClusterAddresses;
  /** Where connections of removed endpoints are ended; without it UDP flows live on until they time out. */
  readonly flows?: StaleFlows | undefined;
  /** Default both. */
  readonly families?: readonly Family[];
  readonly log: Logger;
  readonly onProblem?: ((problem: Problem) => void) | undefined;
}

/** Opens the rules of a mode; the kernel is first touched by `apply`. */
export type OpenRules = (context: RulesContext) => ServiceRules;
