/**
 * A container runtime in memory, for tests of what drives one. Nothing runs: containers are running from start until the
 * test says that they have ended (`exit`), or they are stopped. It refuses what containerd refuses: names that are
 * taken, starting twice, removing what runs, containers in sandboxes that are not ready.
 */
import type { Clock } from '../../../base/clock.ts';
import { CriError } from './errors.ts';
import type { CriRuntime, RuntimeEventHandlers, RuntimeEvents } from './runtime.ts';
import type {
  Container,
  ContainerConfig,
  ContainerFilter,
  ContainerState,
  ContainerStatus,
  ExecResult,
  Image,
  PodSandbox,
  PodSandboxConfig,
  PodSandboxStatus,
  RuntimeCondition,
  RuntimeVersion,
  SandboxFilter,
  StringMap,
} from './types.ts';

interface FakeSandbox {
  readonly id: string;
  readonly config: PodSandboxConfig;
  readonly createdAt: number;
  readonly ips: readonly string[];
  ready: boolean;
}

interface FakeContainer {
  readonly id: string;
  readonly sandboxId: string;
  readonly config: ContainerConfig;
  readonly createdAt: number;
  readonly ended: PromiseWithResolvers<void>;
  state: ContainerState;
  startedAt: number;
  finishedAt: number;
  exitCode: number;
  reason: string;
}

export interface FakeRuntimeOptions {
  readonly clock: Clock;
  /** Images that are there from the start; default busybox and nginx. */
  readonly images?: readonly string[];
}

export class FakeRuntime implements CriRuntime, RuntimeEvents {
  readonly #clock: Clock;
  readonly #images = new Map<string, Image>();
  readonly sandboxes = new Map<string, FakeSandbox>();
  readonly containers = new Map<string, FakeContainer>();
  readonly #handlers = new Set<RuntimeEventHandlers>();
  #serial = 0;
  /** Every call that changes something: "RunPodSandbox web", "StartContainer main" … */
  readonly calls: string[] = [];
  /** Images that can be pulled. */
  readonly registry = new Set<string>();
  /** Throw from here to let a call fail; may be asynchronous, to hold it up. */
  onCall: ((operation: string, subject: string) => void | Promise<void>) | undefined;
  /** What exec answers. */
  onExec: (container: string, command: readonly string[]) => ExecResult = () => succeeded;
  /** Whether SIGTERM ends a container by itself; where not, only the end of its grace does. */
  endsOnTerm: (container: string) => boolean = () => true;

  constructor({ clock, images = ['busybox', 'nginx'] }: FakeRuntimeOptions) {
    this.#clock = clock;
    for (const name of images) this.addImage(name);
  }

  addImage(name: string, user: Partial<Pick<Image, 'uid' | 'username'>> = {}): void {
    const image = { id: `sha256:${name}`, repoTags: [name], repoDigests: [], size: 1000, uid: null, username: '' };
    this.#images.set(name, { ...image, ...user });
  }

  subscribe(handlers: RuntimeEventHandlers, signal: AbortSignal): void {
    this.#handlers.add(handlers);
    signal.addEventListener('abort', () => this.#handlers.delete(handlers), { once: true });
    handlers.onConnected();
  }

  /** The newest container of the name that runs. */
  running(name: string): FakeContainer {
    const found = [...this.containers.values()].findLast(
      ({ config, state }) => config.metadata.name === name && state === 'CONTAINER_RUNNING',
    );
    if (!found) throw new Error(`no container ${name} is running`);
    return found;
  }

  /** The main process of the running container of the name ends. `events: 'lost'` tells nobody. */
  exit(name: string, exitCode: number, options: { reason?: string; events?: 'lost' } = {}): void {
    this.#end(this.running(name), exitCode, options.reason ?? '', options.events !== 'lost');
  }

  /** The sandbox's own process dies, and with it its containers. */
  killSandbox(podName: string): void {
    for (const sandbox of this.sandboxes.values()) {
      if (sandbox.config.metadata.name !== podName || !sandbox.ready) continue;
      this.#endSandbox(sandbox);
      for (const { onExit } of this.#handlers) onExit(sandbox.id);
    }
  }

  #endSandbox(sandbox: FakeSandbox): void {
    sandbox.ready = false;
    for (const container of this.containers.values())
      if (container.sandboxId === sandbox.id && container.state === 'CONTAINER_RUNNING')
        this.#end(container, 137, '', true);
  }

  #end(container: FakeContainer, exitCode: number, reason: string, tell: boolean): void {
    container.state = 'CONTAINER_EXITED';
    container.exitCode = exitCode;
    container.reason = reason || (exitCode === 0 ? 'Completed' : 'Error');
    container.finishedAt = this.#clock.now() * 1e6;
    container.ended.resolve();
    if (tell) for (const { onExit } of this.#handlers) onExit(container.id);
  }

  async #called(operation: string, subject: string): Promise<void> {
    this.calls.push(`${operation} ${subject}`);
    await this.onCall?.(operation, subject);
  }

