/** The comparison with the real kube-proxy as metrics. */
import { distribution, type Metrics } from '../../metrics.ts';
import type { Programs } from '../connect-lab.ts';
import { type Changes, type Compared, compareFromApi, SHORTEST_SYNC_MS } from './measure.ts';

const VARIABLE = 'PODWIRE_KUBE_PROXY';

/** None, with a word on stderr, where no kube-proxy is given. */
export async function fromApiMetrics(folder: string, programs: Programs, count: number): Promise<Metrics> {
  const program = process.env[VARIABLE];
  if (program) return metrics(await compareFromApi(program, folder, programs, count));
  process.stderr.write(`the real kube-proxy is left out: ${VARIABLE}=/path/to/kube-proxy adds it\n`);
  return {};
}

function metrics({ peer, podwire, kubeProxy, hasty }: Compared): Metrics {
  const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
  const both = (of: (one: typeof podwire) => string) => `${of(podwire)} against ${of(kubeProxy)}`;
  const cpu = (ms: number) => `${ms.toFixed(1)} ms`;
  const change = (own: Changes, other: Changes, name: string, note: string) => ({
    unit: 'ms',
    podwire: distribution(own.ms),
    peer: { name, ...distribution(other.ms) },
    note: `${note}; CPU of a change ${cpu(own.cpuMs)} against ${cpu(other.cpuMs)}`,
  });
  const lone = "from the write at podwire's API server to the kernel's new generation, one at a time";
  const stream = 'the same, four a second';
  return {
    'services.api_load_10k': {
      unit: 'ms',
      podwire: distribution([podwire.loadMs]),
      peer: { name: peer, ...distribution([kubeProxy.loadMs]) },
      note:
        `from the start of the process, over podwire's API server, to all in the kernel; of this the sync alone ` +
        `${both(({ syncMs }) => seconds(syncMs))}; CPU ${both(({ loadCpuMs }) => seconds(loadCpuMs))}`,
    },
    'services.api_change': change(
      podwire.lone,
      kubeProxy.lone,
      peer,
      `${lone}; minSyncPeriod 1 s, the default, which a lone change does not wait for`,
    ),
    'services.api_change_stream': change(podwire.stream, kubeProxy.stream, peer, `${stream}; minSyncPeriod 1 s`),
    'services.api_change_stream_hasty': change(
      podwire.stream,
      hasty,
      `${peer}, minSyncPeriod ${SHORTEST_SYNC_MS} ms`,
      stream,
    ),
    'services.api_churn': {
      unit: 'updates/s',
      moreIsBetter: true,
      podwire: distribution([podwire.churn.perSecond]),
      peer: { name: peer, ...distribution([kubeProxy.churn.perSecond]) },
      note:
        `as fast as the API server takes them (${both(({ churn }) => String(churn.written))} written), until the last is in ` +
        `the kernel; CPU of a change ${both(({ churn }) => `${churn.cpuMs.toFixed(2)} ms`)}`,
    },
    'services.api_connect_10k': {
      unit: 'us',
      podwire: distribution(podwire.connect),
      peer: { name: peer, ...distribution(kubeProxy.connect) },
      note: 'cost above a direct connect',
    },
  };
}
