/**
 * The zone of the cluster (cluster.local) and the reverse zones of its addresses, answered straight from the indexes that
 * the informers keep: nothing is precomputed, nothing is stale. Names as in DNS-based service discovery 1.1.0:
 *
 *     <zone>                                     SOA, NS
 *     dns-version.<zone>                         TXT
 *     ns.dns.<zone>                              A, AAAA of the DNS Service
 *     …<service>.<namespace>.svc.<zone>          see service-names.ts
 *     <a-b-c-d>.<namespace>.pod.<zone>           A, AAAA of a pod that exists
 *     <d>.<c>.<b>.<a>.in-addr.arpa, ….ip6.arpa   PTR of Services and of their endpoints
 *
 * A name that exists without records of the type, or has names below it, is NODATA; any other is NXDOMAIN. Both carry the
 * SOA record of their zone (RFC 2308).
 */
import { type Cidr, cidrContains, type IpAddress } from '../../base/ip.ts';
import type { EndpointSlice, Service } from '../../kube/types.ts';
import { endpointAddresses, ownerOf, undashed } from './model.ts';
import { type Lookup, Records } from './records.ts';
import { decodeReverseName, isComplete, reverseZoneOf } from './reverse.ts';
import { lookupServiceName } from './service-names.ts';
import { type Answer, Rcode, type ResourceRecord, Type } from './wire.ts';

/** What is asked of the informers. Addresses are canonical. */
export interface ZoneSource {
  service(namespace: string, name: string): Service | undefined;
  slices(namespace: string, service: string): readonly EndpointSlice[];
  hasNamespace(name: string): boolean;
  hasPod(namespace: string, address: string): boolean;
  /** The Service with the cluster address. */
  serviceAt(address: string): Service | undefined;
  /** The slices with an endpoint at the address, ready or not. */
  slicesAt(address: string): readonly EndpointSlice[];
}

export interface ZoneOptions {
  /** "cluster.local" */
  readonly domain: string;
  readonly source: ZoneSource;
  /** The addresses of the DNS Service: those of the zone's name server. */
  readonly dnsAddresses: readonly string[];
  /** Pods' and Services' CIDRs: their reverse names are ours to answer, also those that do not exist. */
  readonly reverseCidrs: readonly Cidr[];
  /** Of all answers, seconds. */
  readonly ttl?: number;
}

export interface ZoneAnswer extends Answer {
  /** A name outside of our zones that the last CNAME leads to. */
  readonly continuesAt?: string;
}

/** CoreDNS's default: short, because endpoints of headless Services come and go. */
const TTL_SECONDS = 5;
const SPECIFICATION_VERSION = '1.1.0';
/** CNAMEs of one answer: ExternalNames that lead to ExternalNames. */
const MAX_ALIASES = 8;
const EMPTY: Lookup = { records: [] };

/** A name of ours: its zone, and what it has. */
interface OwnName {
  readonly zone: string;
  readonly lookup: Lookup | undefined;
}

export class Zone {
  readonly #options: ZoneOptions;
  readonly #suffix: string;
  readonly #nameServer: string;
  readonly #make: Records;

  constructor(options: ZoneOptions) {
    const domain = options.domain.replace(/\.$/, '').toLowerCase();
    this.#options = { ...options, domain };
    this.#suffix = `.${domain}`;
    this.#nameServer = `ns.dns.${domain}`;
    this.#make = new Records(options.ttl ?? TTL_SECONDS);
  }

  /** The answer to a question, or undefined when the name is not ours. The name is lower case, without the final dot. */
  resolve(name: string, type: number): ZoneAnswer | undefined {
    let own = this.#ownName(name);
    if (!own) return undefined;
    const aliases: ResourceRecord[] = [];
    for (;;) {
      const alias: ResourceRecord | undefined = own.lookup?.records[0];
      if (alias?.type !== 'CNAME' || type === Type.CNAME || type === Type.ANY) return this.#answer(own, type, aliases);
      aliases.push(alias);
      const next = this.#ownName(alias.target);
      if (!next) return { ...found(Rcode.noError, aliases), continuesAt: alias.target };
      // RFC 1034 section 3.6.2: a circle is an error.
      if (aliases.length > MAX_ALIASES) return found(Rcode.serverFailure, []);
      own = next;
    }
  }

  #answer({ zone, lookup }: OwnName, type: number, aliases: readonly ResourceRecord[]): Answer {
    const { records = [], services } = lookup ?? {};
    const srv = type === Type.SRV || type === Type.ANY ? services?.() : undefined;
    const own = [...records.filter((record) => isOfType(record, type)), ...(srv?.records ?? [])];
    const glue = own.some((record) => record.type === 'NS') ? this.#nameServerAddresses() : [];
    // RFC 6604: the code is that of the last name of the chain.
    return {
      ...found(lookup ? Rcode.noError : Rcode.nxDomain, [...aliases, ...own]),
      authority: own.length > 0 ? [] : [this.#authority(zone)],
      additional: [...(srv?.additional ?? []), ...glue],
    };
  }

