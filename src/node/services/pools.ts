/**
 * Which endpoints of a Service port serve on this node: kube-proxy's CategorizeEndpoints (KEP-1669, KEP-2086, KEP-2433,
 * KEP-3015, KEP-4444).
 */
import type { NodeView, Policies } from './model.ts';
import type { SliceEndpoint } from './slices.ts';

export interface Pools {
  /** For everybody under policy Cluster, and for pods and the node under externalTrafficPolicy Local. */
  readonly cluster: readonly SliceEndpoint[];
  /** This node's, for the policies named Local. */
  readonly local: readonly SliceEndpoint[];
  /** This node's that are ready, whatever the policies: what a health check counts. */
  readonly localReady: readonly SliceEndpoint[];
  /** Whether any endpoint anywhere could serve: decides between reject and drop. */
  readonly any: boolean;
}

const byAddress = (a: SliceEndpoint, b: SliceEndpoint): number =>
  a.address < b.address ? -1 : a.address > b.address ? 1 : a.port - b.port;

const isLocal = (endpoint: SliceEndpoint): boolean => endpoint.local;
const isReady = (endpoint: SliceEndpoint): boolean => endpoint.ready;
/** Shutting down, but still answering: used when nothing is ready any more. */
const isDraining = (endpoint: SliceEndpoint): boolean => endpoint.serving && endpoint.terminating && !endpoint.ready;

const NONE: readonly SliceEndpoint[] = [];

/** The ready ones, or else those that drain. */
function available(endpoints: readonly SliceEndpoint[]): readonly SliceEndpoint[] {
  const ready = only(endpoints, isReady);
  return ready.length > 0 ? ready : only(endpoints, isDraining);
}

/** Those that hold; the list itself where all do, as mostly. */
function only(endpoints: readonly SliceEndpoint[], holds: (endpoint: SliceEndpoint) => boolean) {
  if (endpoints.every(holds)) return endpoints;
  return endpoints.some(holds) ? endpoints.filter(holds) : NONE;
}

function inOrder(endpoints: readonly SliceEndpoint[]): readonly SliceEndpoint[] {
  for (let i = 1; i < endpoints.length; i++)
    if (byAddress(endpoints[i - 1]!, endpoints[i]!) > 0) return endpoints.toSorted(byAddress);
  return endpoints;
}

/** Sorts endpoints into pools; every pool is ordered by address and port. */
export function choosePools(endpoints: readonly SliceEndpoint[], policies: Policies, node: NodeView): Pools {
  const sorted = inOrder(endpoints);
  const usable = available(sorted);
  const own = only(sorted, isLocal);
  const usesCluster = !policies.internalLocal || policies.external;
  return {
    cluster: usesCluster ? nearest(usable, node) : NONE,
    local: available(own),
    localReady: only(own, isReady),
    any: usable.length > 0,
  };
}

/**
 * The part of the endpoints that the slices' hints keep for this node or its zone. Hints count only while every ready
 * endpoint has them and one of them is ours: otherwise all endpoints serve. Draining endpoints ignore hints.
 */
function nearest(endpoints: readonly SliceEndpoint[], node: NodeView): readonly SliceEndpoint[] {
  if (!endpoints.every(isReady)) return endpoints;
  if (endpoints.every((endpoint) => endpoint.nodeHints)) {
    const own = endpoints.filter((endpoint) => endpoint.nodeHints?.includes(node.name));
    if (own.length > 0) return own;
  }
  const { zone } = node;
  if (zone === undefined || !endpoints.every((endpoint) => endpoint.zoneHints)) return endpoints;
  const own = endpoints.filter((endpoint) => endpoint.zoneHints?.includes(zone));
  return own.length > 0 ? own : endpoints;
}
