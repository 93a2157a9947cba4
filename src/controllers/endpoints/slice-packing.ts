/**
 * Packs endpoints into EndpointSlices with the fewest writes. Pure.
 *
 * Endpoints are grouped by their port numbers. Within a group an endpoint stays in the slice it is in; new ones fill the slices
 * that are written anyway, then the slice with the least room left over, then new slices; a slice that has become empty is
 * used for a new one before anything is created or deleted. What the slices hold together depends on the groups alone, how
 * they are cut on history.
 */
import type { Labels } from '../../kube/selectors.ts';
import type { Draft, discoveryv1, EndpointSlice, OwnerReference, SliceEndpoint } from '../../kube/types.ts';
import type { AddressType } from './endpoint-of-pod.ts';
import { formatTriggerTime, triggerTimeAnnotation } from './trigger-times.ts';

export const serviceNameLabel = 'kubernetes.io/service-name';
export const managedByLabel = 'endpointslice.kubernetes.io/managed-by';

/** Kubernetes' --max-endpoints-per-slice. */
export const maxEndpointsPerSlice = 100;

type Endpoint = SliceEndpoint;
type EndpointPort = discoveryv1.EndpointPort;

export interface SliceChanges {
  readonly create: readonly Draft<EndpointSlice>[];
  readonly update: readonly EndpointSlice[];
  readonly delete: readonly EndpointSlice[];
}

/** Endpoints with equal ports, by what identifies them. */
interface Group {
  readonly ports: readonly EndpointPort[];
  readonly endpoints: Map<string, Endpoint>;
}

export class EndpointGroups {
  readonly byPorts = new Map<string, Group>();

  add(ports: readonly EndpointPort[], endpoint: Endpoint): void {
    const key = portsKey(ports);
    const group = this.byPorts.get(key) ?? { ports, endpoints: new Map() };
    this.byPorts.set(key, group);
    group.endpoints.set(endpointKey(endpoint), endpoint);
  }
}

export interface PackInput {
  readonly addressType: AddressType;
  /** Used up by packing. */
  readonly groups: EndpointGroups;
  /** The slices there are; those of other families are not looked at. */
  readonly existing: readonly EndpointSlice[];
  readonly service: { readonly name: string; readonly namespace: string };
  readonly labels: Labels;
  readonly owner: OwnerReference;
  /** Whether a family without any endpoint still has one slice, which says that the controller has looked. */
  readonly emptySlice: boolean;
  /** When what is written happened (milliseconds since the epoch), if known: it becomes an annotation of what is written. */
  readonly changedAt?: number | undefined;
}

export function packSlices(input: PackInput): SliceChanges {
  const { groups, labels } = input;
  const plans: Plan[] = [];
  const free: EndpointSlice[] = [];
  for (const slice of sortedByName(input.existing)) {
    // A slice that is being deleted cannot be relied on.
    if (slice.addressType !== input.addressType || slice.metadata.deletionTimestamp) continue;
    const group = groups.byPorts.get(portsKey(slice.ports ?? []));
    const plan = group && keepWhatIsWanted(slice, group, labels);
    if (plan && plan.endpoints.length > 0) plans.push(plan);
    else free.push(slice);
  }
  const created: NewSlice[] = [];
  for (const group of groups.byPorts.values()) {
    const own = plans.filter((plan) => portsKey(plan.slice.ports ?? []) === portsKey(group.ports));
    created.push(...placeRest(group, own));
  }
  if (input.emptySlice && plans.length + created.length === 0) created.push({ ports: [], endpoints: [] });
  return withRecycling(input, { plans, created, free });
}

/** What remains of a slice that exists. */
interface Plan {
  readonly slice: EndpointSlice;
  readonly endpoints: Endpoint[];
  /** Whether it must be written. */
  changed: boolean;
}

interface NewSlice {
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
}

/** Takes out of the group what the slice holds already, in its newest form. */
function keepWhatIsWanted(slice: EndpointSlice, group: Group, labels: Labels): Plan {
  const plan: Plan = { slice, endpoints: [], changed: !sameLabels(slice.metadata.labels, labels) };
  for (const endpoint of slice.endpoints ?? []) {
    const key = endpointKey(endpoint);
    const wanted = plan.endpoints.length < maxEndpointsPerSlice ? group.endpoints.get(key) : undefined;
    if (!wanted) {
      plan.changed = true;
      continue;
    }
    group.endpoints.delete(key);
    plan.endpoints.push(wanted);
    if (!equal(endpoint, wanted)) plan.changed = true;
  }
  return plan;
}

