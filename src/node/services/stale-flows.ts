/**
 * Ends UDP flows whose endpoint is gone. The kernel translates a flow as it decided for its first packet for as long as
 * packets come, so without this a client of a removed endpoint would talk to nobody for good. TCP stays: its endpoint
 * closes the connection, or a client notices.
 *
 * Cleared are, for UDP frontends: flows to endpoints that left; all flows when the frontend lost its last endpoint or went;
 * and all when it got its first one (what is there then was never translated and would stay so). Never a flow to an endpoint that
 * serves when it is looked: it may have begun since, and with it an answer under way would be lost.
 *
 * Nothing is scanned for a change that concerns no UDP frontend. Where one does, everything that a sync has collected is
 * cleared in one pass over the flows, right after its commit; under a storm one pass serves all syncs of `MIN_PASS_MS`.
 */
import { type Clock, systemClock, type Timer } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { type Cidr, cidrContains, type Family } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Conntrack, ConntrackFilter, ConntrackFlow } from '../../linux/conntrack.ts';
import { type EndpointText, type Frontend, frontendKey } from './model.ts';

/** The least time between the starts of two passes, in milliseconds. */
const MIN_PASS_MS = 50;
/**
 * And so many times the processor time of the last pass, up to MAX_PASS_MS: the kernel's table is the whole machine's, and on a
 * busy one passes of 7 to 15 ms were seen. A storm of changes then spends a twentieth of a core here.
 */
const REST_FACTOR = 20;
const MAX_PASS_MS = 500;
/**
 * Up to so many endpoints are deleted by the kernel's own filter (0.5 ms each with 262,144 buckets, IPv4 only: its
 * comparison of IPv6 addresses is wrong); more, IPv6, and first endpoints by one dump (10 ms).
 */
const MAX_FILTERS = 8;

export interface StaleFlowsOptions {
  readonly conntrack: Pick<Conntrack, 'list' | 'delete' | 'deleteFlows' | 'count'>;
  readonly serviceCidrs: readonly Cidr[];
  readonly log: Logger;
  readonly clock?: Clock;
}

/** A frontend and the endpoints that serve it in the kernel. */
export interface Served {
  readonly frontend: Frontend;
  readonly inside: readonly EndpointText[];
  readonly outside: readonly EndpointText[];
}

/** What is to end at a frontend: flows to endpoints that are gone, or all, but those to endpoints that serve now. */
interface Doomed {
  readonly family: Family;
  readonly gone: ReadonlySet<EndpointText> | 'all';
  readonly serving: ReadonlySet<EndpointText>;
}

export class StaleFlows {
  readonly #options: StaleFlowsOptions;
  readonly #clock: Clock;
  readonly #doomed = new Map<string, Doomed>();
  #lastPass = Number.NEGATIVE_INFINITY;
  /** Processor time of the last pass, in milliseconds. */
  #lastTook = 0;
  #timer: Timer | undefined;
  readonly stats = { passes: 0, cleared: 0 };

