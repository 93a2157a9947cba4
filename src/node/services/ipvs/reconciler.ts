/**
 * The mode ipvs: a virtual service of IPVS for each frontend, a dummy device that makes its address the node's own, and a small
 * nftables table for all that IPVS does not decide.
 *
 * What a packet needs is there before it is let through, and goes after it is refused: services and addresses are added, then
 * nftables changes, then the rest is removed. Services that stay for their connections keep their address meanwhile, and nftables
 * refuses new connections to them.
 */
import type { Family, IpAddress } from '../../../base/ip.ts';
import { isBusy } from '../../../linux/errors.ts';
import type { Ipvs } from '../../../linux/ipvs.ts';
import { serviceKeyText } from '../../../linux/ipvs.ts';
import type { NetworkNamespace } from '../../../linux/netns.ts';
import type { Nftables } from '../../../linux/nftables.ts';
import { writeSysctl } from '../../../linux/sysctl.ts';
import { type FrontendBackend, type FrontendChange, FrontendRules } from '../frontend-rules.ts';
import { type Frontend, frontendKey } from '../model.ts';
import type { ClusterAddresses, RulesContext } from '../rules.ts';
import { ARP_TABLE, renderArpTable, renderTable, tableOf } from './chains.ts';
import { Elements } from './elements.ts';
import { Fwmarks } from './fwmarks.ts';
import { type RenderedFrontend, renderFrontend } from './render.ts';
import { type LinksPort, VirtualAddresses } from './virtual-addresses.ts';
import { VirtualServices } from './virtual-services.ts';

export interface IpvsPort {
  /** Where the sysctls are set; undefined: the namespace of the process. */
  readonly ns?: NetworkNamespace | undefined;
  readonly ipvs: Pick<Ipvs, 'services' | 'servers' | 'change' | 'flush'>;
  readonly links: LinksPort;
  readonly nft: Pick<Nftables, 'run' | 'runAsync' | 'list'>;
}

/** The mode ipvs, on sockets that were opened in the node's namespace. */
export function ipvsRules(port: IpvsPort): (context: RulesContext) => FrontendRules {
  return (context) => new FrontendRules(new IpvsBackend(port, context.families ?? [4, 6]), context);
}

/** How often it is looked whether the connections of servers that left have ended. */
const DRAIN_MS = 1000;
/** Text longer than this is applied by a pool thread, so that the event loop goes on. */
const ASYNC_BYTES = 128 * 1024;

/** Translation and conntrack together, which masquerading needs; clients of what is gone are scheduled anew at once. */
const SYSCTLS = { conntrack: 1, expire_nodest_conn: 1, expire_quiescent_template: 1 } as const;

export class IpvsBackend implements FrontendBackend {
  readonly #port: IpvsPort;
  readonly #families: readonly Family[];
  readonly #frontends = new Map<string, RenderedFrontend>();
  readonly #services: VirtualServices;
  readonly #addresses: VirtualAddresses;
  readonly #elements = new Elements();
  readonly #fwmarks = new Fwmarks();
  /** Services without frontend whose connections have not ended: nftables refuses new ones. */
  readonly #leaving = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #isBroken = false;

  constructor(port: IpvsPort, families: readonly Family[]) {
    this.#port = port;
    this.#families = families;
    this.#services = new VirtualServices(port.ipvs);
    this.#addresses = new VirtualAddresses(port.links);
  }

