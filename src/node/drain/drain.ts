/**
 * Lets a pod that is about to stop finish what Services send it. Its containers are told to end only when
 *
 *     1. no EndpointSlice offers it any more            (the API server has the slice, with some resourceVersion)
 *     2. every Ready node has that slice in its rules   (asked of the nodes' agents: sync-client.ts)
 *     3. connections of the last moment had a moment    (LINGER_MS)
 *
 * A node whose agent does not answer is not waited for, beyond a fixed time in which a healthy one would have followed.
 */
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Logger } from '../../base/log.ts';
import type { Informer } from '../../kube/informer.ts';
import type { EndpointSlice, Node, Pod, SliceEndpoint } from '../../kube/types.ts';
import type { SyncClient } from './sync-client.ts';

export interface EndpointDrainOptions {
  readonly slices: Informer<'EndpointSlice'>;
  readonly nodes: Informer<'Node'>;
  readonly sync: Pick<SyncClient, 'waitFor' | 'keepOnly'>;
  readonly log: Logger;
  readonly clock?: Clock;
}

/** Longest wait for the slices, in milliseconds: a pod must end even when their controller does not work. */
const SLICES_MS = 2_000;
const LOOK_MS = 5;
/** Longest wait for the nodes, in milliseconds, and the part of a pod's grace period that it may take. */
const NODES_MS = 10_000;
const NODES_SHARE = 0.5;
/** In this time a node that cannot be asked has followed, if it is healthy, in milliseconds from the slice's change. */
const SILENT_NODES_MS = 500;
/** For what was on its way to the pod when the last node let go: connections to accept, requests to read. */
const LINGER_MS = 100;
const POD_INDEX = 'node/drain: by pod';
const DEFAULT_GRACE_SECONDS = 30;

/** For `PodManager.beforeStop`: resolves when the pod's containers may be told to end. */
export function endpointDrain(options: EndpointDrainOptions): (pod: Pod) => Promise<void> {
  const { slices, nodes, sync, log, clock = systemClock } = options;
  slices.addIndex(POD_INDEX, ({ endpoints }) => (endpoints ?? []).flatMap(({ targetRef }) => targetRef?.uid ?? []));
  const until = async (holds: () => boolean, limitMs: number) => {
    const deadline = clock.now() + limitMs;
    while (!holds() && clock.now() < deadline) await clock.sleep(LOOK_MS);
  };
  return async (pod) => {
    const { uid, name, namespace, deletionGracePeriodSeconds } = pod.metadata;
    const graceMs =
      1000 * (deletionGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS);
    const mentions = () => slices.byIndex(POD_INDEX, uid);
    if (graceMs === 0 || mentions().length === 0) return;
    let version = newest(mentions());
    await until(() => {
      version = Math.max(version, newest(mentions()));
      return !mentions().some((slice) => offers(slice, uid));
    }, SLICES_MS);
    const began = clock.now();
    const addresses = [...nodes.list()].filter(isReady).flatMap(({ status }) => internalAddress(status) ?? []);
    sync.keepOnly(new Set(addresses));
    const timeoutMs = Math.min(NODES_MS, graceMs * NODES_SHARE);
    const outcomes = await Promise.all(addresses.map((address) => sync.waitFor(address, version, timeoutMs)));
    const missing = addresses.filter((_, i) => outcomes[i] !== 'synced');
    if (missing.length > 0) {
      log.info({ pod: `${namespace}/${name}`, nodes: missing }, 'ends although these nodes may still send to it');
      await clock.sleep(Math.max(0, began + SILENT_NODES_MS - clock.now()));
    }
    await clock.sleep(LINGER_MS);
  };
}

function newest(slices: readonly EndpointSlice[]): number {
  return Math.max(0, ...slices.map(({ metadata }) => Number(metadata.resourceVersion) || 0));
}

/** Whether new connections may be sent to the pod by this slice. */
function offers({ endpoints }: EndpointSlice, uid: string): boolean {
  return (endpoints ?? []).some((endpoint) => endpoint.targetRef?.uid === uid && isOffered(endpoint));
}

/** A terminating endpoint that is called ready all the same (publishNotReadyAddresses) stays so to its end. */
function isOffered({ conditions }: SliceEndpoint): boolean {
  return conditions?.ready !== false && conditions?.terminating !== true;
}

function isReady({ status }: Node): boolean {
  return status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') ?? false;
}

function internalAddress(status: Node['status']): string | undefined {
  return status?.addresses?.find(({ type }) => type === 'InternalIP')?.address;
}
