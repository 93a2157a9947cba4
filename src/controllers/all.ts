/** All controllers of a cluster in one process, on one set of informers. */
import { type Clock, systemClock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { type Startable, startAll } from '../base/startable.ts';
import type { KubeClient } from '../kube/client.ts';
import { EndpointsController } from './endpoints/endpoints-controller.ts';
import { EndpointSliceMirroring } from './endpoints/mirroring-controller.ts';
import { EndpointSliceController } from './endpoints/slice-controller.ts';
import { GarbageCollector } from './garbage-collector/controller.ts';
import { type ControllerContext, SharedInformers } from './informers.ts';
import { LoadBalancerController, type LoadBalancerOptions } from './load-balancer/controller.ts';
import { NamespaceController } from './namespaces/controller.ts';
import { NodeIpam, type NodeIpamOptions } from './node-ipam/controller.ts';
import { defaultGracePeriodMs, NodeLifecycle } from './node-lifecycle/controller.ts';
import { TaintEviction } from './node-lifecycle/taint-eviction.ts';
import { PodCollector, type PodCollectorOptions } from './pod-gc/controller.ts';
import { Scheduler } from './scheduler/controller.ts';
import { NamespaceDefaults } from './service-accounts/controller.ts';
import { DeploymentController } from './workloads/deployment-controller.ts';
import { ReplicaSetController } from './workloads/replicaset-controller.ts';

export interface ControllersOptions extends NodeIpamOptions, LoadBalancerOptions {
  /** The cluster's CA in PEM form, for the ConfigMap kube-root-ca.crt of every namespace. */
  readonly rootCa?: string;
  /** A node that is silent for longer is not ready, in milliseconds; default 40 s. */
  readonly nodeGracePeriodMs?: number;
  readonly podGc?: PodCollectorOptions;
}

export interface ControllersInput {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly options: ControllersOptions;
  readonly clock?: Clock;
}

/** Starts all controllers; resolves when all have synced and work. They end when the signal aborts. */
export async function startControllers(input: ControllersInput, signal: AbortSignal): Promise<void> {
  const { client, options } = input;
  const clock = input.clock ?? systemClock;
  const log = input.log.child({ component: 'controllers' });
  const informers = new SharedInformers({ client, log, clock });
  await startAll(buildControllers({ client, log, clock, informers }, options), signal);
}

function buildControllers(context: ControllerContext, options: ControllersOptions): readonly Startable[] {
  const gracePeriodMs = options.nodeGracePeriodMs ?? defaultGracePeriodMs;
  return [
    new Scheduler(context),
    new NodeIpam(context, options),
    new EndpointSliceController(context),
    new EndpointsController(context),
    new EndpointSliceMirroring(context),
    new LoadBalancerController(context, options),
    new ReplicaSetController(context),
    new DeploymentController(context),
    new NamespaceDefaults(context, options),
    new NamespaceController(context),
    new NodeLifecycle(context, { gracePeriodMs }),
    new TaintEviction(context, { restartGraceMs: gracePeriodMs }),
    new PodCollector(context, options.podGc),
    new GarbageCollector(context),
  ];
}