/** Places the endpoints of a group that are in no slice yet; gives the slices that must be added. */
function placeRest(group: Group, plans: readonly Plan[]): readonly NewSlice[] {
  const rest = [...group.endpoints.values()];
  const fill = (plan: Plan) => {
    const taken = rest.splice(0, maxEndpointsPerSlice - plan.endpoints.length);
    if (taken.length > 0) plan.changed = true;
    plan.endpoints.push(...taken);
  };
  // Fullest first, so that few slices end up with room.
  const byFullness = [...plans].sort((a, b) => b.endpoints.length - a.endpoints.length);
  for (const plan of byFullness.filter((one) => one.changed)) fill(plan);
  const created: NewSlice[] = [];
  while (rest.length > 0) {
    const fitting = byFullness.find((plan) => plan.endpoints.length + rest.length <= maxEndpointsPerSlice);
    if (fitting) fill(fitting);
    else created.push({ ports: group.ports, endpoints: rest.splice(0, maxEndpointsPerSlice) });
  }
  return created;
}

interface Placement {
  readonly plans: readonly Plan[];
  readonly created: readonly NewSlice[];
  readonly free: readonly EndpointSlice[];
}

/** Writes new slices over those that have become empty before creating and deleting any. */
function withRecycling(input: PackInput, placement: Placement): SliceChanges {
  const { labels } = input;
  const withContent = (slice: EndpointSlice, content: NewSlice) => changedSlice(input, slice, content);
  const update = placement.plans
    .filter((plan) => plan.changed)
    .map(({ slice, endpoints }) => withContent(slice, { ports: slice.ports ?? [], endpoints }));
  const free = [...placement.free];
  const create: Draft<EndpointSlice>[] = [];
  for (const content of placement.created) {
    const same = free.findIndex((slice) => portsKey(slice.ports ?? []) === portsKey(content.ports));
    const [slice] = free.splice(Math.max(0, same), 1);
    if (!slice) create.push(draftOf(input, content));
    else if (!holds(slice, labels, content)) update.push(withContent(slice, content));
  }
  return { create, update, delete: free };
}

function holds(slice: EndpointSlice, labels: Labels, { ports, endpoints }: NewSlice): boolean {
  return (
    sameLabels(slice.metadata.labels, labels) &&
    portsKey(slice.ports ?? []) === portsKey(ports) &&
    equal(slice.endpoints ?? [], endpoints)
  );
}

function changedSlice(input: PackInput, slice: EndpointSlice, { ports, endpoints }: NewSlice): EndpointSlice {
  const { [triggerTimeAnnotation]: _old, ...others } = slice.metadata.annotations ?? {};
  const metadata = { ...slice.metadata, labels: input.labels, annotations: { ...others, ...triggerTime(input) } };
  return { ...slice, metadata, ports: [...ports], endpoints: [...endpoints] };
}

function triggerTime({ changedAt }: PackInput): Record<string, string> {
  return changedAt === undefined ? {} : { [triggerTimeAnnotation]: formatTriggerTime(changedAt) };
}

function draftOf(input: PackInput, content: NewSlice): Draft<EndpointSlice> {
  const { service, addressType, labels, owner } = input;
  const place = { generateName: `${service.name}-`, namespace: service.namespace };
  return {
    metadata: { ...place, labels, annotations: triggerTime(input), ownerReferences: [owner] },
    addressType,
    ports: [...content.ports],
    endpoints: [...content.endpoints],
  };
}

function endpointKey(endpoint: Endpoint): string {
  return `${endpoint.targetRef?.uid ?? ''} ${endpoint.addresses[0] ?? ''}`;
}

/** Equal for lists that hold the same ports in any order. */
function portsKey(ports: readonly EndpointPort[]): string {
  return ports
    .map(({ name, port, protocol, appProtocol }) =>
      JSON.stringify([name ?? '', port ?? null, protocol ?? 'TCP', appProtocol ?? null]),
    )
    .sort()
    .join();
}

function sortedByName(slices: readonly EndpointSlice[]): readonly EndpointSlice[] {
  return [...slices].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

function sameLabels(a: Labels | undefined, b: Labels): boolean {
  const keys = Object.keys(a ?? {});
  return keys.length === Object.keys(b).length && keys.every((key) => a![key] === b[key]);
}

/** Deep equality of JSON values; the order of an object's keys does not count. */
function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  const keys = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => equal((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
}
