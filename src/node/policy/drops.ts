/**
 * Denied packets, told as they happen: taken from the kernel's log group (a sample, the rules limit its rate), decoded, and
 * explained by the oracle with the state of now. Keeps the last ones. Counting is the kernel's: `DeniedCounts`.
 */
import { type Clock, systemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { parseIp } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Startable } from '../../base/startable.ts';
import type { Pod } from '../../kube/types.ts';
import { type ClusterState, evaluator, type Packet, type Reason, type Verdict } from './oracle.ts';
import { logGroup } from './sets.ts';

/** What a packet of the log group says: the shape of src/linux/nflog. */
export interface DeniedPacket {
  /** The direction whose rules denied it. */
  readonly prefix: string;
  readonly headers:
    | {
        readonly source: string;
        readonly destination: string;
        readonly protocol: number;
        readonly sourcePort: number | undefined;
        readonly destinationPort: number | undefined;
      }
    | undefined;
}

export interface Drop {
  /** RFC 3339. */
  readonly time: string;
  readonly node: string;
  readonly direction: 'egress' | 'ingress';
  /** "TCP", "UDP", "SCTP", "ICMP", or the number of the protocol. */
  readonly protocol: string;
  readonly source: DropEnd;
  readonly destination: DropEnd;
  /** The policies that isolate the pod in this direction: "namespace/name"; a ClusterNetworkPolicy by its name alone. */
  readonly policies: readonly string[];
  /** For people, when no policy denies it any more by the state of now. */
  readonly note?: string;
}

export interface DropEnd {
  readonly address: string;
  readonly port?: number;
  /** "namespace/name" of the pod that has the address now. */
  readonly pod?: string;
}

export interface PolicyDropsOptions {
  readonly nodeName: string;
  /** The objects of now; asked at most once a second. */
  readonly state: () => ClusterState;
  /** Opens the kernel's log group. Throws where there is none. */
  readonly watch: (options: { readonly group: number; readonly onPacket: (packet: DeniedPacket) => void }) => {
    close(): void;
  };
  readonly log: Logger;
  readonly clock?: Clock;
}

/** So many drops are kept for those who ask later. */
const kept = 256;
/** How long a picture of the cluster serves, milliseconds. */
const pictureMs = 1000;
const retryMs = 2000;

const protocolNames: ReadonlyMap<number, string> = new Map([
  [1, 'ICMP'],
  [6, 'TCP'],
  [17, 'UDP'],
  [58, 'ICMPv6'],
  [132, 'SCTP'],
]);

interface Picture {
  readonly at: number;
  readonly evaluate: (packet: Packet) => Verdict;
  readonly podAt: ReadonlyMap<string, string>;
}

export class PolicyDrops implements Startable {
  readonly #options: PolicyDropsOptions;
  readonly #clock: Clock;
  readonly #recent: Drop[] = [];
  readonly #listeners = new Set<(drop: Drop) => void>();
  #picture: Picture | undefined;
  #warned = false;

  constructor(options: PolicyDropsOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Never rejects: without log groups denied packets are still counted, by the table's own counters. */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#watch(signal)) return;
    // A former life of the agent may hold the group a moment longer.
    void this.#watchLater(signal).catch(() => {});
  }

  async #watchLater(signal: AbortSignal): Promise<void> {
    do await this.#clock.sleep(retryMs, signal);
    while (!this.#watch(signal));
  }

  #watch(signal: AbortSignal): boolean {
    try {
      const watch = this.#options.watch({ group: logGroup, onPacket: (packet) => this.#take(packet) });
      signal.addEventListener('abort', () => watch.close(), { once: true });
      return true;
    } catch (error) {
      const level = this.#warned ? 'debug' : 'warn';
      this.#warned = true;
      this.#options.log[level]({ error }, `denied packets cannot be shown on this node now: ${messageOf(error)}`);
      return false;
    }
  }

  /** The last ones, oldest first. */
  recent(): readonly Drop[] {
    return this.#recent;
  }

  /** Tells of each drop from now on, until the returned function is called. */
  subscribe(listener: (drop: Drop) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #take(packet: DeniedPacket): void {
    try {
      const drop = this.#explain(packet);
      if (!drop) return;
      this.#recent.push(drop);
      if (this.#recent.length > kept) this.#recent.shift();
      for (const listener of this.#listeners) listener(drop);
    } catch (error) {
      this.#options.log.debug({ error }, `a denied packet could not be explained: ${messageOf(error)}`);
    }
  }

  #explain({ prefix, headers }: DeniedPacket): Drop | undefined {
    if (!headers || (prefix !== 'ingress' && prefix !== 'egress')) return undefined;
    const { evaluate, podAt } = this.#pictureOfNow();
    const protocol = protocolNames.get(headers.protocol) ?? String(headers.protocol);
    const { source: srcIp, destination: dstIp, destinationPort: dport } = headers;
    const { reasons } = evaluate({ srcIp, dstIp, protocol, ...(dport === undefined ? {} : { dport }) });
    const reason = reasons.find(({ direction }) => direction === prefix)!;
    const end = (address: string, port: number | undefined): DropEnd => {
      const pod = podAt.get(address);
      return { address, ...(port === undefined ? {} : { port }), ...(pod ? { pod } : {}) };
    };
    return {
      time: new Date(this.#clock.now()).toISOString(),
      node: this.#options.nodeName,
      direction: prefix,
      protocol,
      source: end(srcIp, headers.sourcePort),
      destination: end(dstIp, dport),
      policies: deniedBy(reason),
      ...(reason.verdict === 'allow' ? { note: noteOf(reason) } : {}),
    };
  }

  #pictureOfNow(): Picture {
    const now = this.#clock.now();
    if (this.#picture && now - this.#picture.at < pictureMs) return this.#picture;
    const state = this.#options.state();
    const pods = [...state.pods];
    const entries = pods.flatMap((pod) =>
      podAddresses(pod).map((address) => [address, `${pod.metadata.namespace}/${pod.metadata.name}`] as const),
    );
    this.#picture = { at: now, evaluate: evaluator({ ...state, pods }), podAt: new Map(entries) };
    return this.#picture;
  }
}

function podAddresses({ spec, status }: Pod): string[] {
  if (spec.hostNetwork || status?.phase === 'Succeeded' || status?.phase === 'Failed') return [];
  return (status?.podIPs ?? []).flatMap(({ ip }) => (ip ? [parseIp(ip)] : []));
}

function deniedBy({ verdict, policies, tiers }: Reason): readonly string[] {
  if (verdict === 'allow') return [];
  const decided = tiers?.findLast(({ action }) => action === 'Deny');
  return decided ? [decided.policy] : policies;
}

/** The kernel denied what the API's objects of now allow. */
function noteOf({ cause }: Reason): string {
  return cause === 'not-a-pod'
    ? 'no pod is known at the address: it was isolated until one is'
    : 'by the state of now it is allowed: a policy or a pod has just changed';
}
