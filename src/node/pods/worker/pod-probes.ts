/** The probes of all running containers of a pod, and what they say. */
import type { corev1, Pod } from '../../../kube/types.ts';
import { runCheck } from '../probes/check.ts';
import { ContainerProbes } from '../probes/container-probes.ts';
import { allContainers, isInitContainer, isSidecar } from '../state/containers.ts';
import type { ContainerRecord, PodRuntime } from '../state/pod-runtime.ts';
import { containerEvent, type WorkerContext } from './context.ts';

export class PodProbes {
  readonly #context: WorkerContext;
  readonly #onChange: () => void;
  readonly #probes = new Map<string, ContainerProbes>();

  constructor(context: WorkerContext, onChange: () => void) {
    this.#context = context;
    this.#onChange = onChange;
  }

  readonly hasStarted = (containerId: string): boolean => this.#probes.get(containerId)?.started ?? true;
  readonly isReady = (containerId: string): boolean => this.#probes.get(containerId)?.ready ?? true;
  readonly unhealthy = (containerId: string): string | undefined => this.#probes.get(containerId)?.unhealthy;

  /** Begins and ends probes as containers come and go. */
  update(pod: Pod, runtime: PodRuntime, podIP: string | undefined): void {
    const alive = new Set<string>();
    for (const container of allContainers(pod)) {
      // Regular init containers have no probes.
      if (isInitContainer(pod, container.name) && !isSidecar(container)) continue;
      if (!container.startupProbe && !container.readinessProbe && !container.livenessProbe) continue;
      for (const record of runtime.containers) {
        if (record.name !== container.name || record.state !== 'running') continue;
        alive.add(record.id);
        if (!this.#probes.has(record.id)) this.#probes.set(record.id, this.#begin(pod, container, record, podIP));
      }
    }
    for (const [id, probes] of this.#probes) {
      if (alive.has(id)) continue;
      probes.stop();
      this.#probes.delete(id);
    }
  }

  stop(): void {
    for (const probes of this.#probes.values()) probes.stop();
  }

  #begin(pod: Pod, container: corev1.Container, record: ContainerRecord, podIP: string | undefined): ContainerProbes {
    const { runtime, clock } = this.#context;
    const { containerStatuses = [], initContainerStatuses = [] } = pod.status ?? {};
    const known = [...containerStatuses, ...initContainerStatuses].find(
      ({ containerID }) => containerID === `containerd://${record.id}`,
    );
    return new ContainerProbes({
      container,
      startedAt: record.startedAt,
      clock,
      check: (probe) => runCheck(probe, { runtime, containerId: record.id, container, podIP }),
      onChange: this.#onChange,
      onFailure: (message) => containerEvent(this.#context, pod, container.name, 'Warning', 'Unhealthy', message),
      ...(known ? { initial: { started: known.started ?? false, ready: known.ready } } : {}),
    });
  }
}
