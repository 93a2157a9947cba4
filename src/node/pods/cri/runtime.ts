/** What the pod workers ask of a container runtime: CRI v1, one method per call. The client and the fake implement it. */
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

/** Every method rejects with a CriError. Stopping or removing what is absent succeeds, as the CRI demands. */
export interface CriRuntime {
  version(): Promise<RuntimeVersion>;
  status(): Promise<readonly RuntimeCondition[]>;

  /** Makes the sandbox with its network; resolves to its id. */
  runPodSandbox(config: PodSandboxConfig): Promise<string>;
  stopPodSandbox(sandboxId: string): Promise<void>;
  removePodSandbox(sandboxId: string): Promise<void>;
  podSandboxStatus(sandboxId: string): Promise<PodSandboxStatus>;
  listPodSandbox(filter?: SandboxFilter): Promise<readonly PodSandbox[]>;

  createContainer(sandboxId: string, config: ContainerConfig, sandboxConfig: PodSandboxConfig): Promise<string>;
  startContainer(containerId: string): Promise<void>;
  /** SIGTERM (or the image's stop signal), after the given seconds SIGKILL; resolves when the container has ended. */
  stopContainer(containerId: string, timeoutSeconds: number): Promise<void>;
  removeContainer(containerId: string): Promise<void>;
  listContainers(filter?: ContainerFilter): Promise<readonly Container[]>;
  containerStatus(containerId: string): Promise<ContainerStatus>;
  updateContainerResources(containerId: string, linux: LinuxContainerResources): Promise<void>;
  reopenContainerLog(containerId: string): Promise<void>;
  listContainerStats(filter?: ContainerFilter): Promise<readonly ContainerStats[]>;

  /** Runs a command in the container; a timeout rejects with DEADLINE_EXCEEDED. */
  execSync(containerId: string, command: readonly string[], timeoutSeconds: number): Promise<ExecResult>;
  /** The URL of the runtime's streaming server for one exec. */
  exec(containerId: string, command: readonly string[], streams: ExecStreams): Promise<string>;
  attach(containerId: string, streams: ExecStreams): Promise<string>;
  portForward(sandboxId: string, ports: readonly number[]): Promise<string>;

  listImages(): Promise<readonly Image[]>;
  /** Undefined when the image is not there. */
  imageStatus(image: string): Promise<Image | undefined>;
  /** Resolves to the image's reference (its id). Ends with CANCELLED when the signal aborts. */
  pullImage(image: string, options?: { auth?: AuthConfig; signal?: AbortSignal }): Promise<string>;
  removeImage(image: string): Promise<void>;
}

/** What the runtime tells by itself. */
export interface RuntimeEvents {
  /**
   * Calls back when a container's or a sandbox's main process has ended, with the CRI id. `onLost` says that events may
   * have been missed: the caller lists again. Reconnects by itself until the signal aborts.
   */
  subscribe(handlers: RuntimeEventHandlers, signal: AbortSignal): void;
}

export interface RuntimeEventHandlers {
  readonly onExit: (id: string) => void;
  readonly onOutOfMemory: (id: string) => void;
  readonly onConnected: () => void;
  readonly onLost: () => void;
}
