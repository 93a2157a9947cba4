/** Events are forgotten an hour after their last change, as in Kubernetes (--event-ttl), so that they do not fill the store. */
import type { Clock } from '../base/clock.ts';
import { isAbort } from '../base/errors.ts';
import { isConflict, isNotFound } from '../kube/status.ts';
import type { Api } from './context.ts';
import type { Existing } from './resources/kind.ts';
import { deleteObject } from './verbs/delete.ts';

const TTL_MS = 3_600_000;
const INTERVAL_MS = 120_000;

/** Runs until the signal aborts. */
export async function expireEvents(api: Api, clock: Clock, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await clock.sleep(INTERVAL_MS, signal);
      await expireOnce(api, clock.now());
    } catch (error) {
      if (isAbort(error) || signal.aborted) return;
      api.log.warn({ error }, 'old events could not be removed');
    }
  }
}

/** Removes the events that are too old at the time (milliseconds since the epoch). */
export async function expireOnce(api: Api, now: number): Promise<void> {
  const kind = api.kinds.find((other) => other.group === '' && other.plural === 'events');
  if (!kind) return;
  const old = api.cache
    .of(kind)
    .list({ labels: [], fields: [] })
    .filter(({ object }) => now - lastSeen(object) > TTL_MS);
  for (const { namespace, name, object } of old) {
    const preconditions = { uid: object.metadata.uid, resourceVersion: object.metadata.resourceVersion };
    try {
      await deleteObject(api, kind, namespace, name, { preconditions });
    } catch (error) {
      // Somebody else removed it, or it has just happened again.
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }
}

function lastSeen(object: Existing): number {
  const series = object['series'] as { lastObservedTime?: string } | undefined;
  const times = [
    series?.lastObservedTime,
    object['lastTimestamp'],
    object['eventTime'],
    object.metadata.creationTimestamp,
  ];
  return Math.max(...times.map((time) => (typeof time === 'string' ? Date.parse(time) || 0 : 0)));
}