  #ownName(name: string): OwnName | undefined {
    const { domain } = this.#options;
    if (name === domain) return { zone: domain, lookup: { records: this.#apex(domain) } };
    if (name.endsWith(this.#suffix)) return { zone: domain, lookup: this.#forward(name) };
    return this.#reverse(name);
  }

  #forward(name: string): Lookup | undefined {
    const { source } = this.#options;
    const labels = name.slice(0, -this.#suffix.length).split('.').reverse();
    const [tree, namespace, ...below] = labels as [string, string | undefined, ...string[]];
    if (tree === 'dns-version' || tree === 'dns') return this.#ownNames(name, labels);
    if (tree !== 'svc' && tree !== 'pod') return undefined;
    if (namespace === undefined) return EMPTY;
    if (!source.hasNamespace(namespace)) return undefined;
    if (below.length === 0) return EMPTY;
    return tree === 'svc' ? this.#serviceName(name, namespace, below) : this.#podName(name, namespace, below);
  }

  /** The few names that belong to no object. */
  #ownNames(name: string, labels: readonly string[]): Lookup | undefined {
    if (name === `dns-version${this.#suffix}`) {
      return { records: [this.#make.text(name, SPECIFICATION_VERSION)] };
    }
    if (name === this.#nameServer) return { records: this.#nameServerAddresses() };
    return labels[0] === 'dns' && labels.length === 1 ? EMPTY : undefined;
  }

  #serviceName(name: string, namespace: string, [serviceName, ...below]: readonly string[]): Lookup | undefined {
    const { source } = this.#options;
    const service = source.service(namespace, serviceName!);
    if (!service) return undefined;
    const base = this.#nameOfService(namespace, serviceName!);
    const slices = () => source.slices(namespace, serviceName!);
    return lookupServiceName({ name, base, below, service, slices }, this.#make);
  }

  #podName(name: string, namespace: string, [label, ...more]: readonly string[]): Lookup | undefined {
    const address = more.length === 0 ? undashed(label!) : undefined;
    if (address === undefined || !this.#options.source.hasPod(namespace, address)) return undefined;
    return { records: this.#make.addresses(name, [address]) };
  }

  #reverse(name: string): OwnName | undefined {
    const asked = decodeReverseName(name);
    if (!asked) return undefined;
    const pointers = isComplete(asked) ? this.#pointers(name, asked.address) : [];
    const zone = this.#reverseZone(asked.address);
    // Endpoints can have any address; whose name it otherwise is, is not ours to say.
    if (!zone || asked.labels < zone.labels) {
      return pointers.length > 0 ? { zone: name, lookup: { records: pointers } } : undefined;
    }
    const apex = asked.labels === zone.labels ? this.#apex(zone.name) : [];
    const records = [...apex, ...pointers];
    return { zone: zone.name, lookup: records.length > 0 || !isComplete(asked) ? { records } : undefined };
  }

  #reverseZone(address: IpAddress) {
    const cidr = this.#options.reverseCidrs.find((one) => cidrContains(one, address));
    return cidr && reverseZoneOf(cidr, address);
  }

  /** A Service's name; for other addresses the endpoint names that stand for them. */
  #pointers(name: string, address: string): ResourceRecord[] {
    const { source } = this.#options;
    const service = source.serviceAt(address);
    if (service) {
      const { name: serviceName, namespace } = service.metadata;
      return [this.#make.pointer(name, this.#nameOfService(namespace, serviceName))];
    }
    const targets = new Set<string>();
    for (const slice of source.slicesAt(address)) {
      const [namespace, owner] = ownerOf(slice)?.split('/') ?? [];
      if (owner === undefined || !source.service(namespace!, owner)) continue;
      // All of the Service's slices: another one may know the hostname.
      const endpoint = endpointAddresses(source.slices(namespace!, owner)).find((one) => one.address === address);
      if (endpoint) targets.add(`${endpoint.hostname}.${this.#nameOfService(namespace!, owner)}`);
    }
    return [...targets].sort().map((target) => this.#make.pointer(name, target));
  }

  #nameOfService(namespace: string, name: string): string {
    return `${name}.${namespace}.svc${this.#suffix}`;
  }

  #apex(zone: string): ResourceRecord[] {
    return [this.#authority(zone), this.#make.nameServer(zone, this.#nameServer)];
  }

  #authority(zone: string): ResourceRecord {
    return this.#make.authority(zone, this.#nameServer, `hostmaster${this.#suffix}`);
  }

  #nameServerAddresses(): ResourceRecord[] {
    return this.#make.addresses(this.#nameServer, this.#options.dnsAddresses);
  }
}

function found(rcode: number, answers: readonly ResourceRecord[]): Answer {
  return { rcode, authoritative: rcode !== Rcode.serverFailure, answers, authority: [], additional: [] };
}

function isOfType(record: ResourceRecord, type: number): boolean {
  return type === Type.ANY || Type[record.type] === type;
}
