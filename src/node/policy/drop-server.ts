/**
 * Serves denied packets to those who may open a Unix socket of the node: one JSON object a line, first the last ones, then
 * {"live":true}, then each as it happens. Who does not read in time is cut off.
 */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { Drop, PolicyDrops } from './drops.ts';

export interface DropServerOptions {
  readonly socketPath: string;
  readonly drops: Pick<PolicyDrops, 'recent' | 'subscribe'>;
  readonly log: Logger;
}

const mostConnections = 32;
/** Bytes that may wait for a slow reader. */
const mostWaiting = 1 << 20;

export class DropServer implements Startable {
  readonly #options: DropServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(options: DropServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#serve(socket));
    this.#server.maxConnections = mostConnections;
  }

  /** Listens; a socket file that a former run left behind is replaced. */
  async start(signal: AbortSignal): Promise<void> {
    const { socketPath, log } = this.#options;
    mkdirSync(dirname(socketPath), { recursive: true });
    rmSync(socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(socketPath, resolve);
    });
    chmodSync(socketPath, 0o600);
    this.#server.on('error', (error) => log.warn({ error }, `denied packets: ${messageOf(error)}`));
    signal.addEventListener('abort', () => this.#stop(), { once: true });
  }

  #stop(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    rmSync(this.#options.socketPath, { force: true });
  }

  #serve(socket: Socket): void {
    const write = (value: Drop | { live: true }) => {
      if (socket.writableLength > mostWaiting) socket.destroy();
      else socket.write(`${JSON.stringify(value)}\n`);
    };
    this.#sockets.add(socket);
    for (const drop of this.#options.drops.recent()) write(drop);
    write({ live: true });
    const unsubscribe = this.#options.drops.subscribe(write);
    socket.on('error', () => {});
    socket.resume();
    socket.once('close', () => {
      this.#sockets.delete(socket);
      unsubscribe();
    });
  }
}
