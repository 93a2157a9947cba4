/**
 * The virtual services of IPVS and their servers, as the kernel has them. IPVS drops what comes for a server that was deleted, so a
 * TCP server that left stays with weight 0 while it has connections, and its service with it. UDP servers go at once: their next
 * packet is scheduled anew.
 */
import type { IpAddress } from '../../../base/ip.ts';
import type { Ipvs, IpvsOperation, RealServer, VirtualService } from '../../../linux/ipvs.ts';
import { serviceKeyText } from '../../../linux/ipvs.ts';
import type { RenderedService } from './render.ts';

interface Known {
  readonly service: VirtualService;
  /** By "address . port". */
  readonly servers: Map<string, RealServer>;
}

const serverText = ({ address, port }: { address: string; port: number }): string => `${address} . ${port}`;

export class VirtualServices {
  readonly #ipvs: Pick<Ipvs, 'services' | 'servers' | 'change' | 'flush'>;
  readonly #known = new Map<string, Known>();
  /** The servers of each virtual service that is to be there. */
  readonly #wanted = new Map<string, ReadonlySet<string>>();
  /** Services with servers that are kept for their connections. */
  readonly #draining = new Set<string>();

  constructor(ipvs: Pick<Ipvs, 'services' | 'servers' | 'change' | 'flush'>) {
    this.#ipvs = ipvs;
  }

  /** Takes over what is there; nothing of it is wanted yet. */
  read(): void {
    for (const each of [this.#known, this.#wanted, this.#draining]) each.clear();
    for (const service of this.#ipvs.services()) {
      const servers = this.#ipvs.servers(service).map((server) => [serverText(server), server] as const);
      this.#known.set(serviceKeyText(service), { service, servers: new Map(servers) });
    }
  }

  get size(): number {
    return this.#known.size;
  }

  keys(): readonly string[] {
    return [...this.#known.keys()];
  }

  get draining(): ReadonlySet<string> {
    return this.#draining;
  }

  /** The service's address while the kernel has it; undefined also for a service by a mark. */
  addressOf(key: string): IpAddress | undefined {
    const service = this.#known.get(key)?.service;
    return service && 'address' in service ? service.address : undefined;
  }

  want({ service, servers }: RenderedService): void {
    this.#wanted.set(serviceKeyText(service), new Set(servers.map(serverText)));
  }

  unwant(key: string): void {
    this.#wanted.delete(key);
  }

  /** Writes services and servers that are not there yet; returns how many steps it took. */
  add(services: readonly RenderedService[]): number {
    const operations = services.flatMap((each) => this.#additions(each));
    this.#ipvs.change(operations);
    return operations.length;
  }

  #additions({ service, servers }: RenderedService): readonly IpvsOperation[] {
    const operations: IpvsOperation[] = [];
    const key = serviceKeyText(service);
    const known = this.#known.get(key);
    const { scheduler, persistenceSeconds } = known?.service ?? {};
    if (!known) operations.push({ op: 'newService', service });
    else if (persistenceSeconds !== service.persistenceSeconds || scheduler !== service.scheduler)
      operations.push({ op: 'setService', service });
    const next: Known = { service, servers: known?.servers ?? new Map() };
    this.#known.set(key, next);
    for (const { address, port } of servers) {
      const server = { address, port, weight: 1 };
      const before = next.servers.get(serverText(server));
      if (before?.weight === 1) continue;
      operations.push({ op: before ? 'setDestination' : 'newDestination', service, server });
      next.servers.set(serverText(server), server);
    }
    return operations;
  }

  /** Of these services, removes what is not wanted and has no connections; the rest is `draining`. */
  removeUnwanted(keys: Iterable<string>): void {
    for (const key of [...keys]) {
      const known = this.#known.get(key);
      if (known && this.#removeFrom(key, known) === 'draining') this.#draining.add(key);
      else this.#draining.delete(key);
    }
  }

  #removeFrom(key: string, { service, servers }: Known): 'done' | 'draining' {
    const wanted = this.#wanted.get(key);
    const gone = [...servers].filter(([text]) => !wanted?.has(text)).map(([, server]) => server);
    if (gone.length === 0 && wanted) return 'done';
    const isUdp = 'protocol' in service && service.protocol === 'udp';
    if (!isUdp) this.#stopScheduling({ service, servers }, gone);
    const busy = isUdp ? new Set<string>() : this.#busyServers(service);
    const idle = gone.filter((server) => !busy.has(serverText(server)));
    this.#ipvs.change(idle.map((server) => ({ op: 'deleteDestination', service, server })));
    for (const server of idle) servers.delete(serverText(server));
    if (!wanted && servers.size === 0) {
      this.#ipvs.change([{ op: 'deleteService', service }]);
      this.#known.delete(key);
    }
    return idle.length === gone.length ? 'done' : 'draining';
  }

  #stopScheduling({ service, servers }: Known, gone: readonly RealServer[]): void {
    const stopped = gone.filter(({ weight }) => weight > 0).map(({ address, port }) => ({ address, port, weight: 0 }));
    this.#ipvs.change(stopped.map((server) => ({ op: 'setDestination', service, server })));
    for (const server of stopped) servers.set(serverText(server), server);
  }

  #busyServers(service: VirtualService): ReadonlySet<string> {
    const states = this.#ipvs.servers(service);
    return new Set(states.filter((each) => each.activeConnections + each.inactiveConnections > 0).map(serverText));
  }

  /** All of IPVS in the namespace. */
  remove(): void {
    this.#ipvs.flush();
    for (const each of [this.#known, this.#wanted, this.#draining]) each.clear();
  }
}
