/** `podwire up`: starts a cluster, in the foreground or detached. */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import colors from 'picocolors';
import { UserError } from '../base/errors.ts';
import { createLogger } from '../base/log.ts';
import { Cluster } from '../cluster/cluster.ts';
import { type IpFamily, type PodNetworkMode, writeDescription } from '../cluster/description.ts';
import { checkName } from '../cluster/paths.ts';
import type { ProxyMode } from '../cluster/proxy-mode.ts';
import { selfCommand } from '../cluster/self.ts';
import { defaultKubeconfigPath, mergeIntoKubeconfig, removeFromKubeconfig } from '../kube/kubeconfig.ts';
import { Progress } from './terminal.ts';

export interface UpOptions {
  readonly name: string;
  readonly nodes: number;
  readonly ipFamily: IpFamily;
  readonly podNetwork: PodNetworkMode;
  readonly proxy: ProxyMode;
  readonly loadBalancerPool?: readonly string[];
  readonly detach?: boolean;
  readonly kubeconfig?: string;
  readonly merge?: boolean;
  /** Set by a parent that waits for messages: this process is the detached supervisor. */
  readonly reportToParent?: boolean;
}

/** What the detached supervisor tells the command that started it. */
type Report = { step: string } | { ready: true } | { failed: string; hint?: string; exitCode: number };

export async function up(options: UpOptions): Promise<void> {
  if (options.reportToParent) return superviseDetached(options);
  if (options.detach) return startDetached(options);
  const progress = new Progress();
  const interrupt = watchForInterrupt();
  const cluster = await startCluster(options, interrupt, (step) => progress.step(step), progress);
  progress.say(readyText(cluster, progress.elapsed, 'Ctrl-C takes it down.'));
  await interrupt.happened;
  progress.step(`taking ${cluster.name} down`);
  await takeDown(cluster);
  progress.done();
}

/** Starts the cluster and merges its context; a failure or an interrupt while starting leaves nothing behind. */
export async function startCluster(
  options: UpOptions,
  interrupt: Interrupt,
  step: (text: string) => void,
  progress?: Progress,
): Promise<Cluster> {
  try {
    const cluster = await Cluster.start({
      ...options,
      progress: step,
      signal: interrupt.signal,
      log: createLogger('supervisor', { cluster: options.name }),
    });
    if (options.merge !== false) mergeContext(cluster, options.kubeconfig);
    return cluster;
  } catch (error) {
    progress?.fail();
    throw error;
  }
}

function mergeContext(cluster: Cluster, file = defaultKubeconfigPath()): void {
  mergeIntoKubeconfig(file, cluster.context, cluster.access);
  writeDescription({ ...cluster.description, mergedInto: file });
}

export async function takeDown(cluster: Cluster, merged?: string): Promise<void> {
  const file = merged ?? Cluster.open(cluster.name).description.mergedInto;
  await cluster.stop();
  if (file) removeFromKubeconfig(file, cluster.context);
}

/** The wish of the user, or of the system, that all ends. */
export interface Interrupt {
  /** Resolves at the first SIGINT, SIGTERM or SIGHUP. */
  readonly happened: Promise<NodeJS.Signals>;
  /** Aborted at the same time, with a UserError that says so. */
  readonly signal: AbortSignal;
}

/** From now on the first signal is told, and a second one ends the process at once. */
export function watchForInterrupt(): Interrupt {
  const { promise: happened, resolve } = Promise.withResolvers<NodeJS.Signals>();
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(1);
      resolve(signal);
      const exitCode = 128 + constants.signals[signal];
      controller.abort(new UserError(`interrupted by ${signal}: nothing is left behind`, { exitCode }));
    });
  }
  return { happened, signal: controller.signal };
}

function readyText(cluster: Cluster, seconds: string, ending: string): string {
  const nodes = `${cluster.nodes.length} node${cluster.nodes.length === 1 ? '' : 's'}`;
  return [
    `${colors.green(colors.bold(`cluster ${cluster.name} is ready`))}: ${nodes}, ${seconds} s`,
    `  kubectl --context ${cluster.context} get nodes -o wide`,
    `  ${ending}`,
  ].join('\n');
}

async function startDetached(options: UpOptions): Promise<void> {
  const progress = new Progress();
  checkName(options.name);
  const child = spawnSupervisor(options);
  const interrupt = watchForInterrupt();
  interrupt.signal.addEventListener('abort', () => child.kill('SIGTERM'));
  await new Promise<void>((resolve, reject) => {
    child.on('message', (report: Report) => {
      if ('step' in report) progress.step(report.step);
      else if ('ready' in report) resolve();
      else reject(new UserError(report.failed, { hint: report.hint, exitCode: report.exitCode }));
    });
    child.on('exit', (code, signal) => reject(new UserError(`the supervisor ended with ${signal ?? code}`)));
  }).catch((error: unknown) => {
    progress.fail();
    throw error;
  });
  child.removeAllListeners('exit');
  child.disconnect();
  child.unref();
  const cluster = Cluster.open(options.name);
  progress.say(readyText(cluster, progress.elapsed, `podwire down --name ${cluster.name} takes it down.`));
}

function spawnSupervisor(options: UpOptions): ChildProcess {
  const [program, ...args] = selfCommand([
    'up',
    '--report-to-parent',
    ...['--name', options.name, '--nodes', `${options.nodes}`],
    ...['--ip-family', options.ipFamily, '--pod-network', options.podNetwork, '--proxy', options.proxy],
    ...(options.loadBalancerPool ?? []).flatMap((range) => ['--load-balancer-pool', range]),
    ...(options.kubeconfig ? ['--kubeconfig', options.kubeconfig] : []),
    ...(options.merge === false ? ['--no-merge'] : []),
  ]);
  return spawn(program, args, { stdio: ['ignore', 'ignore', 'ignore', 'ipc'], detached: true });
}

async function superviseDetached(options: UpOptions): Promise<void> {
  const tell = (report: Report) => void (process.connected && process.send?.(report));
  const interrupt = watchForInterrupt();
  try {
    const cluster = await startCluster(options, interrupt, (step) => tell({ step }));
    tell({ ready: true });
    await interrupt.happened;
    await takeDown(cluster);
  } catch (error) {
    const { message, hint, exitCode } =
      error instanceof UserError ? error : { message: String(error), hint: undefined, exitCode: 1 };
    tell({ failed: message, hint, exitCode });
    process.exitCode = exitCode;
  }
}