  constructor(options: StaleFlowsOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Notes what a change of a frontend makes stale. Call `clear` when the change is in force. */
  note(before: Served | undefined, after: Served | undefined): void {
    const { frontend } = (after ?? before)!;
    if (frontend.protocol !== 'udp') return;
    const old = endpointsOf(before);
    const serving = endpointsOf(after);
    if (old.size === 0 && serving.size === 0) return;
    const key = frontendKey(frontend);
    const known = this.#doomed.get(key)?.gone ?? NO_ENDPOINTS;
    const gone =
      known === 'all' || old.size === 0 || serving.size === 0
        ? 'all'
        : new Set([...known, ...[...old].filter((endpoint) => !serving.has(endpoint))]);
    if (gone === 'all' || gone.size > 0) this.#doomed.set(key, { family: frontend.family, gone, serving });
  }

  /** Ends what was noted, now or a little later when a pass was only just made. Never throws: a failure is logged. */
  clear(): void {
    if (this.#doomed.size === 0 || this.#timer) return;
    const rest = Math.min(MAX_PASS_MS, Math.max(MIN_PASS_MS, REST_FACTOR * this.#lastTook));
    const wait = this.#lastPass + rest - this.#clock.now();
    if (wait <= 0) this.#pass();
    else {
      this.#timer = this.#clock.after(wait, () => {
        this.#timer = undefined;
        this.#pass();
      });
    }
  }

  /** Compares all UDP flows with what is in force: after a start or a rebuild, when nobody knows what changed. */
  clearAll(served: ReadonlyMap<string, Served>): void {
    this.#doomed.clear();
    this.#guarded(() => {
      // Cheaper than two walks over the machine's table (30 ms of a cold start).
      if (this.#options.conntrack.count() === 0) return;
      const addresses = new Set<string>();
      for (const { frontend } of served.values()) addresses.add(frontend.address);
      const isStale = (flow: ConntrackFlow): boolean => {
        const one = served.get(keyOfFlow(flow));
        if (one) return !endpointsOf(one).has(endpointOfFlow(flow));
        const { destination } = flow.orig;
        return (
          this.#options.serviceCidrs.some((cidr) => cidrContains(cidr, destination)) ||
          (addresses.has(destination) && flow.reply.source !== destination)
        );
      };
      for (const family of [4, 6] as const) this.#end(this.#flows(family).filter(isStale));
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #pass(): void {
    const doomed = new Map(this.#doomed);
    this.#doomed.clear();
    this.#lastPass = this.#clock.now();
    const before = process.cpuUsage();
    this.#guarded(() => {
      if (this.#options.conntrack.count() === 0) return;
      for (const family of [4, 6] as const) {
        const own = new Map([...doomed].filter(([, each]) => each.family === family));
        if (own.size === 0) continue;
        const filters = family === 4 ? filtersFor(own) : undefined;
        if (filters && filters.length <= MAX_FILTERS) this.#endByFilters(filters);
        else this.#end(this.#flows(family).filter((flow) => isDoomed(flow, own)));
      }
    });
    const { user, system } = process.cpuUsage(before);
    this.#lastTook = (user + system) / 1000;
  }

  #endByFilters(filters: readonly ConntrackFilter[]): void {
    this.stats.passes++;
    for (const filter of filters) this.#options.conntrack.delete(filter);
  }

  #flows(family: Family): readonly ConntrackFlow[] {
    this.stats.passes++;
    return this.#options.conntrack.list({ family, protocol: 'udp' });
  }

  #end(flows: readonly ConntrackFlow[]): void {
    if (flows.length === 0) return;
    this.#options.conntrack.deleteFlows(flows);
    this.stats.cleared += flows.length;
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#options.log.warn({ error }, `stale UDP flows could not be ended: ${messageOf(error)}`);
    }
  }
}

function isDoomed(flow: ConntrackFlow, doomed: ReadonlyMap<string, Doomed>): boolean {
  const one = doomed.get(keyOfFlow(flow));
  if (!one) return false;
  const endpoint = endpointOfFlow(flow);
  return !one.serving.has(endpoint) && (one.gone === 'all' || one.gone.has(endpoint));
}

/** The same as filters, one for each endpoint; undefined where it cannot be said so: all but some. */
function filtersFor(doomed: ReadonlyMap<string, Doomed>): readonly ConntrackFilter[] | undefined {
  const filters: ConntrackFilter[] = [];
  for (const [key, { family, gone, serving }] of doomed) {
    const [origDestination, , port] = key.split(' . ') as [string, string, string];
    const base = { family, protocol: 'udp', origDestination, origDestinationPort: Number(port) } as const;
    if (gone === 'all' && serving.size > 0) return undefined;
    if (gone === 'all') filters.push(base);
    else
      for (const endpoint of gone) {
        if (serving.has(endpoint)) continue;
        const [replySource, replyPort] = endpoint.split(' . ') as [string, string];
        filters.push({ ...base, replySource, replySourcePort: Number(replyPort) });
      }
  }
  return filters;
}

const NO_ENDPOINTS: ReadonlySet<EndpointText> = new Set();

function endpointsOf(one: Served | undefined): ReadonlySet<EndpointText> {
  return one ? new Set([...one.inside, ...one.outside]) : NO_ENDPOINTS;
}

function keyOfFlow({ orig, protocol }: ConntrackFlow): string {
  return `${orig.destination} . ${protocol} . ${orig.destinationPort}`;
}

function endpointOfFlow({ reply }: ConntrackFlow): EndpointText {
  return `${reply.source} . ${reply.sourcePort}`;
}
