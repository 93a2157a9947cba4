/**
 * The probes of one running container, each on its own timer:
 *
 *   startup ──passed──> liveness (too many failures: unhealthy) and readiness (ready or not)
 *      └─too many failures: unhealthy
 *
 * What the worker asks for is answered from memory; it is told when an answer changes.
 */
import type { Clock, Timer } from '../../../base/clock.ts';
import type { corev1 } from '../../../kube/types.ts';
import type { CheckResult } from './check.ts';

export interface ContainerProbesOptions {
  readonly container: corev1.Container;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly clock: Clock;
  readonly check: (probe: corev1.Probe) => Promise<CheckResult>;
  readonly onChange: () => void;
  /** Each failure that counts, for events: "Readiness probe failed: …". */
  readonly onFailure: (message: string) => void;
  /** What a former agent had found of this very container. */
  readonly initial?: { readonly started: boolean; readonly ready: boolean };
}

const DEFAULT_PERIOD_SECONDS = 10;
const DEFAULT_FAILURES = 3;

type Kind = 'Startup' | 'Liveness' | 'Readiness';

export class ContainerProbes {
  readonly #options: ContainerProbesOptions;
  readonly #timers = new Map<Kind, Timer>();
  #started: boolean;
  #ready: boolean;
  #unhealthy: string | undefined;
  #stopped = false;

  constructor(options: ContainerProbesOptions) {
    this.#options = options;
    const { startupProbe, readinessProbe } = options.container;
    this.#started = startupProbe ? (options.initial?.started ?? false) : true;
    this.#ready = readinessProbe ? (options.initial?.ready ?? false) : true;
    if (startupProbe && !this.#started) this.#begin('Startup', startupProbe);
    else this.#beginRunning();
  }

  get started(): boolean {
    return this.#started;
  }

  get ready(): boolean {
    return this.#started && this.#ready;
  }

  /** Why the container must be killed. */
  get unhealthy(): string | undefined {
    return this.#unhealthy;
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }

  #beginRunning(): void {
    const { livenessProbe, readinessProbe } = this.#options.container;
    if (readinessProbe) this.#begin('Readiness', readinessProbe);
    if (livenessProbe) this.#begin('Liveness', livenessProbe);
  }

  #begin(kind: Kind, probe: corev1.Probe): void {
    const { startedAt, clock } = this.#options;
    const delay = startedAt + (probe.initialDelaySeconds ?? 0) * 1000 - clock.now();
    const tally = { successes: 0, failures: 0 };
    this.#plan(kind, Math.max(0, delay), () => this.#run(kind, probe, tally));
  }

  #plan(kind: Kind, ms: number, run: () => Promise<void>): void {
    if (this.#stopped) return;
    this.#timers.set(
      kind,
      this.#options.clock.after(ms, () => void run()),
    );
  }

  async #run(kind: Kind, probe: corev1.Probe, tally: { successes: number; failures: number }): Promise<void> {
    const { result, message } = await this.#options.check(probe);
    if (this.#stopped) return;
    if (result === 'success') {
      tally.successes++;
      tally.failures = 0;
      if (tally.successes >= (probe.successThreshold ?? 1) && this.#succeeded(kind)) return;
    } else if (result === 'failure') {
      tally.failures++;
      tally.successes = 0;
      this.#options.onFailure(`${kind} probe failed: ${message}`);
      if (tally.failures >= (probe.failureThreshold ?? DEFAULT_FAILURES) && this.#failed(kind)) return;
    }
    const period = (probe.periodSeconds ?? DEFAULT_PERIOD_SECONDS) * 1000;
    this.#plan(kind, period, () => this.#run(kind, probe, tally));
  }

  /** Returns whether the probe has done its work. */
  #succeeded(kind: Kind): boolean {
    if (kind === 'Startup') {
      this.#started = true;
      this.#beginRunning();
      this.#options.onChange();
      return true;
    }
    if (kind === 'Readiness' && !this.#ready) {
      this.#ready = true;
      this.#options.onChange();
    }
    return false;
  }

  #failed(kind: Kind): boolean {
    if (kind === 'Readiness') {
      if (this.#ready) {
        this.#ready = false;
        this.#options.onChange();
      }
      return false;
    }
    const { name } = this.#options.container;
    this.#unhealthy = `Container ${name} failed ${kind.toLowerCase()} probe, will be restarted`;
    this.stop();
    this.#options.onChange();
    return true;
  }
}
