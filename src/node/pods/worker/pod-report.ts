/** What the API is told of one pod, and the pod as the API has it. */
import type { Pod, PodStatus } from '../../../kube/types.ts';
import { buildPodStatus, type StatusInput, type WaitingReason } from '../state/status.ts';
import type { WorkerContext } from './context.ts';
import { StatusWriter, type Urgency } from './status-writer.ts';

/** What is known of the pod's containers at this moment. */
export type PodFacts = Pick<StatusInput, 'runtime' | 'hasStarted' | 'isReady'>;

export class PodReport {
  /** Why containers are not started, by name. */
  readonly waiting = new Map<string, WaitingReason>();
  /** Ends the pod whatever its containers do. */
  failure: WaitingReason | undefined;
  readonly #context: WorkerContext;
  readonly #writer: StatusWriter;
  #pod: Pod;
  #published: PodStatus | undefined;

  /** `onConflict`: somebody else has changed the status meanwhile, it must be published anew. */
  constructor(context: WorkerContext, pod: Pod, onConflict: () => void) {
    this.#context = context;
    this.#pod = pod;
    const { client, clock, log, signal } = context;
    const onWritten = (written: Pod) => this.learn(written);
    this.#writer = new StatusWriter({ client, clock, log, signal, onWritten, onConflict });
  }

  /** The newest that is known. */
  get pod(): Pod {
    return this.#pod;
  }

  /** When the pod started on this node, by the API's word or ours. */
  get startTime(): string | undefined {
    return this.#published?.startTime ?? this.#pod.status?.startTime;
  }

  learn(pod: Pod): void {
    const current = Number(this.#pod.metadata.resourceVersion);
    // The answer to our own patch may be newer than what the informer brings.
    if (!(Number(pod.metadata.resourceVersion) < current)) this.#pod = pod;
  }

  publish(facts: PodFacts, urgency: Urgency = 'now'): void {
    // What has ended stays as it was told when the runtime has lost its containers since.
    if (hasEnded(this.#pod) && !facts.runtime.containers.length) return;
    const status = buildPodStatus({
      ...facts,
      pod: this.#pod,
      ...(this.#published ? { previous: this.#published } : {}),
      now: this.#context.clock.now(),
      hostIPs: this.#context.hostIPs,
      waiting: this.waiting,
      ...(this.failure ? { failure: this.failure } : {}),
    });
    this.#published = status;
    this.#writer.write(this.#pod, status, urgency);
  }

  /** Resolves when the API has been told, or cannot be any more. */
  flush(): Promise<void> {
    return this.#writer.flush();
  }
}

export function hasEnded(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}
