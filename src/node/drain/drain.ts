/**
 * Lets a pod that is about to stop finish what Services send it. Its containers are told to end only when
 *
 *     1. every EndpointSlice says that it is ending     (the API server has the slice, with some resourceVersion)
 *     2. every Ready node has that slice in its rules   (asked of the nodes' agents: sync-client.ts)
 *     3. what was on its way has arrived and is answered: QUIET_LOOKS in a row say so (the pod's TCP sockets: quiet.ts)
 *
 * An API server or an agent that stands still for a while is waited for, as long as half of the grace period allows. Only
 * a node that has never answered is not, beyond a short time in which a healthy one would have followed.
 */
import { type Clock, systemClock } from '../../base/clock.ts';
import { ClockJumps } from '../../base/clock-jumps.ts';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { isReady } from '../../kube/conditions.ts';
import type { Informer } from '../../kube/informer.ts';
import { keyOf } from '../../kube/names.ts';
import { internalAddresses } from '../../kube/node-addresses.ts';
import { fromMap, matches } from '../../kube/selectors.ts';
import type { EndpointSlice, Pod, Service, SliceEndpoint } from '../../kube/types.ts';
import type { TcpSocket } from '../../linux/sock-diag.ts';
import { requestsInFlight, trafficOf } from './quiet.ts';
import type { SyncClient } from './sync-client.ts';

export interface EndpointDrainOptions {
  readonly services: Informer<'Service'>;
  readonly slices: Informer<'EndpointSlice'>;
  readonly nodes: Informer<'Node'>;
  readonly sync: Pick<SyncClient, 'waitFor' | 'keepOnly'>;
  /** The TCP sockets in the pod's network; undefined where it has none of its own. */
  readonly sockets?: (pod: Pod) => readonly TcpSocket[] | undefined;
  readonly log: Logger;
  readonly clock?: Clock;
}

/** The part of a pod's grace period that the slices and the nodes may take. */
const SHARE = 0.5;
/** Longest wait for slices that nobody may keep: written by hand, or not yet there, in milliseconds. */
const UNKEPT_MS = 2_000;
const LOOK_MS = 5;
/** A look that is so late, in milliseconds, says that this machine stood still: the others did as well. */
const STARVED_MS = 100;
/** In this time a node that cannot be asked has followed, if it is healthy, in milliseconds from the slice's change. */
const SILENT_NODES_MS = 500;
/**
 * So many looks in a row must find the pod quiet: time for what was on its way when the last node let go, and for answers
 * that come in parts. A look costs the kernel a walk over all of the machine's sockets, about 3 ms.
 */
const QUIET_LOOKS = 3;
const QUIET_LOOK_MS = 50;
/** Looks at a pod with very many connections come more slowly: they may take this part of a processor. */
const LOOKS_SHARE = 0.2;
/**
 * Longest wait for a pod that is never quiet, in milliseconds. It is the sum of the pauses, and not a time: a machine that
 * stands still takes nothing from it.
 */
const LONGEST_QUIET_MS = 2_000;
const POD_INDEX = 'node/drain: by pod';
const DEFAULT_GRACE_SECONDS = 30;
const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by';
/** Its slices follow every pod: an ending one is called terminating, or is gone from them. */
const SLICE_CONTROLLER = 'endpointslice-controller.k8s.io';

