/**
 * Runs a command in a container through the API server's exec subresource: a WebSocket with the subprotocol
 * v5.channel.k8s.io (KEP-4006). Each binary message begins with its channel: 0 stdin, 1 stdout, 2 stderr, 3 the final
 * Status, 4 resize, 255 closes a channel.
 */
import { WebSocket } from 'ws';
import type { ClusterAccess } from './kubeconfig.ts';
import { StatusError, statusError } from './status.ts';
import type { Status } from './types.ts';

export interface ExecOptions {
  readonly namespace: string;
  readonly pod: string;
  readonly container?: string;
  readonly command: readonly string[];
  readonly stdin?: string | Uint8Array;
  readonly timeoutMs?: number;
}

export interface ExecResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

const PROTOCOL = 'v5.channel.k8s.io';
const Channel = { stdin: 0, stdout: 1, stderr: 2, status: 3, close: 255 } as const;

/** Resolves when the command has ended, whatever its exit code; rejects with StatusError when it could not be run. */
export function execInPod(access: ClusterAccess, options: ExecOptions): Promise<ExecResult> {
  const socket = new WebSocket(execUrl(access.server, options), PROTOCOL, {
    ca: access.ca,
    cert: access.cert,
    key: access.key,
    ...(access.token ? { headers: { authorization: `Bearer ${access.token}` } } : {}),
  });
  const output: Record<number, Buffer[]> = { [Channel.stdout]: [], [Channel.stderr]: [], [Channel.status]: [] };
  const text = (channel: number) => Buffer.concat(output[channel]!).toString();
  return new Promise((resolve, reject) => {
    const timer = options.timeoutMs
      ? setTimeout(() => {
          socket.terminate();
          reject(new Error(`no end of ${options.command[0]} within ${options.timeoutMs} ms`));
        }, options.timeoutMs)
      : undefined;
    socket.on('open', () => sendStdin(socket, options.stdin));
    socket.on('message', (data: Buffer) => output[data[0]!]?.push(data.subarray(1)));
    socket.on('unexpected-response', (_request, response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => reject(refusal(response.statusCode ?? 500, Buffer.concat(chunks).toString())));
    });
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(timer);
      try {
        const exitCode = exitCodeOf(JSON.parse(text(Channel.status)) as Status);
        resolve({ exitCode, stdout: text(Channel.stdout), stderr: text(Channel.stderr) });
      } catch (error) {
        reject(error instanceof SyntaxError ? new Error('the connection broke before the command ended') : error);
      }
    });
  });
}

function execUrl(server: string, options: ExecOptions): string {
  const path = `/api/v1/namespaces/${options.namespace}/pods/${options.pod}/exec`;
  const url = new URL(path, server.replace(/^http/, 'ws'));
  for (const word of options.command) url.searchParams.append('command', word);
  if (options.container) url.searchParams.set('container', options.container);
  if (options.stdin !== undefined) url.searchParams.set('stdin', 'true');
  url.searchParams.set('stdout', 'true');
  url.searchParams.set('stderr', 'true');
  return url.href;
}

const CHUNK = 32 * 1024;

function sendStdin(socket: WebSocket, stdin: string | Uint8Array | undefined): void {
  if (stdin === undefined) return;
  const bytes = Buffer.from(stdin);
  for (let at = 0; at < bytes.length; at += CHUNK) {
    socket.send(Buffer.concat([Buffer.of(Channel.stdin), bytes.subarray(at, at + CHUNK)]));
  }
  socket.send(Buffer.of(Channel.close, Channel.stdin));
}

/** The exit code that the final Status carries; throws when the command was not run. */
function exitCodeOf(status: Status): number {
  if (status.status === 'Success') return 0;
  const cause = status.details?.causes?.find((one) => one.reason === 'ExitCode');
  if (cause?.message !== undefined) return Number(cause.message);
  throw new StatusError(status);
}

function refusal(code: number, body: string): Error {
  try {
    return new StatusError(JSON.parse(body) as Status);
  } catch {
    return statusError('InternalError', `exec was answered with ${code}: ${body.slice(0, 300)}`);
  }
}
