/** What all workers of a node share. */
import type { Clock } from '../../../base/clock.ts';
import type { Logger } from '../../../base/log.ts';
import type { KubeClient } from '../../../kube/client.ts';
import type { EventReference, EventType } from '../../../kube/events.ts';
import type { Lister } from '../../../kube/informer.ts';
import { objectReference } from '../../../kube/names.ts';
import type { Pod, Service } from '../../../kube/types.ts';
import type { ConfigCache } from '../config-cache.ts';
import type { CriRuntime } from '../cri/runtime.ts';
import type { DnsConfig } from '../cri/types.ts';
import type { ImageManager } from '../images/image-manager.ts';
import { fieldPath } from '../state/containers.ts';
import type { VolumeManager } from '../volumes/volume-manager.ts';

/** Where events go; `EventRecorder` is one. */
export interface EventSink {
  event(object: EventReference, type: EventType, reason: string, message: string): void;
}

export interface WorkerContext {
  readonly hostIPs: readonly string[];
  /** Bytes. */
  readonly nodeMemory: number;
  readonly allocatable: Readonly<Record<string, string>>;
  readonly client: KubeClient;
  readonly runtime: CriRuntime;
  readonly images: ImageManager;
  readonly volumes: VolumeManager;
  readonly config: ConfigCache;
  readonly services: Lister<Service>;
  /** Resolves when the Services are known: no container starts before. */
  readonly servicesSynced: Promise<void>;
  readonly events: EventSink;
  readonly clock: Clock;
  readonly log: Logger;
  /** The end of the agent: pods run on. */
  readonly signal: AbortSignal;
  readonly logsDir: string;
  readonly clusterDns: readonly string[];
  readonly clusterDomain: string;
  /** The node's own resolver and hosts file, read anew for each pod. */
  readonly nodeResolver: () => DnsConfig;
  readonly nodeHostsFile: () => string;
  readonly networkReady: () => boolean;
  /** The addresses that the network plugin has given to a sandbox, where it knows; else the runtime is asked. */
  readonly addressesOf: (sandboxId: string) => readonly string[] | undefined;
  readonly cgroupParent: (pod: Pod) => string | undefined;
  /** Removes what the runtime leaves behind of a pod's cgroup. */
  readonly removeCgroup: (parent: string) => Promise<void>;
  /** Awaited, within the grace period, before the containers of a pod that is deleted are stopped. */
  readonly beforeStop: (pod: Pod) => Promise<void>;
}

/** An event about a pod. */
export function podEvent(context: WorkerContext, pod: Pod, type: EventType, reason: string, message: string): void {
  context.events.event(objectReference(pod), type, reason, message);
}

/** An event about one of its containers. */
export function containerEvent(
  context: WorkerContext,
  pod: Pod,
  container: string,
  type: EventType,
  reason: string,
  message: string,
): void {
  context.events.event({ ...objectReference(pod), fieldPath: fieldPath(pod, container) }, type, reason, message);
}

/** <logs>/<namespace>_<pod>_<uid>, as the kubelet names it: log collectors read the names. */
export function podLogDirectory(logsDir: string, pod: { namespace: string; name: string; uid: string }): string {
  return `${logsDir}/${pod.namespace}_${pod.name}_${pod.uid}`;
}
