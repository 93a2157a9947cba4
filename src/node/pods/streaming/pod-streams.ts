/**
 * What the node's streaming server needs to know of the pods. The pod manager implements it over CRI and its own state;
 * the streaming server never speaks CRI itself.
 *
 * Every method rejects with a StatusError (src/kube/status.ts); its code and message become the HTTP answer, in the words
 * that kubectl's users know from the kubelet:
 *
 * | case | error |
 * | --- | --- |
 * | no such pod on this node | NotFound `pod "web" not found` |
 * | exec, attach: the container is not running | NotFound `container not found ("nginx")` |
 * | port-forward: no sandbox | NotFound `pod "web" not found` |
 * | logs: the container has not started yet | BadRequest `container "c" in pod "web" is waiting to start: ContainerCreating` |
 * | logs: previous asked for, but it never ran before | BadRequest `previous terminated container "c" in pod "web" not found` |
 */

/** A container of a pod on this node. */
export interface ContainerRef {
  readonly namespace: string;
  readonly pod: string;
  /** The pod's uid when the caller named it: the pod of that name must then have this uid. */
  readonly uid?: string;
  readonly container: string;
}

/** The streams of an attach or exec, as CRI's AttachRequest has them. With tty, stderr is false. */
export interface StreamOptions {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

export interface AttachOptions extends ContainerRef, StreamOptions {}

export interface ExecOptions extends AttachOptions {
  /** Program and arguments; never empty. */
  readonly command: readonly string[];
}

export interface PortForwardOptions {
  readonly namespace: string;
  readonly pod: string;
  readonly uid?: string;
  /** The ports that the caller named beforehand (old WebSocket protocol); empty otherwise. */
  readonly ports: readonly number[];
}

export interface LogFileOptions extends ContainerRef {
  /** The last container that ended before the present one. */
  readonly previous: boolean;
}

/** A moment's answer; a reader that follows asks again. */
export interface LogFile {
  /** The CRI log file, …/<container>/<restartCount>.log. It may not exist yet. */
  readonly path: string;
  /** Whether the container that writes this file still runs. Once false for a path, no byte is added to it any more. */
  readonly running: boolean;
}

export interface PodStreams {
  /** CRI Exec: the runtime's streaming URL, on the node's 127.0.0.1. */
  execUrl(options: ExecOptions): Promise<string>;
  /** CRI Attach. */
  attachUrl(options: AttachOptions): Promise<string>;
  /** CRI PortForward. */
  portForwardUrl(options: PortForwardOptions): Promise<string>;
  /** Called again two times a second while somebody follows: answer it from memory. */
  logFile(options: LogFileOptions): Promise<LogFile>;
}