  /** All of IPVS and of the device in this namespace are ours: what an earlier agent left, or this one. */
  async load(frontends: readonly Frontend[], addresses: ClusterAddresses): Promise<number> {
    for (const [name, value] of Object.entries(SYSCTLS)) writeSysctl(this.#port.ns, `net.ipv4.vs.${name}`, value);
    this.#services.read();
    this.#addresses.read();
    for (const each of [this.#frontends, this.#elements, this.#fwmarks, this.#leaving]) each.clear();
    this.#isBroken = false;
    this.#add(frontends.map((frontend) => this.#enter(frontend)));
    const keys = this.#services.keys();
    this.#markLeaving(keys);
    const { text, count } = this.#elements.take();
    const tables = this.#families.map((family) => replacement(tableOf(family), renderTable(family, addresses)));
    await this.#runNft(`${tables.join('')}${replacement(ARP_TABLE, renderArpTable())}${text}`);
    await this.#removeRest(keys);
    return count + this.#services.size;
  }

  async change(changes: readonly FrontendChange[]): Promise<number> {
    const touched = new Set<string>();
    const added: RenderedFrontend[] = [];
    for (const { id, after } of changes) {
      for (const key of this.#leave(id)) touched.add(key);
      if (after) added.push(this.#enter(after));
      else this.#fwmarks.free(id);
    }
    const written = this.#add(added);
    // Also those that left before and are wanted again.
    this.#markLeaving([...touched, ...this.#leaving]);
    const { text, count } = this.#elements.take();
    if (text) await this.#runNft(text);
    await this.#removeRest(touched);
    return count + written;
  }

  isIntact(): boolean {
    if (this.#isBroken) return false;
    try {
      return (
        this.#families.every((family) =>
          this.#port.nft.list(`set ${tableOf(family)} service-cidrs`).includes('service-cidrs'),
        ) && this.#addresses.isIntact()
      );
    } catch (error) {
      return isBusy(error);
    }
  }

  remove(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#services.remove();
    this.#addresses.remove();
    const tables = [...this.#families.map(tableOf), ARP_TABLE];
    this.#port.nft.run(tables.map((table) => `add table ${table}\ndelete table ${table}\n`).join(''));
  }

  #enter(frontend: Frontend): RenderedFrontend {
    const id = frontendKey(frontend);
    const rendered = renderFrontend(frontend, this.#fwmarks.of(id));
    this.#frontends.set(id, rendered);
    for (const element of rendered.elements) this.#elements.use(frontend.family, element);
    if (rendered.address) this.#addresses.use(rendered.address);
    for (const service of rendered.services) this.#services.want(service);
    return rendered;
  }

  /** Returns the virtual services that the frontend had. */
  #leave(id: string): readonly string[] {
    const rendered = this.#frontends.get(id);
    if (!rendered) return [];
    this.#frontends.delete(id);
    for (const element of rendered.elements) this.#elements.release(familyOfKey(id), element);
    if (rendered.address) this.#addresses.release(rendered.address);
    const keys = rendered.services.map(({ service }) => serviceKeyText(service));
    for (const key of keys) this.#services.unwant(key);
    return keys;
  }

  /** Addresses, services and servers that are new. */
  #add(frontends: readonly RenderedFrontend[]): number {
    for (const { address } of frontends) if (address) this.#addresses.bind(address);
    return this.#services.add(frontends.flatMap(({ services }) => services));
  }

  /** Brings `leaving` to what these services are now. */
  #markLeaving(keys: Iterable<string>): void {
    for (const key of keys) {
      const address = this.#services.addressOf(key);
      // The key of a service with an address is its frontend's.
      const isLeaving = address !== undefined && !this.#frontends.has(key);
      if (isLeaving === this.#leaving.has(key)) continue;
      const element = { set: 'leaving', key } as const;
      if (isLeaving) {
        this.#leaving.add(key);
        this.#elements.use(familyOfKey(key), element);
        this.#addresses.use(address);
      } else {
        this.#leaving.delete(key);
        this.#elements.release(familyOfKey(key), element);
        this.#addresses.release(addressOfKey(key));
      }
    }
  }

  /** Servers, services and addresses that nobody wants any more; what still has connections stays for now. */
  async #removeRest(keys: Iterable<string>): Promise<void> {
    this.#services.removeUnwanted(keys);
    this.#markLeaving([...this.#leaving]);
    this.#addresses.unbindUnused();
    if (this.#services.draining.size > 0) this.#planSweep();
    const { text } = this.#elements.take();
    if (text) await this.#runNft(text);
  }

  /** Somebody else may have been at IPVS or the table: then the next look at them tells, and everything is written anew. */
  #planSweep(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#removeRest(this.#services.draining).catch(() => {
        this.#isBroken = true;
      });
    }, DRAIN_MS).unref();
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

function familyOfKey(key: string): Family {
  return key.includes(':') ? 6 : 4;
}

/** Of "address . protocol . port". */
function addressOfKey(key: string): IpAddress {
  return key.slice(0, key.indexOf(' ')) as IpAddress;
}

/** Add, delete, add: the same whether or not it is there, in one transaction. */
function replacement(table: string, text: string): string {
  return `add table ${table}\ndelete table ${table}\n${text}`;
}