/** For `PodManager.beforeStop`: resolves when the pod's containers may be told to end. */
export function endpointDrain(options: EndpointDrainOptions): (pod: Pod) => Promise<void> {
  const { services, slices, nodes, sync, log, clock = systemClock } = options;
  slices.addIndex(POD_INDEX, ({ endpoints }) => (endpoints ?? []).flatMap(({ targetRef }) => targetRef?.uid ?? []));
  return async (pod) => {
    const { uid, name, namespace, deletionGracePeriodSeconds } = pod.metadata;
    const graceMs =
      1000 * (deletionGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS);
    const expected = isServed(pod, services.list());
    const seen = new Set<string>();
    const mentions = () => {
      const now = slices.byIndex(POD_INDEX, uid);
      for (const slice of now) seen.add(keyOf(slice));
      return now;
    };
    if (graceMs === 0 || (mentions().length === 0 && !expected)) return;
    const longest = graceMs * SHARE;
    const unkept = Math.min(longest, UNKEPT_MS);
    /** For so many milliseconds the slices that mention the pod are waited for. */
    const patience = () => {
      const now = mentions();
      if (seen.size === 0) return expected ? unkept : 0;
      if (now.some((slice) => isKept(slice) && !isLetGo(slice, uid))) return longest;
      return now.some((slice) => !isLetGo(slice, uid)) ? unkept : 0;
    };
    const jumps = new ClockJumps(clock, STARVED_MS);
    let began = clock.now();
    while (clock.now() < began + patience()) {
      await clock.sleep(LOOK_MS);
      began += jumps.look();
    }
    if (seen.size === 0) return;
    const version = newest([...seen].flatMap((key) => slices.get(key) ?? []));
    const addresses = [...nodes.list()].filter(isReady).flatMap((node) => internalAddresses(node).slice(0, 1));
    sync.keepOnly(new Set(addresses));
    const asked = clock.now();
    const timeoutMs = Math.max(SILENT_NODES_MS, began + longest - asked);
    const outcomes = await Promise.all(addresses.map((address) => sync.waitFor(address, version, timeoutMs)));
    const missing = addresses.filter((_, i) => outcomes[i] !== 'synced');
    if (missing.length > 0) {
      log.info({ pod: `${namespace}/${name}`, nodes: missing }, 'ends although these nodes may still send to it');
      await clock.sleep(Math.max(0, asked + SILENT_NODES_MS - clock.now()));
    }
    await quiet(pod, Math.min(LONGEST_QUIET_MS, longest), options);
  };
}

/** Resolves when the pod has answered what it was asked over TCP, or after pauses of so many milliseconds in all. */
async function quiet(pod: Pod, longestMs: number, options: EndpointDrainOptions): Promise<void> {
  const { log, clock = systemClock } = options;
  const jumps = new ClockJumps(clock, STARVED_MS);
  let traffic: string | undefined;
  let inFlight = 0;
  let inRow = 0;
  let pause = QUIET_LOOK_MS;
  for (let leftMs = longestMs; leftMs > 0; leftMs -= pause) {
    const began = clock.now();
    const all = look(pod, options);
    const before = traffic;
    traffic = trafficOf(all);
    inFlight = requestsInFlight(all).length;
    const stoodStill = jumps.look() > pause;
    const isQuiet = inFlight === 0 && (before === undefined || before === traffic);
    inRow = isQuiet && !stoodStill ? inRow + 1 : 0;
    if (inRow >= QUIET_LOOKS) return;
    pause = Math.max(QUIET_LOOK_MS, (clock.now() - began) / LOOKS_SHARE);
    await clock.sleep(pause);
  }
  log.info({ pod: keyOf(pod), inFlight }, 'ends although it may have requests to answer');
}

/** None where the kernel does not tell: such a pod gets the time of the looks alone. */
function look(pod: Pod, { sockets, log }: EndpointDrainOptions): readonly TcpSocket[] {
  try {
    return sockets?.(pod) ?? [];
  } catch (error) {
    log.debug({ pod: keyOf(pod), error }, `the pod's sockets: ${messageOf(error)}`);
    return [];
  }
}

/** Whether slices can be expected to mention the pod: it was ready, and some Service selects it. */
function isServed(pod: Pod, services: Iterable<Service>): boolean {
  const { metadata } = pod;
  if (!isReady(pod)) return false;
  for (const { metadata: own, spec } of services) {
    if (own.namespace !== metadata.namespace || spec.type === 'ExternalName') continue;
    const selector = fromMap(spec.selector);
    if (selector.length > 0 && matches(selector, metadata.labels)) return true;
  }
  return false;
}

function newest(slices: readonly EndpointSlice[]): number {
  return Math.max(0, ...slices.map(({ metadata }) => Number(metadata.resourceVersion) || 0));
}

function isKept({ metadata }: EndpointSlice): boolean {
  return metadata.labels?.[MANAGED_BY_LABEL] === SLICE_CONTROLLER;
}

/**
 * Whether the slice knows of the pod's end. One that is kept says so: that it calls the pod not ready may be from before it
 * was. A terminating endpoint that is called ready all the same (publishNotReadyAddresses) stays so to its end.
 */
function isLetGo(slice: EndpointSlice, uid: string): boolean {
  const isEnding = ({ conditions }: SliceEndpoint) =>
    conditions?.terminating === true || (conditions?.ready === false && !isKept(slice));
  return (slice.endpoints ?? []).every((endpoint) => endpoint.targetRef?.uid !== uid || isEnding(endpoint));
}
