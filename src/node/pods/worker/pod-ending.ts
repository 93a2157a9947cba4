/** The steps by which a pod ends, in the order in which its worker takes them. */
import { rm } from 'node:fs/promises';
import { messageOf } from '../../../base/errors.ts';
import { isConflict, isNotFound } from '../../../kube/status.ts';
import type { Pod } from '../../../kube/types.ts';
import { findContainer, initContainers, isSidecar } from '../state/containers.ts';
import type { ContainerRecord, PodIdentity, PodRuntime } from '../state/pod-runtime.ts';
import { podLogDirectory, type WorkerContext } from './context.ts';

/** terminationGracePeriodSeconds where the pod names none. */
export const DEFAULT_GRACE_SECONDS = 30;

/** Seconds that whoever deleted the pod gives it. */
export function deletionGrace({ metadata, spec }: Pod): number {
  return metadata.deletionGracePeriodSeconds ?? spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS;
}

/** Seconds that a container gets which must end while its pod goes on. */
export function containerGrace(pod: Pod, name: string): number {
  const ofProbe = findContainer(pod, name)?.livenessProbe?.terminationGracePeriodSeconds;
  return ofProbe ?? pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS;
}

/** Lets others prepare for the pod's end; its grace period is the limit. Never rejects. */
export async function beforeStop(context: WorkerContext, pod: Pod, graceSeconds: number): Promise<void> {
  const over = new AbortController();
  const hook = context.beforeStop(pod).catch((error: unknown) => {
    context.log.warn({ pod: pod.metadata.name, error }, `before the pod's stop: ${messageOf(error)}`);
  });
  const limit = context.clock.sleep(graceSeconds * 1000, over.signal).catch(() => {});
  await Promise.race([hook, limit]);
  over.abort();
}

/** Main containers together, then sidecars from the last to the first (KEP-753). */
export async function stopInOrder(
  pod: Pod,
  runtime: PodRuntime,
  stop: (container: ContainerRecord) => Promise<void>,
): Promise<void> {
  const running = runtime.containers.filter(({ state }) => state === 'running' || state === 'unknown');
  const sidecars = initContainers(pod).filter(isSidecar).toReversed();
  const isOfSidecar = (record: ContainerRecord) => sidecars.some(({ name }) => name === record.name);
  await Promise.all(running.filter((record) => !isOfSidecar(record)).map(stop));
  for (const { name } of sidecars) await Promise.all(running.filter((record) => record.name === name).map(stop));
}

/** Lets the API's object go, unless another pod has taken its name. */
export async function deleteObject({ client }: WorkerContext, { namespace, name, uid }: PodIdentity): Promise<void> {
  try {
    await client.delete('Pod', { namespace, name }, { gracePeriodSeconds: 0, preconditions: { uid } });
  } catch (error) {
    if (!isNotFound(error) && !isConflict(error)) throw error;
  }
}

/** Volumes, logs, the control group: all that the pod has on this node beside the runtime. */
export async function removeTraces(context: WorkerContext, pod: Pod): Promise<void> {
  const { uid } = pod.metadata;
  context.config.release(uid);
  await context.volumes.tearDown(uid);
  await rm(podLogDirectory(context.logsDir, pod.metadata), { recursive: true, force: true });
  const parent = context.cgroupParent(pod);
  if (parent) await context.removeCgroup(parent);
}
