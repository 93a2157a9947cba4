/**
 * The agent's side of the CNI plugin: takes the shim's requests from a Unix socket and has the pod network do them.
 *
 * Bounds: a request has 4 MiB and 10 s to arrive, connections beyond 256 wait in the kernel's queue, and requests of one
 * container are done one after the other. Whatever comes in, one connection can only harm itself.
 */
import { chmodSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import { NetworkNamespace } from '../../linux/netns.ts';
import type { AttachRequest, PodNetwork } from './pod-network.ts';
import {
  CniError,
  CniErrorCode,
  type CniRequest,
  decodeHead,
  decodeRequest,
  encodeAnswer,
  MAX_REQUEST_BYTES,
  renderError,
  renderResult,
} from './protocol.ts';

/** One request that was answered: for metrics. */
export interface CniOperation {
  readonly command: string;
  /** 0, or the error's code. */
  readonly code: number;
  readonly durationMs: number;
}

export interface CniServerOptions {
  readonly socketPath: string;
  readonly network: Pick<PodNetwork, 'add' | 'remove' | 'check' | 'collect' | 'status'>;
  readonly log: Logger;
  readonly observe?: (operation: CniOperation) => void;
  /** How long a request may take to arrive, milliseconds. */
  readonly receiveTimeoutMs?: number;
}

const MAX_CONNECTIONS = 256;
const RECEIVE_TIMEOUT_MS = 10_000;
const NEWEST = '1.1.0';

export class CniServer implements Startable {
  readonly #options: CniServerOptions;
  readonly #server: Server;
  readonly #ended = Promise.withResolvers<void>();
  readonly #active = new Set<Promise<void>>();
  #inode: number | undefined;

  constructor(options: CniServerOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Resolves when the last request is answered after the signal aborted. */
  get stopped(): Promise<void> {
    return this.#ended.promise;
  }

  /** Listens; a socket file that a former run left behind is replaced in one step. */
  async start(signal: AbortSignal): Promise<void> {
    const { socketPath } = this.#options;
    const temporary = `${socketPath}.${process.pid}`;
    mkdirSync(dirname(socketPath), { recursive: true });
    rmSync(temporary, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(temporary, resolve);
    });
    this.#server.on('error', (error) => this.#options.log.warn({ error }, `cni: ${messageOf(error)}`));
    chmodSync(temporary, 0o600);
    this.#inode = statSync(temporary).ino;
    renameSync(temporary, socketPath);
    signal.addEventListener('abort', () => void this.#stop(), { once: true });
  }

  async #stop(): Promise<void> {
    this.#server.close();
    if (inodeOf(this.#options.socketPath) === this.#inode) rmSync(this.#options.socketPath, { force: true });
    await Promise.allSettled(this.#active);
    this.#ended.resolve();
  }

  #serve(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    const work = this.#answer(socket).catch((error: unknown) => {
      this.#options.log.error({ error }, `cni: ${messageOf(error)}`);
      socket.destroy();
    });
    this.#active.add(work);
    void work.finally(() => this.#active.delete(work));
  }

  async #answer(socket: Socket): Promise<void> {
    const started = performance.now();
    let request: CniRequest | undefined;
    let code = 0;
    let answer: Buffer;
    try {
      const body = await receive(socket, this.#options.receiveTimeoutMs ?? RECEIVE_TIMEOUT_MS);
      if (!body) return socket.destroy() && undefined;
      request = decodeRequest(body);
      answer = encodeAnswer(0, await this.#dispatch(request));
    } catch (error) {
      const failure = toCniError(error);
      code = failure.code;
      this.#logFailure(request, failure, error);
      answer = encodeAnswer(1, renderError(failure, request?.config.cniVersion ?? NEWEST));
    }
    const durationMs = performance.now() - started;
    this.#options.observe?.({ command: request?.command ?? 'invalid', code, durationMs });
    const delivered = await deliver(socket, answer);
    if (!delivered && code === 0 && request?.command === 'ADD') await this.#takeBack(request);
  }

  #logFailure(request: CniRequest | undefined, failure: CniError, error: unknown): void {
    const { command, containerId, pod } = request ?? {};
    this.#options.log.warn({ command, containerId, pod, code: failure.code, error }, `cni: ${failure.message}`);
  }

  async #dispatch(request: CniRequest): Promise<unknown> {
    const { network } = this.#options;
    switch (request.command) {
      case 'ADD': {
        using netns = openNetns(request);
        const result = await network.add(attachRequest(request, netns));
        return renderResult({ ...result, dns: request.config.dns }, request.config.cniVersion);
      }
      case 'DEL':
        return await network.remove(request);
      case 'CHECK': {
        using netns = openNetns(request);
        return await network.check(attachRequest(request, netns), previousAddresses(request));
      }
      case 'GC': {
        const { validAttachments } = request.config;
        if (!validAttachments) {
          throw new CniError(CniErrorCode.invalidConfig, 'GC needs "cni.dev/valid-attachments"');
        }
        return await network.collect(validAttachments);
      }
      case 'STATUS':
        return network.status();
    }
  }

  /** Nobody heard that the ADD succeeded: the shim was killed. Its runtime may or may not call DEL. */
  async #takeBack(request: CniRequest): Promise<void> {
    const { containerId, ifname } = request;
    this.#options.log.warn({ containerId, ifname }, 'cni: the plugin went away before its ADD was answered; undone');
    await this.#options.network.remove({ containerId, ifname });
  }
}

