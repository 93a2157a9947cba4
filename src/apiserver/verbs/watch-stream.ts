/**
 * One watch's stream of events. The queue holds references to shared frames, made only when they are written; what a client does
 * not read in time fills it, and beyond the bound the stream is cut. The client watches again from the last version it saw.
 */
import type { ServerResponse } from 'node:http';
import { apiVersionOf } from '../../kube/names.ts';
import type { StoredObject, WatchType } from '../cache/stored-object.ts';
import type { Form } from '../http/negotiation.ts';
import { type IncludeObject, metadataOf, tableOf } from '../http/table.ts';
import type { Kind } from '../resources/kind.ts';

/** Encodes events in the form of one watch. */
export class EventEncoder {
  readonly #kind: Kind;
  readonly #form: Form;
  readonly #includeObject: IncludeObject;
  #columnsSent = false;

  constructor(kind: Kind, form: Form, includeObject: IncludeObject) {
    this.#kind = kind;
    this.#form = form;
    this.#includeObject = includeObject;
  }

  event(type: WatchType, stored: StoredObject): Buffer {
    if (this.#form === 'object') return stored.in(this.#kind).frame(type);
    const object = this.#form === 'metadata' ? metadataOf(stored) : this.#table(stored);
    return Buffer.from(`${JSON.stringify({ type, object })}\n`);
  }

  #table(stored: StoredObject): object {
    const metadata = { resourceVersion: stored.object.metadata.resourceVersion };
    const columns = this.#columnsSent ? 'without columns' : 'with columns';
    this.#columnsSent = true;
    return tableOf(this.#kind, [stored], metadata, columns, {
      includeObject: this.#includeObject,
      now: Date.now(),
    });
  }

  bookmark(revision: number, endOfInitial: boolean): Buffer {
    const annotations = endOfInitial ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {};
    const metadata = { resourceVersion: String(revision), creationTimestamp: null, ...annotations };
    const object =
      this.#form === 'table'
        ? { kind: 'Table', apiVersion: 'meta.k8s.io/v1', metadata, columnDefinitions: [], rows: [] }
        : this.#form === 'metadata'
          ? { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata }
          : { kind: this.#kind.kind, apiVersion: apiVersionOf(this.#kind), metadata };
    return Buffer.from(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
  }
}

/** Events that may wait for a slow client, besides those of the initial state. */
const MAX_QUEUE = 10_000;

export class WatchStream {
  readonly closed: Promise<void>;
  readonly #response: ServerResponse;
  readonly #encoder: EventEncoder;
  readonly #maxQueue: number;
  /** Frames are made only when they are written. */
  #queue: (() => Buffer)[] = [];
  #initialCount = 0;
  #isBlocked = false;
  #isScheduled = false;
  #isEnded = false;

  constructor(response: ServerResponse, encoder: EventEncoder, maxQueue = MAX_QUEUE) {
    this.#response = response;
    this.#encoder = encoder;
    this.#maxQueue = maxQueue;
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
    response.flushHeaders();
    response.on('drain', () => {
      this.#isBlocked = false;
      this.#pump();
    });
    this.closed = new Promise((resolve) => {
      response.once('close', resolve);
    });
  }

  pushInitial(type: WatchType, stored: StoredObject): void {
    this.#initialCount++;
    this.#enqueue(() => this.#encoder.event(type, stored));
  }

  push(type: WatchType, stored: StoredObject): void {
    this.#enqueue(() => this.#encoder.event(type, stored));
  }

  pushBookmark(revision: number, which?: 'end of initial events'): void {
    this.#enqueue(() => this.#encoder.bookmark(revision, which !== undefined));
  }

  /** Tells of an error as an event, and ends. */
  fail(status: object): void {
    this.#queue = [() => Buffer.from(`${JSON.stringify({ type: 'ERROR', object: status })}\n`)];
    this.end();
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#write();
    this.#response.end();
  }

  #enqueue(frame: () => Buffer): void {
    if (this.#isEnded) return;
    if (this.#queue.length > this.#maxQueue + this.#initialCount) {
      this.#isEnded = true;
      this.#queue = [];
      this.#response.destroy();
      return;
    }
    this.#queue.push(frame);
    if (this.#isScheduled || this.#isBlocked) return;
    // Events of the same turn go out together.
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (!this.#isEnded && !this.#isBlocked && !this.#response.destroyed) this.#write();
  }

  #write(): void {
    if (this.#queue.length === 0) return;
    let written = 0;
    this.#response.cork();
    for (const frame of this.#queue) {
      written++;
      if (!this.#response.write(frame()) && !this.#isEnded) {
        this.#isBlocked = true;
        break;
      }
    }
    this.#response.uncork();
    this.#queue = this.#queue.slice(written);
  }
}
