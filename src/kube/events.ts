/**
 * Events: what `kubectl describe` shows at the end. A repeat of an event raises the count of the stored one instead of
 * making another; a stream of similar ones is folded into one; an object that floods is silenced for a while. The three
 * rules and their numbers are those of client-go's tools/record (events_cache.go).
 *
 * Recording never throws into its caller and never makes it wait: writes go one after the other in the background. The
 * queue is bounded by `maxQueued`; what does not fit is dropped, because events are best effort by contract.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { AnyObject, KubeClient } from './client.ts';
import { objectReference } from './names.ts';
import { isNotFound } from './status.ts';
import type { corev1, Draft, Event } from './types.ts';

export type EventType = 'Normal' | 'Warning';

/** What an event is about when only its reference is known, or when it is about a part of the object (`fieldPath`). */
export type EventReference = corev1.ObjectReference & { readonly kind: string; readonly name: string };

export interface EventRecorderOptions {
  readonly client: Pick<KubeClient, 'create' | 'patch'>;
  /** Who reports: "default-scheduler", "kubelet" … */
  readonly component: string;
  /** The node, for components that run on one. */
  readonly host?: string;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Events waiting to be written; default 1000. */
  readonly maxQueued?: number;
  /**
   * Events are written when none has come for so long, milliseconds, or five times as long after the first: what they tell of
   * (a pod's start) is over by then and does not compete with their writing. A warning ends the wait. Default 0: at once.
   */
  readonly lullMs?: number;
}

/** Similar events within this window are folded into one after so many (client-go: 10 in 600 s). */
const similarLimit = 10;
const similarWindowMs = 600_000;
/** A source may say so many things at once about an object, then one more each 300 s (client-go's spam filter). */
const burst = 25;
const refillMs = 300_000;
/** Objects and events remembered, as client-go's LRU caches. */
const maxRemembered = 4096;
/** Of a DNS subdomain (RFC 1123). */
const longestName = 253;

interface Said {
  readonly name: string;
  readonly namespace: string;
  readonly count: number;
}

interface Similar {
  readonly since: number;
  readonly messages: Set<string>;
}

interface Bucket {
  tokens: number;
  at: number;
}

interface Occurrence {
  readonly about: EventReference;
  readonly type: EventType;
  readonly reason: string;
  readonly message: string;
  readonly at: number;
}

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #clock: Clock;
  readonly #said = new Map<string, Said>();
  readonly #similar = new Map<string, Similar>();
  readonly #buckets = new Map<string, Bucket>();
  readonly #queue: Occurrence[] = [];
  #writing: Promise<void> | undefined;
  #recordedAt = 0;
  #sequence = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Records in the background. The object is an API object, or a reference to one. */
  event(object: AnyObject | EventReference, type: EventType, reason: string, message: string): void {
    const about: EventReference = 'metadata' in object ? objectReference(object) : object;
    const occurrence = { about, type, reason, message, at: this.#clock.now() };
    if (!this.#allowed(occurrence)) return;
    if (this.#queue.length >= (this.#options.maxQueued ?? 1000)) {
      this.#options.log.debug({ reason, object: about.name }, 'event dropped: too many are waiting');
      return;
    }
    this.#recordedAt = occurrence.at;
    this.#queue.push(this.#folded(occurrence));
    this.#writing ??= this.#drain();
  }

  /** Resolves when all that was recorded so far is written or given up: for tests and for an orderly end. */
  async flush(): Promise<void> {
    while (this.#writing) await this.#writing;
  }

  async #drain(): Promise<void> {
    // Let the caller's turn end first: recording must not run the client's code inside it.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      await this.#lull();
      for (const next of this.#queue.splice(0)) {
        try {
          await this.#write(next);
        } catch (error) {
          const { reason, about } = next;
          this.#options.log.debug({ reason, object: about.name, error }, `event: ${messageOf(error)}`);
        }
      }
    }
    this.#writing = undefined;
  }

  async #lull(): Promise<void> {
    const { lullMs = 0 } = this.#options;
    const latest = this.#clock.now() + 5 * lullMs;
    const isOver = () => this.#queue.some(({ type }) => type === 'Warning');
    for (
      let left = lullMs;
      left > 0 && !isOver();
      left = Math.min(latest, this.#recordedAt + lullMs) - this.#clock.now()
    )
      await this.#clock.sleep(left);
  }

  #allowed({ about, at }: Occurrence): boolean {
    const key = subjectOf(about);
    const bucket = this.#buckets.get(key) ?? { tokens: burst, at };
    bucket.tokens = Math.min(burst, bucket.tokens + (at - bucket.at) / refillMs);
    bucket.at = at;
    remember(this.#buckets, key, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens--;
    return true;
  }

  #folded(occurrence: Occurrence): Occurrence {
    const { about, type, reason, message, at } = occurrence;
    const key = JSON.stringify([subjectOf(about), type, reason]);
    let similar = this.#similar.get(key);
    if (!similar || at - similar.since > similarWindowMs) similar = { since: at, messages: new Set() };
    remember(this.#similar, key, similar);
    if (similar.messages.has(message)) return occurrence;
    if (similar.messages.size >= similarLimit)
      return { ...occurrence, message: `(combined from similar events): ${message}` };
    similar.messages.add(message);
    return occurrence;
  }

  async #write(occurrence: Occurrence): Promise<void> {
    const key = identityOf(occurrence);
    const said = this.#said.get(key);
    if (said) {
      const count = said.count + 1;
      const change = { count, message: occurrence.message, lastTimestamp: timestamp(occurrence.at) };
      try {
        await this.#options.client.patch('Event', said, change);
        return remember(this.#said, key, { ...said, count });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    const draft = this.#draft(occurrence);
    await this.#options.client.create('Event', draft);
    remember(this.#said, key, { name: draft.metadata.name!, namespace: draft.metadata.namespace!, count: 1 });
  }

  #draft({ about, type, reason, message, at }: Occurrence): Draft<Event> {
    const { component, host } = this.#options;
    const suffix = (BigInt(at) * 1_000_000n + BigInt(this.#sequence++ % 1_000_000)).toString(16);
    return {
      metadata: {
        name: `${about.name.slice(0, longestName - suffix.length - 1)}.${suffix}`,
        namespace: about.namespace || 'default',
      },
      involvedObject: about,
      type,
      reason,
      message,
      source: host ? { component, host } : { component },
      reportingComponent: component,
      reportingInstance: host ?? '',
      firstTimestamp: timestamp(at),
      lastTimestamp: timestamp(at),
      count: 1,
    };
  }
}

/** The API's metav1.Time: seconds. */
function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}

function subjectOf({ kind, namespace, name, uid, fieldPath }: EventReference): string {
  return JSON.stringify([kind, namespace, name, uid, fieldPath]);
}

/** Equal for events that are repeats of each other. A folded one is identified without its message, as in client-go. */
function identityOf({ about, type, reason, message }: Occurrence): string {
  const folded = message.startsWith('(combined from similar events): ');
  return JSON.stringify([subjectOf(about), type, reason, folded ? null : message]);
}

/** Sets the value as the newest and forgets the oldest beyond the bound. */
function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > maxRemembered) map.delete(map.keys().next().value!);
}
