/**
 * The zone of the cluster (cluster.local) and the reverse zones of its addresses, answered straight from the indexes that
 * the informers keep: nothing is precomputed, nothing is stale. Names as in DNS-based service discovery 1.1.0:
 *
 *     <service>.<namespace>.svc.<zone>                        A, AAAA, SRV of all ports; CNAME of an ExternalName
 *     _<port>._<protocol>.<service>.<namespace>.svc.<zone>    SRV
 *     <hostname>.<service>.<namespace>.svc.<zone>             A, AAAA of one endpoint of a headless Service
 *     <a-b-c-d>.<namespace>.pod.<zone>                        A, AAAA of a pod that exists
 *     dns-version.<zone>                                      TXT
 *
 * A name that exists without records of the type, or has names below it, is NODATA; any other is NXDOMAIN.
 */
import { type Cidr, cidrContains, familyOf, isIp } from '../../base/ip.ts';
import type { EndpointSlice, Service } from '../../kube/types.ts';
import {
  clusterAddresses,
  dashed,
  type EndpointAddress,
  endpointAddresses,
  kindOf,
  type NamedPort,
  servicePorts,
  undashed,
} from './model.ts';
import { addressOfReverseName } from './reverse.ts';
import { type Answer, Rcode, type ResourceRecord, Type } from './wire.ts';

/** What is asked of the informers. */
export interface ZoneSource {
  service(namespace: string, name: string): Service | undefined;
  slices(namespace: string, service: string): readonly EndpointSlice[];
  hasNamespace(name: string): boolean;
  hasPod(namespace: string, address: string): boolean;
  /** The Service with the cluster address. */
  serviceAt(address: string): Service | undefined;
  /** The slices with an endpoint at the address. */
  slicesAt(address: string): readonly EndpointSlice[];
}

export interface ZoneOptions {
  /** "cluster.local" */
  readonly domain: string;
  readonly source: ZoneSource;
  /** The addresses of the DNS Service: those of the zone's name server. */
  readonly dnsAddresses: readonly string[];
  /** Pods' and Services' CIDRs: their reverse names are ours to answer. */
  readonly reverseCidrs: readonly Cidr[];
  /** Of positive answers, seconds. */
  readonly ttl?: number;
}

/** CoreDNS's default: short, because endpoints of headless Services come and go. */
const TTL = 5;
const SPEC_VERSION = '1.1.0';

type Lookup =
  | {
      readonly kind: 'records';
      readonly records: readonly ResourceRecord[];
      readonly additional?: readonly ResourceRecord[];
    }
  | { readonly kind: 'nothing' };

const NOTHING: Lookup = { kind: 'nothing' };
const records = (...list: readonly ResourceRecord[]): Lookup => ({ kind: 'records', records: list });
/** The name exists, but has no record of any type. */
const EMPTY = records();

export class Zone {
  readonly #options: ZoneOptions;
  readonly #suffix: string;
  readonly #ttl: number;

  constructor(options: ZoneOptions) {
    this.#options = options;
    this.#suffix = `.${options.domain}`;
    this.#ttl = options.ttl ?? TTL;
  }

