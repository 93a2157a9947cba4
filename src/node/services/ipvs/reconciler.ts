/**
 * The mode ipvs: a virtual service of IPVS for each frontend, a dummy device that makes its address the node's own (IPVS takes only
 * what is delivered locally), and a small nftables table for all that IPVS does not decide.
 *
 * IPVS drops what comes for a server that was deleted, so a TCP server that left stays with weight 0 until its connections have
 * ended, and with it its service and address; nftables refuses new connections meanwhile. UDP servers go at once: their next packet
 * is scheduled anew.
 */
import type { Family, IpAddress } from '../../../base/ip.ts';
import { isBusy, isExists, isNotFound } from '../../../linux/errors.ts';
import type { Ipvs, IpvsOperation, VirtualService } from '../../../linux/ipvs.ts';
import { serviceKeyText } from '../../../linux/ipvs.ts';
import type { NetworkNamespace } from '../../../linux/netns.ts';
import type { Nftables } from '../../../linux/nftables.ts';
import type { Rtnetlink } from '../../../linux/rtnetlink.ts';
import { writeSysctl } from '../../../linux/sysctl.ts';
import { type FrontendBackend, type FrontendChange, FrontendRules } from '../frontend-rules.ts';
import { type Frontend, frontendKey } from '../model.ts';
import type { ClusterAddresses, RulesContext } from '../rules.ts';
import { ARP_TABLE, FIRST_FWMARK, FWMARK_COUNT, MAPS, renderArpTable, renderTable, tableOf } from './chains.ts';
import { type Element, type RenderedFrontend, type RenderedService, renderFrontend } from './render.ts';

export interface IpvsPort {
  /** Where the sysctls are set; undefined: the namespace of the process. */
  readonly ns?: NetworkNamespace | undefined;
  readonly ipvs: Pick<Ipvs, 'services' | 'servers' | 'change' | 'flush'>;
  readonly links: Pick<
    Rtnetlink,
    'link' | 'createLink' | 'ensureNoLink' | 'addresses' | 'addAddress' | 'deleteAddress'
  >;
  readonly nft: Pick<Nftables, 'run' | 'runAsync' | 'list'>;
}

/** The mode ipvs, on sockets that were opened in the node's namespace. */
export function ipvsRules(port: IpvsPort): (context: RulesContext) => FrontendRules {
  return (context) => new FrontendRules(new IpvsBackend(port, context.families ?? [4, 6]), context);
}

/** kube-proxy's name for it. */
export const DEVICE = 'kube-ipvs0';
/** How often it is looked whether the connections of servers that left have ended. */
const DRAIN_MS = 1000;
/** Text longer than this is applied by a pool thread, so that the event loop goes on. */
const ASYNC_BYTES = 128 * 1024;

/** Translation and conntrack together, which masquerading needs; clients of what is gone are scheduled anew at once. */
const SYSCTLS = { conntrack: 1, expire_nodest_conn: 1, expire_quiescent_template: 1 } as const;

/** What the kernel has of one virtual service. */
interface Known {
  readonly service: VirtualService;
  /** Weights by "address . port". */
  readonly servers: Map<string, { readonly address: IpAddress; readonly port: number; readonly weight: number }>;
}

const serverText = ({ address, port }: { address: string; port: number }): string => `${address} . ${port}`;

export class IpvsBackend implements FrontendBackend {
  readonly #port: IpvsPort;
  readonly #families: readonly Family[];
  readonly #frontends = new Map<string, RenderedFrontend>();
  readonly #services = new Map<string, Known>();
  /** The servers of each virtual service that is to be there. */
  readonly #wanted = new Map<string, ReadonlySet<string>>();
  /** How many frontends ask for an element or address. */
  readonly #users = new Map<string, number>();
  readonly #addressUsers = new Map<IpAddress, number>();
  readonly #bound = new Set<IpAddress>();
  /** Services without frontend whose connections have not ended: nftables refuses new ones. */
  readonly #leaving = new Set<string>();
  readonly #fwmarks = new Map<string, number>();
  readonly #takenMarks = new Set<number>();
  #timer: NodeJS.Timeout | undefined;
  #isBroken = false;

  constructor(port: IpvsPort, families: readonly Family[]) {
    this.#port = port;
    this.#families = families;
  }