  async version(): Promise<RuntimeVersion> {
    return { runtimeName: 'fake', runtimeVersion: '1', runtimeApiVersion: 'v1' };
  }

  async status(): Promise<readonly RuntimeCondition[]> {
    return [{ type: 'RuntimeReady', status: true, reason: '', message: '' }];
  }

  async runPodSandbox(config: PodSandboxConfig): Promise<string> {
    const { name, uid, attempt } = config.metadata;
    await this.#called('RunPodSandbox', name);
    for (const { config: other } of this.sandboxes.values())
      if (other.metadata.uid === uid && other.metadata.attempt === attempt)
        throw new CriError('RunPodSandbox', 'UNKNOWN', `failed to reserve sandbox name: name "${name}" is reserved`);
    const id = `sandbox-${++this.#serial}`;
    const own = config.linux?.securityContext?.namespaceOptions?.network !== 'NODE';
    const ips = own ? [`10.244.0.${this.#serial}`, `fd00:10:244::${this.#serial.toString(16)}`] : [];
    this.sandboxes.set(id, { id, config, createdAt: this.#clock.now() * 1e6, ips, ready: true });
    return id;
  }

  async stopPodSandbox(id: string): Promise<void> {
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) return;
    await this.#called('StopPodSandbox', sandbox.config.metadata.name);
    this.#endSandbox(sandbox);
  }

  async removePodSandbox(id: string): Promise<void> {
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) return;
    await this.#called('RemovePodSandbox', sandbox.config.metadata.name);
    if (sandbox.ready) throw new CriError('RemovePodSandbox', 'UNKNOWN', 'sandbox is not fully stopped');
    for (const container of this.containers.values())
      if (container.sandboxId === id) this.containers.delete(container.id);
    this.sandboxes.delete(id);
  }

