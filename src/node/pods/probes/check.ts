/** One run of one probe. */
import { connect } from 'node:net';
import { messageOf } from '../../../base/errors.ts';
import { hostPort } from '../../../base/ip.ts';
import type { corev1 } from '../../../kube/types.ts';
import { isCriTimeout } from '../cri/errors.ts';
import type { CriRuntime } from '../cri/runtime.ts';
import { grpcServing } from './grpc-check.ts';
import { httpCheck, httpGet } from './http-check.ts';
import { resolvePort } from './ports.ts';

/** `unknown`: the probe itself could not be run; it counts neither way. */
export interface CheckResult {
  readonly result: 'success' | 'failure' | 'unknown';
  readonly message: string;
}

export interface CheckTarget {
  readonly runtime: Pick<CriRuntime, 'execSync'>;
  readonly containerId: string;
  readonly container: corev1.Container;
  readonly podIP: string | undefined;
}

const DEFAULT_TIMEOUT_SECONDS = 1;
/** Of a probe's output in an event. */
const MAX_MESSAGE = 1024;

/** Never rejects. */
export async function runCheck(probe: corev1.Probe, target: CheckTarget): Promise<CheckResult> {
  const timeoutSeconds = probe.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS;
  try {
    if (probe.exec) return await execCheck(probe.exec.command ?? [], target, timeoutSeconds);
    const { podIP } = target;
    if (!podIP) return { result: 'unknown', message: 'the pod has no address' };
    const timeoutMs = timeoutSeconds * 1000;
    if (probe.httpGet) return await httpResult(probe.httpGet, target, podIP, timeoutMs);
    if (probe.tcpSocket) {
      const port = resolvePort(probe.tcpSocket.port, target.container);
      return await tcpCheck(probe.tcpSocket.host || podIP, port, timeoutMs);
    }
    if (probe.grpc) {
      const address = hostPort(podIP, probe.grpc.port);
      const serving = await grpcServing(address, probe.grpc.service ?? '', timeoutMs);
      return serving ? success : failure('service unhealthy (responded with "NOT_SERVING")');
    }
    return { result: 'unknown', message: 'missing probe handler' };
  } catch (error) {
    return failure(messageOf(error));
  }
}

const success: CheckResult = { result: 'success', message: '' };
const failure = (message: string): CheckResult => ({ result: 'failure', message: message.slice(0, MAX_MESSAGE) });

async function execCheck(command: readonly string[], target: CheckTarget, timeout: number): Promise<CheckResult> {
  try {
    const { exitCode, stdout, stderr } = await target.runtime.execSync(target.containerId, command, timeout);
    return exitCode === 0 ? success : failure(`${Buffer.from(stdout)}${Buffer.from(stderr)}`);
  } catch (error) {
    if (isCriTimeout(error))
      return failure(`command timed out: ${JSON.stringify(command.join(' '))} timed out after ${timeout}s`);
    return { result: 'unknown', message: messageOf(error) };
  }
}

async function httpResult(
  action: corev1.HTTPGetAction,
  target: CheckTarget,
  podIP: string,
  timeoutMs: number,
): Promise<CheckResult> {
  const { statusCode, body } = await httpGet(httpCheck(action, target.container, podIP), timeoutMs);
  if (statusCode >= 200 && statusCode < 400) return { result: 'success', message: body.slice(0, MAX_MESSAGE) };
  return failure(`HTTP probe failed with statuscode: ${statusCode}`);
}

function tcpCheck(host: string, port: number, timeoutMs: number): Promise<CheckResult> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, noDelay: true });
    const end = (result: CheckResult) => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(timeoutMs, () => end(failure(`dial tcp ${hostPort(host, port)}: i/o timeout`)));
    socket.on('connect', () => end(success));
    socket.on('error', (error) => end(failure(`dial tcp ${hostPort(host, port)}: ${error.message}`)));
  });
}
