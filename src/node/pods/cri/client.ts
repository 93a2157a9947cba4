/**
 * The CRI over gRPC on a Unix socket. One channel for all calls; it connects again by itself when containerd restarts.
 * Every call has a deadline; errors are CriErrors.
 */
import { fileURLToPath } from 'node:url';
import { type ChannelOptions, Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { loadSync, type MethodDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import { CriError, codeName } from './errors.ts';
import type { CriRuntime } from './runtime.ts';
import type {
  AuthConfig,
  Container,
  ContainerConfig,
  ContainerFilter,
  ContainerStats,
  ContainerStatus,
  ExecResult,
  ExecStreams,
  Image,
  LinuxContainerResources,
  PodSandbox,
  PodSandboxConfig,
  PodSandboxStatus,
  RuntimeCondition,
  RuntimeVersion,
  SandboxFilter,
} from './types.ts';

/** proto-loader's options: zero values must be there, or `exitCode: 0` and CONTAINER_CREATED would vanish. */
const LOAD_OPTIONS = { defaults: true, longs: Number, enums: String, arrays: true, objects: true } as const;

/** Milliseconds. The kubelet's runtime-request-timeout. */
const DEFAULT_DEADLINE_MS = 120_000;
/** A sandbox waits for CNI, a sandbox's stop for CNI DEL and all of its containers. */
const SANDBOX_DEADLINE_MS = 240_000;
/** A pull of a large image from far away; the kubelet has no limit but progress. */
const PULL_DEADLINE_MS = 30 * 60_000;
const QUICK_DEADLINE_MS = 30_000;

/** gRPC's limit of 4 MiB is too small for a long list. */
export const CHANNEL_OPTIONS: ChannelOptions = {
  'grpc.max_receive_message_length': 64 << 20,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  'grpc.default_authority': 'localhost',
  'grpc.enable_retries': 0,
};

type Method = MethodDefinition<object, object>;

/** Loads a service of a .proto beside this file. */
export function loadService(file: string, name: string): ServiceDefinition {
  const definition = loadSync(fileURLToPath(new URL(file, import.meta.url)), LOAD_OPTIONS)[name];
  if (!definition || 'format' in definition) throw new Error(`${file} has no service ${name}`);
  return definition;
}

let services: { runtime: ServiceDefinition; image: ServiceDefinition } | undefined;

function loadServices() {
  services ??= {
    runtime: loadService('cri.proto', 'runtime.v1.RuntimeService'),
    image: loadService('cri.proto', 'runtime.v1.ImageService'),
  };
  return services;
}

export class CriClient implements CriRuntime {
  readonly #client: Client;
  readonly #methods: Record<string, Method>;

  /** `socket` is the path of containerd's socket. Connects with the first call. */
  constructor(socket: string) {
    const { runtime, image } = loadServices();
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), CHANNEL_OPTIONS);
    this.#methods = { ...runtime, ...image } as Record<string, Method>;
  }

  close(): void {
    this.#client.close();
  }

  #call<T>(operation: string, request: object, deadlineMs = DEFAULT_DEADLINE_MS, signal?: AbortSignal): Promise<T> {
    const method = this.#methods[operation]!;
    return new Promise<T>((resolve, reject) => {
      if (signal?.aborted) return reject(new CriError(operation, 'CANCELLED', 'cancelled before it was sent'));
      const abort = () => call.cancel();
      const done = (error: ServiceError | null, response?: object) => {
        signal?.removeEventListener('abort', abort);
        if (error) reject(new CriError(operation, codeName(error.code), error.details, error));
        else resolve(response as T);
      };
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        new Metadata(),
        { deadline: Date.now() + deadlineMs },
        done,
      );
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  version(): Promise<RuntimeVersion> {
    return this.#call('Version', {}, QUICK_DEADLINE_MS);
  }

  async status(): Promise<readonly RuntimeCondition[]> {
    type Response = { status: { conditions: RuntimeCondition[] } | null };
    const { status } = await this.#call<Response>('Status', {}, QUICK_DEADLINE_MS);
    return status?.conditions ?? [];
  }

  async runPodSandbox(config: PodSandboxConfig): Promise<string> {
    return (await this.#call<{ podSandboxId: string }>('RunPodSandbox', { config }, SANDBOX_DEADLINE_MS)).podSandboxId;
  }

  async stopPodSandbox(podSandboxId: string): Promise<void> {
    await this.#call('StopPodSandbox', { podSandboxId }, SANDBOX_DEADLINE_MS);
  }

  async removePodSandbox(podSandboxId: string): Promise<void> {
    await this.#call('RemovePodSandbox', { podSandboxId }, SANDBOX_DEADLINE_MS);
  }

  async podSandboxStatus(podSandboxId: string): Promise<PodSandboxStatus> {
    return (await this.#call<{ status: PodSandboxStatus }>('PodSandboxStatus', { podSandboxId }, QUICK_DEADLINE_MS))
      .status;
  }

  async listPodSandbox(filter: SandboxFilter = {}): Promise<readonly PodSandbox[]> {
    return (await this.#call<{ items: PodSandbox[] }>('ListPodSandbox', { filter }, QUICK_DEADLINE_MS)).items;
  }

  async createContainer(
    podSandboxId: string,
    config: ContainerConfig,
    sandboxConfig: PodSandboxConfig,
  ): Promise<string> {
    const request = { podSandboxId, config, sandboxConfig };
    return (await this.#call<{ containerId: string }>('CreateContainer', request)).containerId;
  }

  async startContainer(containerId: string): Promise<void> {
    await this.#call('StartContainer', { containerId });
  }

  async stopContainer(containerId: string, timeoutSeconds: number): Promise<void> {
    const deadline = timeoutSeconds * 1000 + DEFAULT_DEADLINE_MS;
    await this.#call('StopContainer', { containerId, timeout: timeoutSeconds }, deadline);
  }

  async removeContainer(containerId: string): Promise<void> {
    await this.#call('RemoveContainer', { containerId });
  }

  async listContainers(filter: ContainerFilter = {}): Promise<readonly Container[]> {
    return (await this.#call<{ containers: Container[] }>('ListContainers', { filter }, QUICK_DEADLINE_MS)).containers;
  }

  async containerStatus(containerId: string): Promise<ContainerStatus> {
    return (await this.#call<{ status: ContainerStatus }>('ContainerStatus', { containerId }, QUICK_DEADLINE_MS))
      .status;
  }

  async updateContainerResources(containerId: string, linux: LinuxContainerResources): Promise<void> {
    await this.#call('UpdateContainerResources', { containerId, linux });
  }

  async reopenContainerLog(containerId: string): Promise<void> {
    await this.#call('ReopenContainerLog', { containerId }, QUICK_DEADLINE_MS);
  }

  async listContainerStats(filter: ContainerFilter = {}): Promise<readonly ContainerStats[]> {
    return (await this.#call<{ stats: ContainerStats[] }>('ListContainerStats', { filter }, QUICK_DEADLINE_MS)).stats;
  }

  execSync(containerId: string, command: readonly string[], timeoutSeconds: number): Promise<ExecResult> {
    const deadline = timeoutSeconds > 0 ? timeoutSeconds * 1000 + QUICK_DEADLINE_MS : DEFAULT_DEADLINE_MS;
    return this.#call('ExecSync', { containerId, cmd: command, timeout: timeoutSeconds }, deadline);
  }

  async exec(containerId: string, command: readonly string[], streams: ExecStreams): Promise<string> {
    return (await this.#call<{ url: string }>('Exec', { containerId, cmd: command, ...streams })).url;
  }

  async attach(containerId: string, streams: ExecStreams): Promise<string> {
    return (await this.#call<{ url: string }>('Attach', { containerId, ...streams })).url;
  }

  async portForward(podSandboxId: string, ports: readonly number[]): Promise<string> {
    return (await this.#call<{ url: string }>('PortForward', { podSandboxId, port: ports })).url;
  }

  async listImages(): Promise<readonly Image[]> {
    return (await this.#call<{ images: Image[] }>('ListImages', {}, QUICK_DEADLINE_MS)).images;
  }

  async imageStatus(image: string): Promise<Image | undefined> {
    const request = { image: { image } };
    return (await this.#call<{ image: Image | null }>('ImageStatus', request, QUICK_DEADLINE_MS)).image ?? undefined;
  }

  async pullImage(image: string, options: { auth?: AuthConfig; signal?: AbortSignal } = {}): Promise<string> {
    const request = { image: { image }, auth: options.auth };
    return (await this.#call<{ imageRef: string }>('PullImage', request, PULL_DEADLINE_MS, options.signal)).imageRef;
  }

  async removeImage(image: string): Promise<void> {
    await this.#call('RemoveImage', { image: { image } });
  }
}
