/**
 * The labels and annotations by which sandboxes and containers are known to the runtime. They are the kubelet's own
 * (pkg/kubelet/types/labels.go, kuberuntime/labels.go), so crictl shows what one expects, and they are all the state
 * that is needed to adopt running pods after a restart of the agent.
 */
import { createHash } from 'node:crypto';
import type { corev1, Pod } from '../../../kube/types.ts';

export const POD_NAME_LABEL = 'io.kubernetes.pod.name';
export const POD_NAMESPACE_LABEL = 'io.kubernetes.pod.namespace';
export const POD_UID_LABEL = 'io.kubernetes.pod.uid';
export const CONTAINER_NAME_LABEL = 'io.kubernetes.container.name';

export const HASH_ANNOTATION = 'io.kubernetes.container.hash';
export const RESTART_COUNT_ANNOTATION = 'io.kubernetes.container.restartCount';
export const TERMINATION_PATH_ANNOTATION = 'io.kubernetes.container.terminationMessagePath';
export const TERMINATION_POLICY_ANNOTATION = 'io.kubernetes.container.terminationMessagePolicy';
export const GRACE_PERIOD_ANNOTATION = 'io.kubernetes.pod.terminationGracePeriod';

export function podLabels(pod: Pod): Record<string, string> {
  const { name, namespace, uid } = pod.metadata;
  return { [POD_NAME_LABEL]: name, [POD_NAMESPACE_LABEL]: namespace, [POD_UID_LABEL]: uid };
}

/** Changes when the container must be replaced: of the mutable fields of a running pod that is the image. */
export function containerHash(container: corev1.Container): string {
  const text = JSON.stringify([container.name, container.image]);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
