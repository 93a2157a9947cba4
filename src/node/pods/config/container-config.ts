/** Pod and container -> the CRI's ContainerConfig. Pure. */
import type { corev1, Pod } from '../../../kube/types.ts';
import type { ContainerConfig, Mount } from '../cri/types.ts';
import { expand } from '../env/expansion.ts';
import {
  CONTAINER_NAME_LABEL,
  containerHash,
  GRACE_PERIOD_ANNOTATION,
  HASH_ANNOTATION,
  podLabels,
  RESTART_COUNT_ANNOTATION,
  TERMINATION_PATH_ANNOTATION,
  TERMINATION_POLICY_ANNOTATION,
} from './labels.ts';
import { containerResources } from './resources.ts';
import { containerSecurity, type ImageUser } from './security.ts';

export const DEFAULT_TERMINATION_PATH = '/dev/termination-log';

export interface ContainerInput {
  readonly pod: Pod;
  readonly container: corev1.Container;
  readonly attempt: number;
  /** The image's id: pulling another image under the same name meanwhile changes nothing. */
  readonly imageRef: string;
  readonly imageUser: ImageUser;
  readonly environment: ReadonlyMap<string, string>;
  readonly mounts: readonly Mount[];
  /** The node's memory in bytes. */
  readonly nodeMemory: number;
}

export function buildContainerConfig(input: ContainerInput): ContainerConfig {
  const { pod, container, attempt, environment } = input;
  const expanded = (texts: readonly string[] | undefined) =>
    (texts ?? []).map((text) => expand(text, (name) => environment.get(name)));
  return {
    metadata: { name: container.name, attempt },
    image: { image: input.imageRef },
    command: expanded(container.command),
    args: expanded(container.args),
    workingDir: container.workingDir ?? '',
    envs: [...environment].map(([key, value]) => ({ key, value })),
    mounts: input.mounts,
    labels: { [CONTAINER_NAME_LABEL]: container.name, ...podLabels(pod) },
    annotations: containerAnnotations(pod, container, attempt),
    logPath: logPath(container.name, attempt),
    stdin: container.stdin ?? false,
    stdinOnce: container.stdinOnce ?? false,
    tty: container.tty ?? false,
    linux: {
      resources: containerResources(pod.spec, container, input.nodeMemory),
      securityContext: containerSecurity(pod, container, input.imageUser),
    },
  };
}

/** Below the sandbox's log directory. */
export function logPath(container: string, attempt: number): string {
  return `${container}/${attempt}.log`;
}

function containerAnnotations(pod: Pod, container: corev1.Container, attempt: number): Record<string, string> {
  return {
    [HASH_ANNOTATION]: containerHash(container),
    [RESTART_COUNT_ANNOTATION]: String(attempt),
    [TERMINATION_PATH_ANNOTATION]: container.terminationMessagePath ?? DEFAULT_TERMINATION_PATH,
    [TERMINATION_POLICY_ANNOTATION]: container.terminationMessagePolicy ?? 'File',
    [GRACE_PERIOD_ANNOTATION]: String(pod.spec.terminationGracePeriodSeconds ?? 30),
  };
}
