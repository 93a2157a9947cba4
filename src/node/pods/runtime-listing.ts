/** A listing of the runtime, by pod. Pure. */
import type { Pod } from '../../kube/types.ts';
import type { Container, PodSandbox } from './cri/types.ts';
import { identityOf, type PodIdentity } from './state/pod-runtime.ts';

export interface OfPod {
  readonly identity: PodIdentity;
  readonly sandboxes: PodSandbox[];
  readonly containers: Container[];
}

/** By uid. */
export type Listing = ReadonlyMap<string, OfPod>;

export function groupByPod(sandboxes: readonly PodSandbox[], containers: readonly Container[]): Listing {
  const pods = new Map<string, OfPod>();
  const of = (labels: PodSandbox['labels']): OfPod | undefined => {
    const identity = identityOf(labels);
    if (!identity) return undefined;
    let pod = pods.get(identity.uid);
    if (!pod) {
      pod = { identity, sandboxes: [], containers: [] };
      pods.set(identity.uid, pod);
    }
    return pod;
  };
  for (const sandbox of sandboxes) of(sandbox.labels)?.sandboxes.push(sandbox);
  for (const container of containers) of(container.labels)?.containers.push(container);
  return pods;
}

/** Stands for the object of a pod that only the runtime knows: enough to take it down. */
export function orphan({ namespace, name, uid }: PodIdentity): Pod {
  const metadata = { namespace, name, uid, resourceVersion: '0', creationTimestamp: new Date(0).toISOString() };
  return { apiVersion: 'v1', kind: 'Pod', metadata, spec: { containers: [] } };
}