  async load(frontends: readonly Frontend[], addresses: ClusterAddresses): Promise<number> {
    for (const [name, value] of Object.entries(SYSCTLS)) writeSysctl(this.#port.ns, `net.ipv4.vs.${name}`, value);
    this.#readKernel();
    this.#leaving.clear();
    this.#isBroken = false;
    for (const each of [
      this.#frontends,
      this.#wanted,
      this.#users,
      this.#addressUsers,
      this.#fwmarks,
      this.#takenMarks,
    ])
      each.clear();
    const elements = new ElementTexts();
    for (const frontend of frontends) this.#enter(frontend, elements);
    this.#addServers(this.#frontends.values());
    const tables = this.#families.map((family) => replacement(tableOf(family), renderTable(family, addresses)));
    await this.#runNft(
      `${tables.join('')}${replacement(ARP_TABLE, renderArpTable())}${elements.render(this.#families)}${this.#leavingText()}`,
    );
    this.#removeServers(this.#services.keys());
    this.#unbind();
    const rest = this.#leavingText();
    if (rest) await this.#runNft(rest);
    return elements.size + this.#services.size;
  }

  async change(changes: readonly FrontendChange[]): Promise<number> {
    const elements = new ElementTexts();
    const touched = new Set<string>();
    const added: RenderedFrontend[] = [];
    for (const { id, after } of changes) {
      for (const key of this.#leave(id, elements)) touched.add(key);
      if (after) added.push(this.#enter(after, elements));
      else this.#freeMark(id);
    }
    const written = this.#addServers(added);
    const text = elements.render(this.#families) + this.#leavingText();
    if (text) await this.#runNft(text);
    this.#removeServers(touched);
    this.#unbind();
    const rest = this.#leavingText();
    if (rest) await this.#runNft(rest);
    return elements.size + written;
  }

  isIntact(): boolean {
    if (this.#isBroken) return false;
    try {
      return (
        this.#families.every((family) =>
          this.#port.nft.list(`set ${tableOf(family)} service-cidrs`).includes('service-cidrs'),
        ) && this.#port.links.link(DEVICE) !== undefined
      );
    } catch (error) {
      return isBusy(error);
    }
  }

  remove(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#port.ipvs.flush();
    this.#port.links.ensureNoLink(DEVICE);
    const tables = [...this.#families.map(tableOf), ARP_TABLE];
    this.#port.nft.run(tables.map((table) => `add table ${table}\ndelete table ${table}\n`).join(''));
    this.#services.clear();
    this.#bound.clear();
  }

  /** What an earlier agent left, or this one: all of IPVS and of the device in this namespace are ours. */
  #readKernel(): void {
    const { ipvs, links } = this.#port;
    this.#services.clear();
    for (const service of ipvs.services()) {
      const servers = ipvs.servers(service).map((server) => [serverText(server), server] as const);
      this.#services.set(serviceKeyText(service), { service, servers: new Map(servers) });
    }
    try {
      links.createLink({ name: DEVICE, kind: 'dummy', up: true });
    } catch (error) {
      if (!isExists(error)) throw error;
    }
    this.#bound.clear();
    // The link-local address is the kernel's own.
    for (const { address, scope } of links.addresses({ device: DEVICE }))
      if (scope !== 'link') this.#bound.add(address);
  }

  #enter(frontend: Frontend, elements: ElementTexts): RenderedFrontend {
    const id = frontendKey(frontend);
    const rendered = renderFrontend(frontend, this.#markOf(id));
    this.#frontends.set(id, rendered);
    for (const element of rendered.elements) this.#use(frontend.family, element, 1, elements);
    if (rendered.address) this.#addressUsers.set(rendered.address, (this.#addressUsers.get(rendered.address) ?? 0) + 1);
    for (const { service, servers } of rendered.services)
      this.#wanted.set(serviceKeyText(service), new Set(servers.map(serverText)));
    return rendered;
  }

  /** Returns the virtual services that the frontend had. */
  #leave(id: string, elements: ElementTexts): readonly string[] {
    const rendered = this.#frontends.get(id);
    if (!rendered) return [];
    this.#frontends.delete(id);
    const family = id.includes(':') ? 6 : 4;
    for (const element of rendered.elements) this.#use(family, element, -1, elements);
    if (rendered.address) this.#addressUsers.set(rendered.address, this.#addressUsers.get(rendered.address)! - 1);
    const keys = rendered.services.map(({ service }) => serviceKeyText(service));
    for (const key of keys) this.#wanted.delete(key);
    return keys;
  }

  #use(family: Family, element: Element, count: 1 | -1, elements: ElementTexts): void {
    const id = `${family} ${element.set} ${element.key} ${element.value ?? ''}`;
    const before = this.#users.get(id) ?? 0;
    const after = before + count;
    if (after === 0) this.#users.delete(id);
    else this.#users.set(id, after);
    if (before === 0) elements.add(family, element);
    if (after === 0) elements.remove(family, element);
  }

  /** A mark for each frontend whose clients outside go elsewhere: a hash, so that a new agent gives the same. */
  #markOf(id: string): number {
    const known = this.#fwmarks.get(id);
    if (known !== undefined) return known;
    let hash = 0x811c9dc5;
    for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
    let mark = FIRST_FWMARK + ((hash >>> 0) % FWMARK_COUNT);
    while (this.#takenMarks.has(mark)) mark = mark + 1 < FIRST_FWMARK + FWMARK_COUNT ? mark + 1 : FIRST_FWMARK;
    this.#fwmarks.set(id, mark);
    this.#takenMarks.add(mark);
    return mark;
  }

  #freeMark(id: string): void {
    const mark = this.#fwmarks.get(id);
    if (mark === undefined) return;
    this.#fwmarks.delete(id);
    this.#takenMarks.delete(mark);
  }

