/** podwire's API server in a process of its own, with Services in it, and a way to change them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HttpClient } from '../../../src/kube/http-client.ts';
import { renderKubeconfig } from '../../../src/kube/kubeconfig.ts';
import type { NetworkNamespace } from '../../../src/linux/netns.ts';
import { closeFd, listenTcp } from '../../../src/linux/sockets.ts';
import type { ServedApi } from './api-server.ts';
import { changedAddress, firstEndpoints, slice } from './objects.ts';
import { BenchProcess } from './processes.ts';

/** Requests at a time while the churn is written. */
const WRITERS = 4;
/** From one changed Service to the next, so that neighbours are not changed together. */
const STEP = 37;

export interface NextChange {
  /** What it brings, and nothing before it. */
  readonly address: string;
  write(): Promise<void>;
}

export class ApiUnderTest implements AsyncDisposable {
  /** In the order of the namespaces. */
  readonly kubeconfigs: readonly string[];
  readonly #process: BenchProcess;
  readonly #client: HttpClient;
  readonly #count: number;
  #changes = 0;

  private constructor(process: BenchProcess, client: HttpClient, kubeconfigs: readonly string[], count: number) {
    this.#process = process;
    this.#client = client;
    this.kubeconfigs = kubeconfigs;
    this.#count = count;
  }

  /** Listens in each of the namespaces, and holds so many Services with two endpoints; the last leads to `servers`. */
  static async start(
    folder: string,
    namespaces: readonly NetworkNamespace[],
    count: number,
    servers: readonly string[],
  ): Promise<ApiUnderTest> {
    const sockets = namespaces.map((ns) => listenTcp({ ns, address: '127.0.0.1', port: 0 }));
    const args = [folder, String(sockets.length), String(count), ...servers];
    const process = BenchProcess.module('api-server.ts', args, undefined, sockets);
    for (const fd of sockets) closeFd(fd);
    try {
      const { ports, ...credentials } = await process.said<ServedApi>();
      const [machine, ...others] = ports.map((port) => ({ server: `https://127.0.0.1:${port}`, ...credentials }));
      const kubeconfigs = others.map((access, i) => {
        const path = join(folder, `kubeconfig-${i}`);
        writeFileSync(path, renderKubeconfig('bench', access), { mode: 0o600 });
        return path;
      });
      const client = new HttpClient({ access: machine!, userAgent: 'podwire-bench' });
      return new ApiUnderTest(process, client, kubeconfigs, count);
    } catch (error) {
      await process[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** One endpoint of another Service each time, never of the last one. */
  next(): NextChange {
    const change = ++this.#changes;
    const n = (change * STEP) % (this.#count - 1);
    const address = changedAddress(change);
    const changed = slice(n, [firstEndpoints(n)[0]!, address]);
    const { uid: _, ...metadata } = changed.metadata;
    const draft = { ...changed, metadata } as typeof changed;
    return { address, write: async () => void (await this.#client.update('EndpointSlice', draft)) };
  }

  /** Changes as fast as they are taken, for so long; returns their number. */
  async churn(ms: number): Promise<number> {
    const until = performance.now() + ms;
    let written = 0;
    const writer = async () => {
      while (performance.now() < until) {
        await this.next().write();
        written++;
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, writer));
    return written;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await this.#process[Symbol.asyncDispose]();
  }
}
