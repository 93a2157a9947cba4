/** The streaming server's questions about pods (`PodStreams`), answered from the workers' memory and by the CRI. */
import { join } from 'node:path';
import { statusError } from '../../kube/status.ts';
import { logPath } from './config/container-config.ts';
import { isCriNotFound } from './cri/errors.ts';
import type { CriRuntime } from './cri/runtime.ts';
import { findContainer } from './state/containers.ts';
import { type ContainerRecord, currentSandbox, latestContainer, previousContainer } from './state/pod-runtime.ts';
import type {
  AttachOptions,
  ContainerRef,
  ExecOptions,
  LogFile,
  LogFileOptions,
  PodStreams,
  PortForwardOptions,
} from './streaming/pod-streams.ts';
import { podLogDirectory } from './worker/context.ts';
import type { PodWorker } from './worker/pod-worker.ts';

export interface WorkerStreamsOptions {
  readonly runtime: CriRuntime;
  readonly logsDir: string;
  readonly workerOf: (namespace: string, pod: string) => PodWorker | undefined;
}

export class WorkerStreams implements PodStreams {
  readonly #options: WorkerStreamsOptions;

  constructor(options: WorkerStreamsOptions) {
    this.#options = options;
  }

  async execUrl(options: ExecOptions): Promise<string> {
    const { id } = this.#runningContainer(options);
    return this.#found(options.container, this.#options.runtime.exec(id, options.command, streamsOf(options)));
  }

  async attachUrl(options: AttachOptions): Promise<string> {
    const { id } = this.#runningContainer(options);
    return this.#found(options.container, this.#options.runtime.attach(id, streamsOf(options)));
  }

  async portForwardUrl({ namespace, pod, uid, ports }: PortForwardOptions): Promise<string> {
    const sandbox = currentSandbox(this.#worker(namespace, pod, uid).runtime);
    if (!sandbox?.ready) throw statusError('NotFound', `pod ${JSON.stringify(pod)} not found`);
    return this.#options.runtime.portForward(sandbox.id, ports);
  }

  async logFile(options: LogFileOptions): Promise<LogFile> {
    const { namespace, pod, uid, container, previous } = options;
    const worker = this.#worker(namespace, pod, uid);
    if (!findContainer(worker.pod, container))
      throw statusError('BadRequest', `container ${container} is not valid for pod ${pod}`);
    const record = previous ? previousRun(worker, container) : latestContainer(worker.runtime, container);
    const which = `container ${JSON.stringify(container)} in pod ${JSON.stringify(pod)}`;
    if (previous && !record) throw statusError('BadRequest', `previous terminated ${which} not found`);
    if (!record || record.state === 'created') {
      const reason = worker.waiting.get(container)?.reason ?? 'ContainerCreating';
      throw statusError('BadRequest', `${which} is waiting to start: ${reason}`);
    }
    const directory = podLogDirectory(this.#options.logsDir, worker.identity);
    return { path: join(directory, logPath(container, record.attempt)), running: record.state === 'running' };
  }

  #worker(namespace: string, pod: string, uid: string | undefined): PodWorker {
    const worker = this.#options.workerOf(namespace, pod);
    if (!worker || (uid && worker.identity.uid !== uid))
      throw statusError('NotFound', `pod ${JSON.stringify(pod)} not found`);
    return worker;
  }

  #runningContainer({ namespace, pod, uid, container }: ContainerRef): ContainerRecord {
    const record = latestContainer(this.#worker(namespace, pod, uid).runtime, container);
    if (record?.state !== 'running') throw containerNotFound(container);
    return record;
  }

  /** A container that ended just now is unknown to the runtime, or not running any more. */
  async #found(container: string, url: Promise<string>): Promise<string> {
    try {
      return await url;
    } catch (error) {
      if (isCriNotFound(error)) throw containerNotFound(container);
      throw error;
    }
  }
}

function containerNotFound(container: string) {
  return statusError('NotFound', `container not found (${JSON.stringify(container)})`);
}

function streamsOf({ stdin, stdout, stderr, tty }: AttachOptions) {
  return { stdin, stdout, stderr: stderr && !tty, tty };
}

/** The last run that has ended before the present one; while the container waits to be started again, its last run. */
function previousRun(worker: PodWorker, container: string): ContainerRecord | undefined {
  const current = latestContainer(worker.runtime, container);
  if (current?.state === 'exited' && worker.waiting.has(container)) return current;
  return previousContainer(worker.runtime, container);
}
