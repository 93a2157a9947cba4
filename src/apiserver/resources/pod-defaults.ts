/** Defaults of a PodSpec that depend on other fields (k8s.io/kubernetes/pkg/apis/core/v1/defaults.go). */
import type { Pod } from '../../kube/types.ts';
import type { Draftable } from './kind.ts';

export type PodSpecDraft = Draftable<Pod>['spec'];
type Container = PodSpecDraft['containers'][number];

export function defaultPodSpec(spec: PodSpecDraft): void {
  for (const container of [...(spec.initContainers ?? []), ...(spec.containers ?? [])])
    defaultContainer(container, spec);
  for (const container of spec.ephemeralContainers ?? []) defaultContainer(container as Container, spec);
  // The deprecated alias follows the name, and gives it when it stands alone.
  if (!spec.serviceAccountName && spec.serviceAccount) spec.serviceAccountName = spec.serviceAccount;
  if (spec.serviceAccountName) spec.serviceAccount = spec.serviceAccountName;
  for (const volume of spec.volumes ?? []) {
    // A volume without a source is an emptyDir.
    if (Object.keys(volume).length === 1) volume.emptyDir = {};
  }
}

function defaultContainer(container: Container, spec: PodSpecDraft): void {
  container.imagePullPolicy ??= pullPolicyOf(container.image ?? '');
  for (const port of container.ports ?? []) if (spec.hostNetwork && !port.hostPort) port.hostPort = port.containerPort;
  const { limits } = container.resources ?? {};
  if (limits && container.resources) {
    // A limit without a request is also the request.
    container.resources.requests = { ...limits, ...container.resources.requests };
  }
}

/** Always for the tag "latest" (or none, without a digest), else IfNotPresent. */
function pullPolicyOf(image: string): 'Always' | 'IfNotPresent' {
  if (image.includes('@')) return 'IfNotPresent';
  const tag = /:([^/:]+)$/.exec(image)?.[1];
  return tag === undefined || tag === 'latest' ? 'Always' : 'IfNotPresent';
}

type Containers = readonly {
  readonly resources?: { readonly limits?: Record<string, string>; readonly requests?: Record<string, string> };
}[];

/** Guaranteed, Burstable or BestEffort, from the cpu and memory of all containers. */
export function qosClassOf(spec: PodSpecDraft): string {
  const containers = [...(spec.initContainers ?? []), ...(spec.containers ?? [])] as Containers;
  const amounts = containers.map(({ resources }) => ({
    limits: resources?.limits ?? {},
    requests: resources?.requests ?? {},
  }));
  const names = ['cpu', 'memory'];
  const has = (all: Record<string, string>, name: string) => all[name] !== undefined && all[name] !== '0';
  if (!amounts.some((amount) => names.some((name) => has(amount.limits, name) || has(amount.requests, name))))
    return 'BestEffort';
  const guaranteed = amounts.every((amount) =>
    names.every((name) => has(amount.limits, name) && amount.requests[name] === amount.limits[name]),
  );
  return guaranteed ? 'Guaranteed' : 'Burstable';
}
