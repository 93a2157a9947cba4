/** How the controllers' queues treat the refusals that are part of ordinary work. */
import type { ReconcileResult } from '../base/work-queue.ts';
import { isConflict, StatusError } from '../kube/status.ts';

type Reconcile = (key: string, signal: AbortSignal) => Promise<ReconcileResult>;

/** After a conflict the copy is a few milliseconds behind: look again then. */
const conflictWaitMs = 10;

/**
 * Wraps a reconcile: a conflict means that the copy is behind (again soon, no alarm); nothing can be made in a namespace
 * that is being deleted (done). Everything else stays an error, for the queue to retry with its growing waits.
 */
export function tolerant(reconcile: Reconcile): Reconcile {
  return async (key, signal) => {
    try {
      return await reconcile(key, signal);
    } catch (error) {
      if (isConflict(error)) return { requeueAfterMs: conflictWaitMs };
      if (isNamespaceTerminating(error)) return undefined;
      throw error;
    }
  };
}

/** The refusal of the API server's NamespaceLifecycle admission. */
export function isNamespaceTerminating(error: unknown): boolean {
  return (
    error instanceof StatusError &&
    error.reason === 'Forbidden' &&
    (error.status.details?.causes?.some((cause) => cause.reason === 'NamespaceTerminating') ||
      /because it is being terminated/.test(error.message))
  );
}

/** Waits for all, then fails with the first failure: nothing is under way any more when a reconcile ends. */
export async function allDone<T>(work: Iterable<Promise<T>>): Promise<T[]> {
  const outcomes = await Promise.allSettled(work);
  return outcomes.map((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  });
}