  /** The answer to a question, or undefined when the name is not ours. The name is lower case, without the final dot. */
  resolve(name: string, type: number): Answer | undefined {
    if (name === this.#options.domain || name.endsWith(this.#suffix)) return this.#answer(type, this.#lookup(name));
    const address = addressOfReverseName(name);
    if (address === undefined || !this.#options.reverseCidrs.some((cidr) => cidrContains(cidr, address)))
      return undefined;
    return this.#answer(type, this.#reverse(name, address));
  }

  #answer(type: number, lookup: Lookup): Answer {
    const authority = [this.#soa()];
    if (lookup.kind === 'nothing') {
      return { rcode: Rcode.nxDomain, authoritative: true, answers: [], authority, additional: [] };
    }
    const alias = lookup.records.find((record) => record.type === 'CNAME');
    const answers =
      alias && type !== Type.CNAME
        ? this.#follow(alias, type)
        : lookup.records.filter((record) => isOfType(record, type));
    const additional = answers.some((record) => record.type === 'SRV') ? (lookup.additional ?? []) : [];
    return {
      rcode: Rcode.noError,
      authoritative: true,
      answers,
      authority: answers.length > 0 ? [] : authority,
      additional,
    };
  }

  /** A CNAME, and what its target has where the target is in the zone; 8 steps at most. */
  #follow(alias: ResourceRecord, type: number, depth = 0): ResourceRecord[] {
    if (alias.type !== 'CNAME') return [];
    const target = alias.target;
    if (!target.endsWith(this.#suffix) || depth >= 8) return [alias];
    const found = this.#lookup(target);
    if (found.kind === 'nothing') return [alias];
    const next = found.records.find((record) => record.type === 'CNAME');
    if (next) return [alias, ...this.#follow(next, type, depth + 1)];
    return [alias, ...found.records.filter((record) => isOfType(record, type))];
  }

  #lookup(name: string): Lookup {
    const { domain, dnsAddresses } = this.#options;
    if (name === domain) return records(this.#soa(), this.#nameServer());
    const labels = name.slice(0, -this.#suffix.length).split('.').reverse();
    const [tree, namespace, ...rest] = labels as [string, string | undefined, ...string[]];
    if (tree === 'dns-version' && namespace === undefined) {
      return records({ name, ttl: this.#ttl, type: 'TXT', text: SPEC_VERSION });
    }
    if (tree === 'dns') {
      if (namespace === undefined) return EMPTY;
      return namespace === 'ns' && rest.length === 0 ? records(...this.#addresses(name, dnsAddresses)) : NOTHING;
    }
    if (tree !== 'svc' && tree !== 'pod') return NOTHING;
    if (namespace === undefined) return EMPTY;
    if (!this.#options.source.hasNamespace(namespace)) return NOTHING;
    if (rest.length === 0) return EMPTY;
    return tree === 'svc' ? this.#serviceName(name, namespace, rest) : this.#podName(name, namespace, rest);
  }

  #podName(name: string, namespace: string, [label, ...rest]: string[]): Lookup {
    const address = rest.length === 0 ? undashed(label!) : undefined;
    if (address === undefined || !this.#options.source.hasPod(namespace, address)) return NOTHING;
    return records(...this.#addresses(name, [address]));
  }

  #serviceName(name: string, namespace: string, [serviceName, ...rest]: string[]): Lookup {
    const { source, domain } = this.#options;
    const service = source.service(namespace, serviceName!);
    if (!service) return NOTHING;
    const base = `${serviceName}.${namespace}.svc.${domain}`;
    switch (kindOf(service)) {
      case 'external-name':
        return rest.length === 0 ? this.#alias(name, service) : NOTHING;
      case 'cluster-ip':
        return this.#clusterIp(name, base, service, rest);
      case 'headless':
        return this.#headless(name, base, source.slices(namespace, serviceName!), rest);
    }
  }

  #alias(name: string, service: Service): Lookup {
    const target = (service.spec.externalName ?? '').replace(/\.$/, '').toLowerCase();
    if (isIp(target)) return records(...this.#addresses(name, [target]));
    return target === '' ? EMPTY : records({ name, ttl: this.#ttl, type: 'CNAME', target });
  }

  #clusterIp(name: string, base: string, service: Service, rest: readonly string[]): Lookup {
    const addresses = clusterAddresses(service);
    const wanted = portsWanted(servicePorts(service), rest);
    if (!wanted) return NOTHING;
    const services = wanted.map((port) => this.#srv(name, base, port));
    const own = rest.length === 0 ? this.#addresses(name, addresses) : [];
    return { kind: 'records', records: [...own, ...services], additional: this.#addresses(base, addresses) };
  }

  #headless(name: string, base: string, slices: readonly EndpointSlice[], rest: readonly string[]): Lookup {
    const endpoints = endpointAddresses(slices);
    const [first] = rest;
    if (rest.length === 1 && !first!.startsWith('_')) {
      const named = endpoints.filter((endpoint) => endpoint.hostname === first || dashed(endpoint.address) === first);
      return named.length > 0
        ? records(
            ...this.#addresses(
              name,
              named.map((one) => one.address),
            ),
          )
        : NOTHING;
    }
    const wanted = endpoints.map((endpoint) => ({ endpoint, ports: portsWanted(endpoint.ports, rest) }));
    if (rest.length > 0 && !wanted.some(({ ports }) => ports)) return NOTHING;
    const services = wanted.flatMap(({ endpoint, ports }) =>
      (ports ?? []).map((port) => this.#srv(name, `${endpoint.hostname}.${base}`, port)),
    );
    const own =
      rest.length === 0
        ? this.#addresses(
            name,
            endpoints.map((one) => one.address),
          )
        : [];
    return { kind: 'records', records: [...own, ...services], additional: this.#targets(base, endpoints) };
  }

  #targets(base: string, endpoints: readonly EndpointAddress[]): ResourceRecord[] {
    return endpoints.flatMap(({ hostname, address }) => this.#addresses(`${hostname}.${base}`, [address]));
  }

  #reverse(name: string, address: string): Lookup {
    const { source, domain } = this.#options;
    const pointer = (target: string): ResourceRecord => ({ name, ttl: this.#ttl, type: 'PTR', target });
    const service = source.serviceAt(address);
    if (service) return records(pointer(`${service.metadata.name}.${service.metadata.namespace}.svc.${domain}`));
    const targets = new Set<string>();
    for (const slice of source.slicesAt(address)) {
      const owner = slice.metadata.labels?.['kubernetes.io/service-name'];
      const { namespace } = slice.metadata;
      if (!owner || kindOfOwner(source.service(namespace, owner)) !== 'headless') continue;
      const endpoint = endpointAddresses([slice]).find((one) => one.address === address);
      if (endpoint) targets.add(`${endpoint.hostname}.${owner}.${namespace}.svc.${domain}`);
    }
    return targets.size > 0 ? records(...[...targets].sort().map(pointer)) : NOTHING;
  }

  #addresses(name: string, addresses: readonly string[]): ResourceRecord[] {
    return addresses.map((address) => ({
      name,
      ttl: this.#ttl,
      type: familyOf(address) === 4 ? 'A' : 'AAAA',
      address,
    }));
  }

  #srv(name: string, target: string, { port }: NamedPort): ResourceRecord {
    return { name, ttl: this.#ttl, type: 'SRV', priority: 0, weight: 100, port, target };
  }

  #nameServer(): ResourceRecord {
    const { domain } = this.#options;
    return { name: domain, ttl: this.#ttl, type: 'NS', target: `ns.dns.${domain}` };
  }

  #soa(): ResourceRecord {
    const { domain } = this.#options;
    return {
      name: domain,
      ttl: this.#ttl,
      type: 'SOA',
      primary: `ns.dns.${domain}`,
      mailbox: `hostmaster.${domain}`,
      serial: 1,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      // RFC 2308 section 4: how long a client may remember that a name is not there.
      minimum: this.#ttl,
    };
  }
}

function kindOfOwner(service: Service | undefined) {
  return service && kindOf(service);
}

function isOfType(record: ResourceRecord, type: number): boolean {
  return type === Type.ANY || Type[record.type] === type;
}

/**
 * The ports that the labels below a Service's name ask for, in reversed order ("_tcp", "_http"): all of them without labels;
 * undefined when there is no such name. "_tcp" alone exists as soon as there is a port of the protocol, but has no records.
 */
function portsWanted(ports: readonly NamedPort[], rest: readonly string[]): readonly NamedPort[] | undefined {
  if (rest.length === 0) return ports;
  const [protocol, name, ...more] = rest;
  if (more.length > 0 || !protocol!.startsWith('_')) return undefined;
  const same = ports.filter((port) => `_${port.protocol}` === protocol && port.name !== '');
  if (name === undefined) return same.length > 0 ? [] : undefined;
  const wanted = same.filter((port) => `_${port.name.toLowerCase()}` === name);
  return wanted.length > 0 ? wanted : undefined;
}
