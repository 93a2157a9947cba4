/**
 * The real kube-proxy in its nftables mode, from a program that is given: started in a network namespace, with nothing of the
 * machine within its reach. Its configuration is Kubernetes' default, but for what is the machine's: it leaves conntrack's
 * limits alone (they are not of a namespace), and has a /run of its own for the lock file of iptables.
 */
import { get } from 'node:http';
import { Socket } from 'node:net';
import { stringify } from 'yaml';
import { checkedCommand } from '../../../src/base/command.ts';
import type { NetworkNamespace } from '../../../src/linux/netns.ts';
import { connectTcp } from '../../../src/linux/sockets.ts';

const METRICS_PORT = 10249;
const HEALTH_PORT = 10256;

/** "kube-proxy v1.36.3, nftables by nft 1.0.6": it runs the machine's nft, on which much of its time depends. */
export async function nameOf(program: string): Promise<string> {
  const version = async (of: string, pattern: RegExp) => {
    const text = await checkedCommand([of, '--version']);
    return pattern.exec(text)?.[0] ?? text.trim();
  };
  const [own, nft] = await Promise.all([version(program, /v\d+\.\d+\.\S+/), version('nft', /\d+\.\d+\.\d+/)]);
  return `kube-proxy ${own}, nftables by nft ${nft}`;
}

export interface KubeProxySettings {
  readonly kubeconfig: string;
  readonly nodeName: string;
  /** The least time between two syncs, in milliseconds; undefined is its default, 1 s, and 0 means that too. */
  readonly minSyncMs?: number | undefined;
}

/** Its configuration file. */
export function renderConfiguration({ kubeconfig, nodeName, minSyncMs }: KubeProxySettings): string {
  return stringify({
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'nftables',
    hostnameOverride: nodeName,
    clusterCIDR: '10.244.0.0/16',
    clientConnection: { kubeconfig },
    healthzBindAddress: `127.0.0.1:${HEALTH_PORT}`,
    metricsBindAddress: `127.0.0.1:${METRICS_PORT}`,
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    oomScoreAdj: 0,
    ...(minSyncMs === undefined ? {} : { nftables: { minSyncPeriod: `${minSyncMs}ms` } }),
  });
}

/** What starts it: in a mount namespace of its own; it ends with its parent. */
export function commandOf(program: string, configuration: string): readonly [string, ...string[]] {
  const run = 'mount -t tmpfs tmpfs /run && exec "$0" --config "$1"';
  return ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', 'sh', '-c', run, program, configuration];
}

export interface SyncCounts {
  /** Syncs of IPv4 rules, in full and in part, that have ended. */
  readonly full: number;
  readonly partial: number;
  /** All of them together, in milliseconds. */
  readonly fullMs: number;
  readonly partialMs: number;
}

/** What it says of its own syncs; undefined while it does not answer. */
export async function syncCounts(ns: NetworkNamespace): Promise<SyncCounts | undefined> {
  const text = await metricsText(ns).catch(() => undefined);
  if (text === undefined) return undefined;
  const of = (kind: 'full' | 'partial', field: 'sum' | 'count') => {
    const name = `kubeproxy_sync_${kind}_proxy_rules_duration_seconds_${field}`;
    return Number(new RegExp(`^${name}\\{[^}]*ip_family="IPv4"[^}]*\\} (\\S+)$`, 'm').exec(text)?.[1] ?? 0);
  };
  return {
    full: of('full', 'count'),
    partial: of('partial', 'count'),
    fullMs: of('full', 'sum') * 1000,
    partialMs: of('partial', 'sum') * 1000,
  };
}

async function metricsText(ns: NetworkNamespace): Promise<string> {
  const fd = await connectTcp({ ns, address: '127.0.0.1', port: METRICS_PORT });
  return new Promise((resolve, reject) => {
    const request = get({ createConnection: () => new Socket({ fd }), path: '/metrics' }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve(text)).on('error', reject);
    });
    request.on('error', reject);
  });
}
