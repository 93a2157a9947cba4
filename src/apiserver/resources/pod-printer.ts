/**
 * The columns of `kubectl get pods`. The STATUS and READY logic is that of the real server's printer: init containers that
 * have not ended win over the rest, waiting and terminated reasons over the phase, a deletion over everything.
 */
import { isReady } from '../../kube/conditions.ts';
import type { Pod, PodStatus } from '../../kube/types.ts';
import { age, humanDuration } from './age.ts';
import type { Cell, Column } from './kind.ts';

export const podColumns: readonly Column[] = [
  { name: 'Name', format: 'name' },
  { name: 'Ready', description: 'The aggregate readiness state of this pod for accepting traffic.' },
  { name: 'Status', description: 'The aggregate status of the containers in this pod.' },
  { name: 'Restarts', description: 'How often containers were restarted and when the last restart was.' },
  { name: 'Age' },
  { name: 'IP', priority: 1 },
  { name: 'Node', priority: 1 },
  { name: 'Nominated Node', priority: 1 },
  { name: 'Readiness Gates', priority: 1 },
];

type ContainerStatus = NonNullable<PodStatus['containerStatuses']>[number];

interface Summary {
  readonly reason: string;
  readonly ready: number;
  readonly total: number;
  readonly restarts: number;
  readonly lastRestart: number | undefined;
}

export function podRow(pod: Pod, now: number): readonly Cell[] {
  const summary = summarize(pod);
  const restarts =
    summary.restarts > 0 && summary.lastRestart !== undefined
      ? `${summary.restarts} (${humanDuration(now - summary.lastRestart)} ago)`
      : String(summary.restarts);
  const gates = pod.spec.readinessGates ?? [];
  const conditions = pod.status?.conditions ?? [];
  const passed = gates.filter((gate) =>
    conditions.some((condition) => condition.type === gate.conditionType && condition.status === 'True'),
  );
  return [
    pod.metadata.name,
    `${summary.ready}/${summary.total}`,
    summary.reason,
    restarts,
    age(pod.metadata.creationTimestamp, now),
    pod.status?.podIPs?.[0]?.ip ?? pod.status?.podIP ?? '<none>',
    pod.spec.nodeName || '<none>',
    pod.status?.nominatedNodeName || '<none>',
    gates.length > 0 ? `${passed.length}/${gates.length}` : '<none>',
  ];
}

const isSidecar = (pod: Pod, name: string): boolean =>
  (pod.spec.initContainers ?? []).some((container) => container.name === name && container.restartPolicy === 'Always');

const finishedAt = (status: ContainerStatus): number | undefined => {
  const at = status.lastState?.terminated?.finishedAt;
  return at ? Date.parse(at) : undefined;
};

const latest = (times: readonly (number | undefined)[]): number | undefined => {
  const known = times.filter((time) => time !== undefined);
  return known.length > 0 ? Math.max(...known) : undefined;
};

function terminatedReason(terminated: NonNullable<NonNullable<ContainerStatus['state']>['terminated']>): string {
  if (terminated.reason) return terminated.reason;
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`;
}

function summarize(pod: Pod): Summary {
  const status = pod.status ?? {};
  const sidecars = (pod.spec.initContainers ?? []).filter((container) => container.restartPolicy === 'Always');
  const total = (pod.spec.containers ?? []).length + sidecars.length;
  let reason = status.reason || status.phase || 'Unknown';
  if (
    !status.reason &&
    (status.conditions ?? []).some((c) => c.type === 'PodScheduled' && c.reason === 'SchedulingGated')
  )
    reason = 'SchedulingGated';
  const init = summarizeInit(pod);
  let ready = init.readySidecars;
  let restarts = init.restarts;
  let lastRestart = init.lastRestart;
  if (init.reason !== undefined) reason = init.reason;
  if (init.reason === undefined || init.initialized) {
    const main = summarizeMain(pod, init.reason ?? reason);
    reason = main.reason;
    ready += main.ready;
    restarts = main.restarts + init.sidecarRestarts;
    lastRestart = latest([main.lastRestart, init.sidecarLastRestart]);
  }
  if (pod.metadata.deletionTimestamp) {
    if (status.reason === 'NodeLost') reason = 'Unknown';
    else if (status.phase !== 'Failed' && status.phase !== 'Succeeded') reason = 'Terminating';
  }
  return { reason, ready, total, restarts, lastRestart };
}

function summarizeInit(pod: Pod) {
  const statuses = pod.status?.initContainerStatuses ?? [];
  const sidecarStatuses = statuses.filter((status) => isSidecar(pod, status.name));
  const restarts = statuses.reduce((sum, status) => sum + (status.restartCount ?? 0), 0);
  const sidecarRestarts = sidecarStatuses.reduce((sum, status) => sum + (status.restartCount ?? 0), 0);
  const common = {
    restarts,
    lastRestart: latest(statuses.map(finishedAt)),
    sidecarRestarts,
    sidecarLastRestart: latest(sidecarStatuses.map(finishedAt)),
    readySidecars: sidecarStatuses.filter((status) => status.ready && status.started).length,
    initialized: (pod.status?.conditions ?? []).some((c) => c.type === 'Initialized' && c.status === 'True'),
  };
  for (const [i, status] of statuses.entries()) {
    const { terminated, waiting } = status.state ?? {};
    if (terminated?.exitCode === 0) continue;
    if (isSidecar(pod, status.name) && status.started) continue;
    if (terminated) return { ...common, reason: `Init:${terminatedReason(terminated)}` };
    if (waiting?.reason && waiting.reason !== 'PodInitializing') return { ...common, reason: `Init:${waiting.reason}` };
    return { ...common, reason: `Init:${i}/${pod.spec.initContainers?.length ?? statuses.length}` };
  }
  return { ...common, reason: undefined };
}

function summarizeMain(pod: Pod, phase: string) {
  let reason = phase;
  let ready = 0;
  let hasRunning = false;
  const statuses = pod.status?.containerStatuses ?? [];
  for (const status of statuses.toReversed()) {
    const { waiting, terminated, running } = status.state ?? {};
    if (waiting?.reason) reason = waiting.reason;
    else if (terminated) reason = terminatedReason(terminated);
    else if (status.ready && running) {
      hasRunning = true;
      ready++;
    }
  }
  if (reason === 'Completed' && hasRunning) {
    reason = isReady(pod) ? 'Running' : 'NotReady';
  }
  return {
    reason,
    ready,
    restarts: statuses.reduce((sum, status) => sum + (status.restartCount ?? 0), 0),
    lastRestart: latest(statuses.map(finishedAt)),
  };
}
