/**
 * Stops containers with grace: preStop, SIGTERM, and SIGKILL when the time is up. The time may be cut short while it runs
 * (somebody deletes the pod again with less grace, or by force): then the runtime is asked again with what is left.
 */
import { messageOf } from '../../../base/errors.ts';
import type { corev1, Pod } from '../../../kube/types.ts';
import { runHook } from '../probes/lifecycle-hook.ts';
import type { ContainerRecord } from '../state/pod-runtime.ts';
import { containerEvent, type WorkerContext } from './context.ts';
import type { RuntimeView } from './runtime-view.ts';

/** Seconds that a container has at least after its preStop, as in the kubelet. */
const MIN_GRACE_SECONDS = 2;

export interface StopRequest {
  /** Undefined for an orphan, whose object is gone. */
  readonly pod: Pod | undefined;
  readonly container: corev1.Container | undefined;
  readonly record: ContainerRecord;
  readonly graceSeconds: number;
  readonly podIP: string | undefined;
  /** For the event Killing. */
  readonly message: string;
}

export class ContainerStopper {
  readonly #context: WorkerContext;
  readonly #view: RuntimeView;
  /** Milliseconds since the epoch; what is being stopped must end by then. */
  #latest = Number.POSITIVE_INFINITY;
  #shortened = Promise.withResolvers<void>();

  constructor(context: WorkerContext, view: RuntimeView) {
    this.#context = context;
    this.#view = view;
  }

  /** From now on nothing that is being stopped, or will be, has more than these seconds. */
  limit(graceSeconds: number): void {
    const latest = this.#context.clock.now() + graceSeconds * 1000;
    if (latest >= this.#latest) return;
    this.#latest = latest;
    this.#shortened.resolve();
    this.#shortened = Promise.withResolvers<void>();
  }

  /** Resolves when the container has ended. */
  async stop(request: StopRequest): Promise<void> {
    const { pod, record, message } = request;
    const { clock } = this.#context;
    const started = clock.now();
    const deadline = () => Math.min(started + request.graceSeconds * 1000, this.#latest);
    if (pod) containerEvent(this.#context, pod, record.name, 'Normal', 'Killing', message);
    if (request.graceSeconds > 0) await this.#preStop(request, deadline);
    const floor = request.graceSeconds > 0 ? MIN_GRACE_SECONDS : 0;
    for (;;) {
      const shortened = this.#shortened.promise;
      const seconds = Math.max(Math.ceil((deadline() - clock.now()) / 1000), this.#cut() ? 0 : floor);
      const stopped = this.#context.runtime.stopContainer(record.id, seconds).then(() => true);
      const done = await Promise.race([stopped, shortened.then(() => false)]);
      if (done) break;
      stopped.catch(() => {});
    }
    await this.#view.container(record.id, record.sandboxId);
  }

  /** Whether the limit has passed: no more grace at all. */
  #cut(): boolean {
    return this.#latest <= this.#context.clock.now();
  }

  async #preStop(request: StopRequest, deadline: () => number): Promise<void> {
    const { pod, container, record, podIP } = request;
    const hook = container?.lifecycle?.preStop;
    if (!hook || !pod || !container) return;
    const { runtime, clock } = this.#context;
    const controller = new AbortController();
    const target = { runtime, containerId: record.id, container, podIP, clock, signal: controller.signal };
    const timeoutSeconds = Math.max(1, Math.ceil((deadline() - clock.now()) / 1000));
    const run = runHook(hook, { ...target, timeoutSeconds }).catch((error: unknown) => {
      if (controller.signal.aborted) return;
      containerEvent(
        this.#context,
        pod,
        record.name,
        'Warning',
        'FailedPreStopHook',
        `PreStopHook failed: ${messageOf(error)}`,
      );
    });
    const timeUp = (async () => {
      for (;;) {
        const left = deadline() - clock.now();
        if (left <= 0 || controller.signal.aborted) return;
        const shortened = this.#shortened.promise;
        await Promise.race([clock.sleep(left, controller.signal).catch(() => {}), shortened]);
      }
    })();
    await Promise.race([run, timeUp]);
    controller.abort();
  }
}
