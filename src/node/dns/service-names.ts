/**
 * The names at and below a Service:
 *
 *     <service>                      its addresses; SRV of all ports; the CNAME of an ExternalName
 *     _<port>._<protocol>.<service>  SRV of a named port
 *     <endpoint>.<service>           one endpoint, by its hostname or its address with dashes
 *
 * `below` has the labels in front of the Service's name, nearest first: ["_tcp", "_http"].
 */
import { isIp } from '../../base/ip.ts';
import type { EndpointSlice, Service } from '../../kube/types.ts';
import {
  clusterAddresses,
  dashed,
  type EndpointAddress,
  endpointAddresses,
  kindOf,
  type NamedPort,
  servicePorts,
} from './model.ts';
import { distinct, type Lookup, type Records } from './records.ts';

export interface ServiceNameQuestion {
  /** The whole name that is asked for. */
  readonly name: string;
  /** "<service>.<namespace>.svc.<zone>" */
  readonly base: string;
  readonly below: readonly string[];
  readonly service: Service;
  readonly slices: () => readonly EndpointSlice[];
}

/** What the name has; undefined when it does not exist. */
export function lookupServiceName(question: ServiceNameQuestion, make: Records): Lookup | undefined {
  const { below, service } = question;
  const kind = kindOf(service);
  if (kind === 'external-name') return below.length === 0 ? externalName(question, make) : undefined;
  if (below.length === 1 && !below[0]!.startsWith('_')) return endpointName(question, make);
  return kind === 'headless' ? headless(question, make) : clusterIp(question, make);
}

function externalName({ name, service }: ServiceNameQuestion, make: Records): Lookup | undefined {
  const target = (service.spec.externalName ?? '').replace(/\.$/, '').toLowerCase();
  // An ExternalName that looks like an address is a name of digits that nobody has: Kubernetes documents that it does not
  // resolve. What is no name at all cannot be written.
  if (isIp(target) || target.length > 253 || !/^[^.\\]{1,63}(\.[^.\\]{1,63})*$/.test(target)) return undefined;
  return { records: [make.alias(name, target)] };
}

function clusterIp({ name, base, below, service }: ServiceNameQuestion, make: Records): Lookup | undefined {
  const ports = portsAt(servicePorts(service), below);
  if (!ports) return undefined;
  const addresses = clusterAddresses(service);
  return {
    records: below.length === 0 ? make.addresses(name, addresses) : [],
    services: () => ({
      records: distinct(ports.map(({ port }) => make.service(name, base, port))),
      additional: make.addresses(base, addresses),
    }),
  };
}

/** Without ready endpoints the name does not exist (specification, section 2.4.1). */
function headless({ name, base, below, slices }: ServiceNameQuestion, make: Records): Lookup | undefined {
  const endpoints = endpointAddresses(slices());
  const targets = endpoints.flatMap((endpoint) => {
    const ports = portsAt(endpoint.ports, below);
    return ports ? [{ endpoint, ports, target: `${endpoint.hostname}.${base}` }] : [];
  });
  if (targets.length === 0) return undefined;
  return {
    records: below.length === 0 ? make.addresses(name, addressesOf(endpoints)) : [],
    services: () => ({
      records: distinct(
        targets.flatMap(({ ports, target }) => ports.map(({ port }) => make.service(name, target, port))),
      ),
      additional: targets.flatMap(({ endpoint, target }) => make.addresses(target, [endpoint.address])),
    }),
  };
}

/** Also below a Service with a cluster address: Kubernetes documents the names of pods behind any Service. */
function endpointName({ name, below, slices }: ServiceNameQuestion, make: Records): Lookup | undefined {
  const named = endpointAddresses(slices()).filter(
    ({ hostname, address }) => hostname === below[0] || dashed(address) === below[0],
  );
  return named.length > 0 ? { records: make.addresses(name, addressesOf(named)) } : undefined;
}

function addressesOf(endpoints: readonly EndpointAddress[]): string[] {
  return endpoints.map(({ address }) => address);
}

/**
 * The ports that labels ask for: all of them without labels; undefined when there is no such name. "_tcp" alone exists as
 * soon as there is a named port of the protocol below it, but has no records itself.
 */
function portsAt(ports: readonly NamedPort[], below: readonly string[]): readonly NamedPort[] | undefined {
  const [protocol, name, ...more] = below;
  if (protocol === undefined) return ports;
  const same = ports.filter((port) => port.name !== '' && `_${port.protocol}` === protocol);
  if (name === undefined) return same.length > 0 ? [] : undefined;
  const wanted = same.filter((port) => `_${port.name.toLowerCase()}` === name);
  return more.length === 0 && wanted.length > 0 ? wanted : undefined;
}
