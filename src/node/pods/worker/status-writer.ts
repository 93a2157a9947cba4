/**
 * Writes one pod's status to the API: at once, in order, one request at a time. While one is under way only the newest
 * later status is kept, so what the API shows never goes back and a storm of changes becomes two requests.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Clock, Timer } from '../../../base/clock.ts';
import { messageOf } from '../../../base/errors.ts';
import type { Logger } from '../../../base/log.ts';
import type { KubeClient } from '../../../kube/client.ts';
import { isConflict, isInvalid, isNotFound } from '../../../kube/status.ts';
import type { Pod, PodStatus } from '../../../kube/types.ts';

export interface StatusWriterOptions {
  readonly client: Pick<KubeClient, 'patch'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** The server's answer: newer than what the informer has for a moment. */
  readonly onWritten: (pod: Pod) => void;
  /** Somebody else has changed the status meanwhile: it must be built anew. */
  readonly onConflict: () => void;
}

/**
 * now: somebody may wait for it. soon: it tells only that a start is under way, and a start is short: it waits for what
 * comes of it, so that most pods cost one request less while they start.
 */
export type Urgency = 'now' | 'soon';

/** How long a status of little urgency waits for a newer one. */
const SOON_MS = 1_000;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;
const CONFLICT_WAIT_MS = 20;
/** Whoever insists on another status is answered no more often than this. */
const REPAIR_INTERVAL_MS = 1_000;

export class StatusWriter {
  readonly #options: StatusWriterOptions;
  #written: PodStatus | undefined;
  /** The resourceVersion that our last write gave the pod. */
  #writtenVersion = 0;
  #repairedAt = Number.NEGATIVE_INFINITY;
  #lookAgain = false;
  #wanted: { pod: Pod; status: PodStatus } | undefined;
  #writing: Promise<void> | undefined;
  #soon: Timer | undefined;
  #gone = false;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
  }

  /** Takes a status that differs from what is written; returns at once. */
  write(pod: Pod, status: PodStatus, urgency: Urgency = 'now'): void {
    if (this.#gone) return;
    const shown = this.#wanted?.status ?? this.#written ?? pod.status;
    const same = shown !== undefined && isDeepStrictEqual(normalized(shown, status), status);
    if (same && !this.#repairs(pod, status)) {
      if (urgency === 'now' && this.#soon) this.#begin();
      return;
    }
    this.#wanted = { pod, status };
    if (urgency === 'now') this.#begin();
    else if (!this.#writing) this.#soon ??= this.#options.clock.after(SOON_MS, () => this.#begin());
  }

  #begin(): void {
    this.#soon?.cancel();
    this.#soon = undefined;
    this.#writing ??= this.#drain();
  }

  /**
   * Whether somebody else has changed our conditions since we wrote them, and they are to be put right now. (The node
   * controller marks the pods of a silent node; when the agent speaks again, it alone knows better.)
   */
  #repairs(pod: Pod, status: PodStatus): boolean {
    if (this.#wanted) {
      // The pod may be newer than what the answer will be: it is looked at again when that is known.
      this.#lookAgain = true;
      return false;
    }
    if (Number(pod.metadata.resourceVersion) <= this.#writtenVersion) return false;
    const shown = pod.status?.conditions ?? [];
    const isShown = (type: string, value: string) => shown.some((one) => one.type === type && one.status === value);
    if (status.conditions?.every((condition) => isShown(condition.type, condition.status)) ?? true) return false;
    const { clock, onConflict } = this.#options;
    if (clock.now() - this.#repairedAt < REPAIR_INTERVAL_MS) {
      clock.after(REPAIR_INTERVAL_MS, onConflict);
      return false;
    }
    this.#repairedAt = clock.now();
    return true;
  }

  /** Resolves when the newest status is written, or cannot be any more. */
  async flush(): Promise<void> {
    if (this.#soon) this.#begin();
    while (this.#writing) await this.#writing;
  }

  async #drain(): Promise<void> {
    // Never ends within the call that began it: that call has yet to note that it runs.
    await Promise.resolve();
    let retryMs = FIRST_RETRY_MS;
    while (this.#wanted && !this.#gone && !this.#options.signal.aborted) {
      const next = this.#wanted;
      try {
        const answer = await this.#patch(next.pod, next.status);
        this.#writtenVersion = Number(answer.metadata.resourceVersion);
        this.#options.onWritten(answer);
        this.#written = next.status;
        retryMs = FIRST_RETRY_MS;
        if (this.#wanted === next) this.#wanted = undefined;
      } catch (error) {
        if (isConflict(error) && hasGates(next.pod)) {
          if (this.#wanted === next) this.#wanted = undefined;
          // The informer needs a moment to bring the other's change.
          await this.#options.clock.sleep(CONFLICT_WAIT_MS, this.#options.signal).catch(() => {});
          this.#options.onConflict();
          continue;
        }
        if (isNotFound(error) || isConflict(error) || isInvalid(error)) {
          // Gone, or another pod of the same name: there is nothing to tell any more.
          this.#gone = isNotFound(error) || isConflict(error);
          if (isInvalid(error)) this.#options.log.error({ error }, `pod status refused: ${messageOf(error)}`);
          if (this.#wanted === next) this.#wanted = undefined;
          continue;
        }
        this.#options.log.warn({ error, pod: next.pod.metadata.name }, `pod status: ${messageOf(error)}`);
        await this.#options.clock.sleep(retryMs, this.#options.signal).catch(() => {});
        retryMs = Math.min(LONGEST_RETRY_MS, retryMs * 2);
      }
    }
    this.#writing = undefined;
    if (!this.#lookAgain) return;
    this.#lookAgain = false;
    this.#options.onConflict();
  }

  #patch(pod: Pod, status: PodStatus): Promise<Pod> {
    const { name, namespace, uid, resourceVersion } = pod.metadata;
    // Others write conditions of a pod with readiness gates: theirs must not be lost.
    const version = hasGates(pod) ? { resourceVersion } : {};
    // The uid makes a pod of the same name that was made meanwhile refuse the patch.
    const body = { metadata: { uid, ...version }, status: withRemovals(pod.status, status) };
    return this.#options.client.patch('Pod', { namespace, name }, body, { subresource: 'status' });
  }
}

function hasGates(pod: Pod): boolean {
  return Boolean(pod.spec.readinessGates?.length);
}

/** Fields that the API has and the new status does not must be null in a merge patch. */
function withRemovals(before: Pod['status'], status: PodStatus): object {
  const body: Record<string, unknown> = { ...status };
  for (const key of ['reason', 'message'] as const)
    if (before?.[key] !== undefined && status[key] === undefined) body[key] = null;
  return body;
}

/** Only what we write is compared: others may have added fields. */
function normalized(shown: NonNullable<Pod['status']>, status: PodStatus): object {
  const keys = new Set([...Object.keys(status), 'reason', 'message']);
  return Object.fromEntries(Object.entries(shown).filter(([key]) => keys.has(key)));
}