function attachRequest(request: CniRequest, netns: NetworkNamespace): AttachRequest {
  const { containerId, ifname, netnsPath, pod, config } = request;
  const names = { podNamespace: pod.namespace, podName: pod.name, podUid: pod.uid };
  return { containerId, ifname, netns, netnsPath, mtu: config.mtu, ...names };
}

function openNetns({ netnsHandle, netnsPath }: CniRequest): NetworkNamespace {
  try {
    const netns = NetworkNamespace.open(netnsHandle ?? '');
    try {
      // A descriptor of anything but a network namespace cannot be entered.
      netns.run(() => {});
      return netns;
    } catch (error) {
      netns.close();
      throw error;
    }
  } catch (error) {
    const text = `CNI_NETNS cannot be opened: ${netnsPath}`;
    throw new CniError(CniErrorCode.invalidEnvironment, text, { details: messageOf(error), cause: error });
  }
}

/** The addresses that prevResult gives to this interface; lenient, because other plugins may have added to it. */
function previousAddresses({ config, ifname }: CniRequest): string[] {
  const { interfaces, ips } = (config.prevResult ?? {}) as {
    interfaces?: readonly { readonly name?: unknown; readonly sandbox?: unknown }[];
    ips?: readonly { readonly address?: unknown; readonly interface?: unknown }[];
  };
  if (!Array.isArray(interfaces) || !Array.isArray(ips)) return [];
  const mine = interfaces.findIndex((entry) => entry?.name === ifname && entry?.sandbox);
  return ips.flatMap((ip) => (ip?.interface === mine && typeof ip.address === 'string' ? [ip.address] : []));
}

/** What the runtime is told of any failure. */
function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error;
  const code =
    error instanceof Error && error.name === 'NoPodCidrError' ? CniErrorCode.tryAgainLater : CniErrorCode.failed;
  return new CniError(code, messageOf(error), { cause: error });
}

/** Reads one request's body; undefined when the other side left without having said anything. Throws CniError. */
function receive(socket: Socket, timeoutMs: number): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const finish = (outcome: () => void) => {
      clearTimeout(timer);
      socket.off('data', onData).off('end', onEnd).off('close', onEnd);
      outcome();
    };
    const fail = (message: string) => finish(() => reject(new CniError(CniErrorCode.decode, message)));
    const onData = (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      try {
        const head = decodeHead(received);
        if (!head) return;
        const end = head.offset + head.length;
        if (received.length > end) fail('the request is longer than it says');
        else if (received.length === end) finish(() => resolve(received.subarray(head.offset)));
      } catch (error) {
        finish(() => reject(error));
      }
      if (received.length > MAX_REQUEST_BYTES + 64) fail('the request is too long');
    };
    const onEnd = () => (received.length === 0 ? finish(() => resolve(undefined)) : fail('the request is cut off'));
    const timer = setTimeout(() => fail('the request did not arrive in time'), timeoutMs);
    socket.on('data', onData).on('end', onEnd).on('close', onEnd);
  });
}

/** Sends the answer and closes; false when nobody is there to read it. */
function deliver(socket: Socket, answer: Buffer): Promise<boolean> {
  if (socket.destroyed) return Promise.resolve(false);
  return new Promise((resolve) => {
    socket.once('close', () => resolve(false));
    socket.end(answer, () => resolve(!socket.errored));
    socket.resume();
  });
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}
