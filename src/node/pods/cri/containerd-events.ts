/**
 * containerd's own event stream on the same socket as its CRI: tells within a millisecond that a task has ended, where
 * the CRI of 1.6 could only be polled. The stream may drop events under load and ends with containerd, so it is a hint
 * to look, never the truth: the manager still lists everything now and then.
 */
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import type { MethodDefinition } from '@grpc/proto-loader';
import type { Logger } from '../../../base/log.ts';
import { CHANNEL_OPTIONS, loadService } from './client.ts';
import type { RuntimeEventHandlers, RuntimeEvents } from './runtime.ts';

/** The containerd namespace of the CRI plugin. */
const CRI_NAMESPACE = 'k8s.io';
/** Between a lost stream and the next try, in milliseconds. */
const RECONNECT_MS = 200;

interface Envelope {
  readonly topic: string;
  readonly event: { readonly typeUrl: string; readonly value: Uint8Array } | null;
}

export class ContainerdEvents implements RuntimeEvents {
  readonly #socket: string;
  readonly #log: Logger;

  constructor(socket: string, log: Logger) {
    this.#socket = socket;
    this.#log = log;
  }

  subscribe(handlers: RuntimeEventHandlers, signal: AbortSignal): void {
    const service = loadService('containerd-events.proto', 'containerd.services.events.v1.Events');
    const method = service['Subscribe'] as MethodDefinition<object, object>;
    const client = new Client(`unix:${this.#socket}`, credentials.createInsecure(), CHANNEL_OPTIONS);
    const metadata = new Metadata();
    metadata.set('containerd-namespace', CRI_NAMESPACE);
    const topics = ['/tasks/exit', '/tasks/delete', '/tasks/oom'];
    const request = { filters: topics.map((topic) => `namespace==${CRI_NAMESPACE},topic=="${topic}"`) };

    const connect = () => {
      if (signal.aborted) return;
      const { path, requestSerialize, responseDeserialize } = method;
      const stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, metadata);
      const stop = () => stream.cancel();
      signal.addEventListener('abort', stop, { once: true });
      stream.on('metadata', handlers.onConnected);
      stream.on('data', (envelope: Envelope) => dispatch(envelope, handlers));
      stream.on('error', (error: Error) => {
        if (!signal.aborted) this.#log.debug({ error }, 'containerd event stream lost');
      });
      stream.on('close', () => {
        signal.removeEventListener('abort', stop);
        if (signal.aborted) return;
        handlers.onLost();
        setTimeout(connect, RECONNECT_MS).unref();
      });
    };
    connect();
    signal.addEventListener('abort', () => client.close(), { once: true });
  }
}

function dispatch({ topic, event }: Envelope, handlers: RuntimeEventHandlers): void {
  if (!event) return;
  const { containerId, id } = decodeTaskEvent(topic, event.value);
  if (topic === '/tasks/oom') handlers.onOutOfMemory(containerId);
  // Processes of an exec end with an id of their own.
  else if (id === '' || id === containerId) handlers.onExit(containerId);
}

/**
 * Reads the string fields of a task event: container_id is field 1 of all of them, id is field 2 of TaskExit and field
 * 5 of TaskDelete (containerd/api/events/task.proto).
 */
export function decodeTaskEvent(topic: string, bytes: Uint8Array): { containerId: string; id: string } {
  const idField = topic === '/tasks/exit' ? 2 : 5;
  let containerId = '';
  let id = '';
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; at < bytes.length; shift += 7) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (at < bytes.length) {
    const tag = varint();
    const wireType = tag & 7;
    if (wireType === 0) varint();
    else if (wireType === 2) {
      const length = varint();
      const text = () => Buffer.from(bytes.subarray(at, at + length)).toString();
      if (tag >>> 3 === 1) containerId = text();
      else if (tag >>> 3 === idField) id = text();
      at += length;
    } else if (wireType === 1) at += 8;
    else if (wireType === 5) at += 4;
    else break;
  }
  return { containerId, id };
}
