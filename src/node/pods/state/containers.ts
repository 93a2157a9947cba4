/** The containers of a pod's specification, told apart. Pure. */
import type { corev1, Pod } from '../../../kube/types.ts';

export type RestartPolicy = 'Always' | 'OnFailure' | 'Never';

/** Whether an init container is a sidecar: it runs on beside the main ones (KEP-753). */
export function isSidecar(container: corev1.Container): boolean {
  return container.restartPolicy === 'Always';
}

export function initContainers(pod: Pod): readonly corev1.Container[] {
  return pod.spec.initContainers ?? [];
}

export function allContainers(pod: Pod): readonly corev1.Container[] {
  return [...initContainers(pod), ...pod.spec.containers];
}

export function findContainer(pod: Pod, name: string): corev1.Container | undefined {
  return allContainers(pod).find((container) => container.name === name);
}

export function isInitContainer(pod: Pod, name: string): boolean {
  return initContainers(pod).some((container) => container.name === name);
}

export function podRestartPolicy(pod: Pod): RestartPolicy {
  return (pod.spec.restartPolicy as RestartPolicy | undefined) ?? 'Always';
}

/** The policy of one container: a regular init container is never repeated once it has succeeded. */
export function restartPolicyOf(pod: Pod, container: corev1.Container): RestartPolicy {
  if (isSidecar(container)) return 'Always';
  const policy = podRestartPolicy(pod);
  if (isInitContainer(pod, container.name)) return policy === 'Never' ? 'Never' : 'OnFailure';
  return policy;
}

/** Whether a container that has ended with the exit code is started again. */
export function restarts(policy: RestartPolicy, exitCode: number): boolean {
  return policy === 'Always' || (policy === 'OnFailure' && exitCode !== 0);
}

/** The events' name of a container within its pod. */
export function fieldPath(pod: Pod, name: string): string {
  return `spec.${isInitContainer(pod, name) ? 'initContainers' : 'containers'}{${name}}`;
}
