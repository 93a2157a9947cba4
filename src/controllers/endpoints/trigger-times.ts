/**
 * When what changed in a Service's endpoints really happened, for the annotation by which Kubernetes measures how long
 * programming takes (`endpoints.kubernetes.io/last-change-trigger-time`): the earliest of the changes since the last write.
 * A pod counts with the last change of its Ready condition, a new Service with its creation.
 *
 * As k8s.io/endpointslice's TriggerTimeTracker: it remembers what it has seen, so an old change is never told twice.
 */
import type { Pod, Service } from '../../kube/types.ts';

export const triggerTimeAnnotation = 'endpoints.kubernetes.io/last-change-trigger-time';

interface Seen {
  readonly service: number;
  readonly pods: ReadonlyMap<string, number>;
}

export class TriggerTimes {
  readonly #seen = new Map<string, Seen>();

  /** Milliseconds since the epoch; undefined when nothing with a time has changed. Notes what it is shown. */
  next(key: string, service: Service, pods: readonly Pod[]): number | undefined {
    const before = this.#seen.get(key);
    const created = Date.parse(service.metadata.creationTimestamp);
    const times = new Map<string, number>();
    const news: number[] = [];
    for (const pod of pods) {
      const at = readyTime(pod);
      if (at === undefined) continue;
      times.set(pod.metadata.name, at);
      if (at > (before?.pods.get(pod.metadata.name) ?? 0)) news.push(at);
    }
    this.#seen.set(key, { service: created, pods: times });
    if (!before) return created;
    if (created > before.service) news.push(created);
    return news.length > 0 ? Math.min(...news) : undefined;
  }

  forget(key: string): void {
    this.#seen.delete(key);
  }
}

function readyTime({ status }: Pod): number | undefined {
  const text = status?.conditions?.find(({ type }) => type === 'Ready')?.lastTransitionTime;
  const time = text ? Date.parse(text) : Number.NaN;
  return Number.isNaN(time) ? undefined : time;
}

/** Go's RFC3339Nano: no fraction that is zero. */
export function formatTriggerTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.?0*Z$/, 'Z');
}