  async podSandboxStatus(id: string): Promise<PodSandboxStatus> {
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) throw notFound('PodSandboxStatus', id);
    const [ip = '', ...others] = sandbox.ips;
    return { ...listed(sandbox), network: { ip, additionalIps: others.map((other) => ({ ip: other })) } };
  }

  async listPodSandbox(filter: SandboxFilter = {}): Promise<readonly PodSandbox[]> {
    return [...this.sandboxes.values()]
      .map(listed)
      .filter(({ id, labels }) => (!filter.id || filter.id === id) && selected(labels, filter.labelSelector));
  }

  async createContainer(sandboxId: string, config: ContainerConfig): Promise<string> {
    const { name, attempt } = config.metadata;
    await this.#called('CreateContainer', name);
    const sandbox = this.sandboxes.get(sandboxId);
    if (!sandbox?.ready) throw new CriError('CreateContainer', 'UNKNOWN', 'sandbox container is not running');
    const { uid } = sandbox.config.metadata;
    for (const other of this.containers.values()) {
      const sameName = other.config.metadata.name === name && other.config.metadata.attempt === attempt;
      if (sameName && this.sandboxes.get(other.sandboxId)?.config.metadata.uid === uid)
        throw new CriError('CreateContainer', 'UNKNOWN', `failed to reserve container name: "${name}" is reserved`);
    }
    const id = `container-${++this.#serial}`;
    this.containers.set(id, {
      id,
      sandboxId,
      config,
      createdAt: this.#clock.now() * 1e6,
      ended: Promise.withResolvers<void>(),
      state: 'CONTAINER_CREATED',
      startedAt: 0,
      finishedAt: 0,
      exitCode: 0,
      reason: '',
    });
    return id;
  }

  async startContainer(id: string): Promise<void> {
    const container = this.#container('StartContainer', id);
    try {
      await this.#called('StartContainer', container.config.metadata.name);
    } catch (error) {
      this.#end(container, 128, 'StartError', false);
      throw error;
    }
    if (container.state !== 'CONTAINER_CREATED')
      throw new CriError('StartContainer', 'UNKNOWN', `container is in ${container.state} state`);
    container.state = 'CONTAINER_RUNNING';
    container.startedAt = this.#clock.now() * 1e6;
  }

  async stopContainer(id: string, timeoutSeconds: number): Promise<void> {
    const container = this.containers.get(id);
    if (!container) return;
    const { name } = container.config.metadata;
    await this.#called('StopContainer', `${name} ${timeoutSeconds}`);
    if (container.state !== 'CONTAINER_RUNNING') return;
    if (timeoutSeconds > 0 && this.endsOnTerm(name)) return this.#end(container, 143, '', true);
    if (timeoutSeconds > 0) await Promise.race([this.#clock.sleep(timeoutSeconds * 1000), container.ended.promise]);
    if (container.state === 'CONTAINER_RUNNING') this.#end(container, 137, '', true);
  }

  async removeContainer(id: string): Promise<void> {
    const container = this.containers.get(id);
    if (!container) return;
    await this.#called('RemoveContainer', container.config.metadata.name);
    if (container.state === 'CONTAINER_RUNNING')
      throw new CriError('RemoveContainer', 'UNKNOWN', 'container is still running');
    this.containers.delete(id);
  }

  async listContainers(filter: ContainerFilter = {}): Promise<readonly Container[]> {
    return [...this.containers.values()]
      .filter(({ id, config }) => (!filter.id || filter.id === id) && selected(config.labels, filter.labelSelector))
      .map(({ id, sandboxId, config, state, createdAt }) => ({
        id,
        podSandboxId: sandboxId,
        metadata: config.metadata,
        image: config.image,
        imageRef: config.image.image,
        state,
        createdAt,
        labels: config.labels,
        annotations: config.annotations,
      }));
  }

  async containerStatus(id: string): Promise<ContainerStatus> {
    const { config, state, createdAt, startedAt, finishedAt, exitCode, reason } = this.#container(
      'ContainerStatus',
      id,
    );
    const { metadata, image, labels, annotations, mounts = [], logPath } = config;
    const times = { createdAt, startedAt, finishedAt };
    const end = { exitCode, reason, message: '' };
    return {
      id,
      metadata,
      state,
      ...times,
      ...end,
      image,
      imageRef: image.image,
      labels,
      annotations,
      mounts,
      logPath,
    };
  }

  async updateContainerResources(): Promise<void> {}

  async reopenContainerLog(id: string): Promise<void> {
    await this.#called('ReopenContainerLog', this.#container('ReopenContainerLog', id).config.metadata.name);
  }

  async listContainerStats(): Promise<readonly never[]> {
    return [];
  }

  async execSync(id: string, command: readonly string[]): Promise<ExecResult> {
    const container = this.#container('ExecSync', id);
    if (container.state !== 'CONTAINER_RUNNING') throw new CriError('ExecSync', 'UNKNOWN', 'container is not running');
    return this.onExec(container.config.metadata.name, command);
  }

  async exec(id: string): Promise<string> {
    return `http://127.0.0.1/exec/${this.#container('Exec', id).id}`;
  }

  async attach(id: string): Promise<string> {
    return `http://127.0.0.1/attach/${this.#container('Attach', id).id}`;
  }

  async portForward(sandboxId: string): Promise<string> {
    if (!this.sandboxes.has(sandboxId)) throw notFound('PortForward', sandboxId);
    return `http://127.0.0.1/portforward/${sandboxId}`;
  }

  async listImages(): Promise<readonly Image[]> {
    return [...this.#images.values()];
  }

  async imageStatus(name: string): Promise<Image | undefined> {
    return this.#images.get(name) ?? [...this.#images.values()].find(({ id }) => id === name);
  }

  async pullImage(name: string): Promise<string> {
    await this.#called('PullImage', name);
    if (!this.registry.has(name)) throw new CriError('PullImage', 'NOT_FOUND', `${name}: not found`);
    this.addImage(name);
    return this.#images.get(name)!.id;
  }

  async removeImage(name: string): Promise<void> {
    this.#images.delete(name);
  }

  #container(operation: string, id: string): FakeContainer {
    const container = this.containers.get(id);
    if (!container) throw notFound(operation, id);
    return container;
  }
}

const succeeded: ExecResult = { exitCode: 0, stdout: new Uint8Array(), stderr: new Uint8Array() };

function notFound(operation: string, id: string): CriError {
  return new CriError(operation, 'NOT_FOUND', `an error occurred when try to find "${id}": not found`);
}

function listed({ id, config, ready, createdAt }: FakeSandbox): PodSandbox {
  const { metadata, labels, annotations } = config;
  return { id, metadata, state: ready ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY', createdAt, labels, annotations };
}

function selected(labels: StringMap, selector: StringMap = {}): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}
