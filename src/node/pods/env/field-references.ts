/** fieldRef and resourceFieldRef: what a pod may be told of itself, in env and in downwardAPI volumes. Pure. */
import { quantityRatio } from '../../../kube/quantity.ts';
import type { corev1, Pod } from '../../../kube/types.ts';
import { ContainerConfigError } from '../config-error.ts';

/** What is known of the pod beside its object: the object's own status may lag behind. */
export interface PodFacts {
  readonly pod: Pod;
  readonly podIPs: readonly string[];
  readonly hostIPs: readonly string[];
  /** The node's allocatable resources, for limits that are not set: "cpu" -> "2" … */
  readonly allocatable: Readonly<Record<string, string>>;
}

const SUBSCRIPT = /^metadata\.(labels|annotations)\['([^']+)'\]$/;

/** The value of a field path. Throws ContainerConfigError for a path that pods cannot be told of. */
export function fieldValue(path: string, { pod, podIPs, hostIPs }: PodFacts): string {
  const subscript = SUBSCRIPT.exec(path);
  if (subscript) {
    const map = subscript[1] === 'labels' ? pod.metadata.labels : pod.metadata.annotations;
    return ownValue(map, subscript[2]!) ?? '';
  }
  switch (path) {
    case 'metadata.name':
      return pod.metadata.name;
    case 'metadata.namespace':
      return pod.metadata.namespace;
    case 'metadata.uid':
      return pod.metadata.uid;
    case 'metadata.labels':
      return formatMap(pod.metadata.labels);
    case 'metadata.annotations':
      return formatMap(pod.metadata.annotations);
    case 'spec.nodeName':
      return pod.spec.nodeName ?? '';
    case 'spec.serviceAccountName':
      return pod.spec.serviceAccountName ?? 'default';
    case 'spec.restartPolicy':
      return pod.spec.restartPolicy ?? 'Always';
    case 'status.hostIP':
      return hostIPs[0] ?? '';
    case 'status.hostIPs':
      return hostIPs.join(',');
    case 'status.podIP':
      return podIPs[0] ?? '';
    case 'status.podIPs':
      return podIPs.join(',');
    default:
      throw new ContainerConfigError(`unsupported fieldPath: ${path}`);
  }
}

function ownValue(map: { readonly [name: string]: string } | undefined, key: string): string | undefined {
  return map && Object.hasOwn(map, key) ? map[key] : undefined;
}

/** `key="escaped value"` lines, sorted by key, as the downward API writes maps. */
export function formatMap(map: { readonly [name: string]: string } | undefined): string {
  return Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

/** The value of a resourceFieldRef; `containerName` is the container it stands in, when it names none. */
export function resourceFieldValue(
  reference: corev1.ResourceFieldSelector,
  containerName: string | undefined,
  facts: PodFacts,
): string {
  const name = reference.containerName || containerName;
  const containers = [...facts.pod.spec.containers, ...(facts.pod.spec.initContainers ?? [])];
  const container = containers.find((candidate) => candidate.name === name);
  if (!container) throw new ContainerConfigError(`container ${name ?? ''} not found`);
  const [kind, resource] = split(reference.resource);
  const { limits = {}, requests = {} } = container.resources ?? {};
  const amount =
    kind === 'limits'
      ? (limits[resource] ?? facts.allocatable[resource] ?? '0')
      : (requests[resource] ?? limits[resource] ?? '0');
  const divisor = String(reference.divisor ?? '1');
  return String(quantityRatio(String(amount), divisor === '0' ? '1' : divisor));
}

function split(resource: string): readonly ['limits' | 'requests', string] {
  const match = /^(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-.+)$/.exec(resource);
  if (!match) throw new ContainerConfigError(`unsupported container resource : ${resource}`);
  return [match[1] as 'limits' | 'requests', match[2]!];
}
