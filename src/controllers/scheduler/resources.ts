/** What pods ask for and nodes have, as numbers: cpu in millicores, everything else in whole units. */
import { quantityMilli, quantityValue } from '../../kube/quantity.ts';
import type { Node, Pod, PodSpec } from '../../kube/types.ts';

export type Resources = ReadonlyMap<string, number>;

type ResourceList = Readonly<Record<string, string>>;
type Container = PodSpec['containers'][number];

/** kubelet's default of --max-pods: for nodes that do not say how many pods they take. */
const defaultMaxPods = 110;

/** A list of quantities as numbers; quantities that cannot be read count as absent. */
function parseResources(list: ResourceList | undefined): Map<string, number> {
  const resources = new Map<string, number>();
  for (const [name, quantity] of Object.entries(list ?? {})) {
    try {
      resources.set(name, name === 'cpu' ? quantityMilli(quantity) : quantityValue(quantity));
    } catch {
      // The API server validates quantities; one that slipped through must not stop the scheduler.
    }
  }
  return resources;
}

export function addResources(into: Map<string, number>, other: Resources, sign: 1 | -1 = 1): void {
  for (const [name, amount] of other) into.set(name, (into.get(name) ?? 0) + sign * amount);
}

function maxResources(into: Map<string, number>, other: Resources): void {
  for (const [name, amount] of other) into.set(name, Math.max(into.get(name) ?? 0, amount));
}

/**
 * What the pod needs at most at any time (KEP-753): its containers and sidecars together, or one init container with the
 * sidecars started before it, whichever is more; plus its overhead.
 */
export function podRequests(pod: Pod): Resources {
  const total = new Map<string, number>();
  const sidecars = new Map<string, number>();
  const initial = new Map<string, number>();
  for (const container of pod.spec.containers) addResources(total, requestsOf(container));
  for (const container of pod.spec.initContainers ?? []) {
    const requests = requestsOf(container);
    if (container.restartPolicy === 'Always') {
      addResources(total, requests);
      addResources(sidecars, requests);
      maxResources(initial, sidecars);
    } else {
      const together = new Map(sidecars);
      addResources(together, requests);
      maxResources(initial, together);
    }
  }
  maxResources(total, initial);
  addResources(total, parseResources(pod.spec.overhead));
  return total;
}

/** A limit without a request is the request too (the API server defaults it so). */
function requestsOf(container: Container): Resources {
  return parseResources({ ...container.resources?.limits, ...container.resources?.requests });
}

export interface NodeCapacity {
  readonly resources: Resources;
  readonly pods: number;
}

export function nodeCapacity(node: Node): NodeCapacity {
  const resources = parseResources(node.status?.allocatable ?? node.status?.capacity);
  const pods = resources.get('pods') ?? defaultMaxPods;
  return { resources, pods };
}
