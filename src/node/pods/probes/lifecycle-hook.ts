/** postStart and preStop: a command in the container, an HTTP request to it, a TCP connection, or a wait. */
import type { Clock } from '../../../base/clock.ts';
import type { corev1 } from '../../../kube/types.ts';
import { type CheckTarget, runCheck } from './check.ts';
import { httpCheck, httpGet } from './http-check.ts';

export interface HookContext extends CheckTarget {
  readonly clock: Clock;
  readonly timeoutSeconds: number;
  readonly signal: AbortSignal;
}

/** Rejects with what went wrong, in words for an event. */
export async function runHook(handler: corev1.LifecycleHandler & SleepHandler, context: HookContext): Promise<void> {
  const { clock, timeoutSeconds, signal } = context;
  if (handler.sleep) return clock.sleep(Math.min(handler.sleep.seconds, timeoutSeconds) * 1000, signal);
  if (handler.httpGet) {
    if (!context.podIP) throw new Error('the pod has no address');
    const { statusCode } = await httpGet(
      httpCheck(handler.httpGet, context.container, context.podIP),
      timeoutSeconds * 1000,
    );
    if (statusCode >= 400) throw new Error(`HTTP lifecycle hook answered ${statusCode}`);
    return;
  }
  const { result, message } = await runCheck({ ...handler, timeoutSeconds }, context);
  if (result !== 'success') throw new Error(message || 'the hook failed');
}

/** Since 1.30 (KEP-3960). */
interface SleepHandler {
  readonly sleep?: { readonly seconds: number };
}