  /** Addresses, services and servers that are new, before packets are sent there. */
  #addServers(frontends: Iterable<RenderedFrontend>): number {
    const operations: IpvsOperation[] = [];
    for (const { services, address } of frontends) {
      if (address && !this.#bound.has(address)) this.#bind(address);
      for (const each of services) this.#addService(each, operations);
    }
    this.#port.ipvs.change(operations);
    return operations.length;
  }

  #addService({ service, servers }: RenderedService, operations: IpvsOperation[]): void {
    const text = serviceKeyText(service);
    const known = this.#services.get(text);
    if (!known) operations.push({ op: 'newService', service });
    else if (
      known.service.persistenceSeconds !== service.persistenceSeconds ||
      known.service.scheduler !== service.scheduler
    )
      operations.push({ op: 'setService', service });
    const next: Known = { service, servers: known?.servers ?? new Map() };
    this.#services.set(text, next);
    for (const { address, port } of servers) {
      const server = { address, port, weight: 1 };
      const before = next.servers.get(serverText(server));
      if (before?.weight === 1) continue;
      operations.push({ op: before ? 'setDestination' : 'newDestination', service, server });
      next.servers.set(serverText(server), server);
    }
  }

  /** Servers and services that nobody wants any more; what still has connections stays for now. */
  #removeServers(touched: Iterable<string>): void {
    let isDraining = false;
    for (const key of [...touched]) {
      const known = this.#services.get(key);
      if (known && this.#removeFrom(known, this.#wanted.get(key)) === 'draining') isDraining = true;
    }
    if (isDraining) this.#planSweep();
  }

  #removeFrom({ service, servers }: Known, wanted: ReadonlySet<string> | undefined): 'done' | 'draining' {
    const gone = [...servers].filter(([text]) => !wanted?.has(text)).map(([, server]) => server);
    if (gone.length === 0 && wanted) return 'done';
    const { ipvs } = this.#port;
    const isUdp = 'protocol' in service && service.protocol === 'udp';
    if (!isUdp)
      this.#stopScheduling(
        service,
        servers,
        gone.filter(({ weight }) => weight > 0),
      );
    const busy = isUdp ? new Set<string>() : this.#busyServers(service);
    const idle = gone.filter((server) => !busy.has(serverText(server)));
    ipvs.change(idle.map((server) => ({ op: 'deleteDestination', service, server })));
    for (const server of idle) servers.delete(serverText(server));
    if (!wanted && servers.size === 0) {
      ipvs.change([{ op: 'deleteService', service }]);
      this.#services.delete(serviceKeyText(service));
    }
    return idle.length === gone.length ? 'done' : 'draining';
  }

  #stopScheduling(
    service: VirtualService,
    servers: Known['servers'],
    gone: readonly { address: IpAddress; port: number }[],
  ): void {
    const stopped = gone.map(({ address, port }) => ({ address, port, weight: 0 }));
    this.#port.ipvs.change(stopped.map((server) => ({ op: 'setDestination', service, server })));
    for (const server of stopped) servers.set(serverText(server), server);
  }

  #busyServers(service: VirtualService): ReadonlySet<string> {
    const states = this.#port.ipvs.servers(service);
    return new Set(states.filter((each) => each.activeConnections + each.inactiveConnections > 0).map(serverText));
  }

  #planSweep(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      try {
        const leaving = [...this.#services].filter(([, { servers }]) =>
          [...servers.values()].some(({ weight }) => weight === 0),
        );
        this.#removeServers(leaving.map(([key]) => key));
        this.#unbind();
        const text = this.#leavingText();
        if (text) void this.#runNft(text).catch(() => this.#giveUp());
      } catch {
        this.#giveUp();
      }
    }, DRAIN_MS).unref();
  }

  /** Somebody else has been at IPVS or the table: the next look at them tells, and everything is written anew. */
  #giveUp(): void {
    this.#isBroken = true;
  }

  /** Brings the set of leaving services to what they are now. */
  #leavingText(): string {
    const wanted = [...this.#services.values()].flatMap(({ service }) => {
      const key = serviceKeyText(service);
      // The key of a service with an address is its frontend's.
      return 'address' in service && !this.#frontends.has(key) ? [key] : [];
    });
    const lines: string[] = [];
    const write = (verb: 'add' | 'delete', key: string) =>
      lines.push(`${verb} element ${tableOf(key.includes(':') ? 6 : 4)} leaving { ${key} }\n`);
    for (const key of [...this.#leaving]) {
      if (wanted.includes(key)) continue;
      this.#leaving.delete(key);
      write('delete', key);
    }
    for (const key of wanted) {
      if (this.#leaving.has(key)) continue;
      this.#leaving.add(key);
      write('add', key);
    }
    return lines.join('');
  }

  #bind(address: IpAddress): void {
    const prefix = address.includes(':') ? 128 : 32;
    try {
      // Of host scope: no address for the node to speak from.
      this.#port.links.addAddress({ device: DEVICE, address: `${address}/${prefix}`, nodad: true, scope: 'host' });
    } catch (error) {
      if (!isExists(error)) throw error;
    }
    this.#bound.add(address);
  }

  /** Addresses without frontend and without a service that drains. */
  #unbind(): void {
    const draining = new Set(
      [...this.#services.values()].flatMap(({ service }) => ('address' in service ? [service.address] : [])),
    );
    for (const address of this.#bound) {
      if ((this.#addressUsers.get(address) ?? 0) > 0 || draining.has(address)) continue;
      const prefix = address.includes(':') ? 128 : 32;
      try {
        this.#port.links.deleteAddress({ device: DEVICE, address: `${address}/${prefix}` });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
      this.#bound.delete(address);
      this.#addressUsers.delete(address);
    }
  }

  async #runNft(text: string): Promise<void> {
    const { nft } = this.#port;
    if (text.length > ASYNC_BYTES) return nft.runAsync(text);
    try {
      nft.run(text);
    } catch (error) {
      if (!isBusy(error)) throw error;
      await nft.runAsync(text);
    }
  }
}

/** Add, delete, add: the same whether or not it is there, in one transaction. */
function replacement(table: string, text: string): string {
  return `add table ${table}\ndelete table ${table}\n${text}`;
}

/** The element changes of one transaction. */
class ElementTexts {
  readonly #added = new Map<string, string>();
  readonly #removed = new Map<string, string>();

  get size(): number {
    return this.#added.size + this.#removed.size;
  }

  add(family: Family, element: Element): void {
    for (const [where, text] of placesOf(family, element)) {
      const id = `${where} ${text}`;
      if (!this.#removed.delete(id)) this.#added.set(id, where);
    }
  }

  remove(family: Family, element: Element): void {
    for (const [where, text] of placesOf(family, element)) {
      const id = `${where} ${text}`;
      if (!this.#added.delete(id)) this.#removed.set(id, where);
    }
  }

  render(families: readonly Family[]): string {
    const lines = [...this.#lines('delete', this.#removed), ...this.#lines('add', this.#added)];
    return families.length === 0 || lines.length === 0 ? '' : `${lines.join('\n')}\n`;
  }

  #lines(verb: 'add' | 'delete', elements: ReadonlyMap<string, string>): readonly string[] {
    const bySet = new Map<string, string[]>();
    for (const [id, where] of [...elements].sort()) {
      const text = id.slice(where.length + 1);
      const known = bySet.get(where);
      if (known) known.push(text);
      else bySet.set(where, [text]);
    }
    return [...bySet].map(([where, texts]) => `${verb} element ${where} { ${texts.join(', ')} }`);
  }
}

function placesOf(family: Family, { set, key, value }: Element): readonly (readonly [string, string])[] {
  const text = (MAPS as readonly string[]).includes(set) ? `${key} : ${value}` : key;
  const own = [`${tableOf(family)} ${set}`, text] as const;
  return set === 'virtual-addresses' && family === 4 ? [own, [`${ARP_TABLE} ${set}`, text]] : [own];
}
