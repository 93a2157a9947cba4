/**
 * The ends of a question: "a", "shop/a", "10.244.1.7", "node/node-1", "outside", and as a destination also "service/web",
 * each with its addresses and, as a destination, with a port: ":80", ":http", "[fd00::1]:80".
 */
import { UserError } from '../../base/errors.ts';
import { familyOf, isIp, parseIp } from '../../base/ip.ts';
import type { Pod, Service } from '../../kube/types.ts';
import type { PolicySnapshot } from './snapshot.ts';

export type EndpointReference =
  | { readonly kind: 'pod' | 'service'; readonly namespace: string; readonly name: string }
  | { readonly kind: 'node'; readonly name: string }
  | { readonly kind: 'ip'; readonly address: string }
  | { readonly kind: 'outside' };

export interface DestinationReference {
  readonly endpoint: EndpointReference;
  /** A number or a port's name. */
  readonly port: number | string | undefined;
}

export type TransportProtocol = 'TCP' | 'UDP' | 'SCTP';

/** One end with the addresses that a packet there has. */
export interface Place {
  /** "pod shop/a", "node node-1", "10.0.0.7". */
  readonly label: string;
  readonly addresses: readonly string[];
  readonly pod?: Pod;
}

/** Where a packet to the destination may end. */
export interface Target extends Place {
  /** Absent: some port that no policy names. */
  readonly port: number | undefined;
  readonly protocol: TransportProtocol;
  /** The Service and its port that lead here: "service default/web:80". */
  readonly through?: string;
}

export function parseSource(text: string, defaultNamespace = 'default'): EndpointReference {
  if (isIp(text)) return { kind: 'ip', address: parseIp(text) };
  if (text === 'outside') return { kind: 'outside' };
  const parts = text.split('/');
  if (parts.some((part) => part === '')) throw notAnEnd(text);
  const [first, second, third] = parts as [string, string | undefined, string | undefined];
  if (first === 'node' && second !== undefined && third === undefined) return { kind: 'node', name: second };
  if (first === 'service' || first === 'svc') return named('service', parts.slice(1), defaultNamespace, text);
  return named('pod', first === 'pod' && second !== undefined ? parts.slice(1) : parts, defaultNamespace, text);
}

function named(
  kind: 'pod' | 'service',
  parts: readonly string[],
  defaultNamespace: string,
  text: string,
): EndpointReference {
  if (parts.length === 1) return { kind, namespace: defaultNamespace, name: parts[0]! };
  if (parts.length === 2) return { kind, namespace: parts[0]!, name: parts[1]! };
  throw notAnEnd(text);
}

export function parseDestination(text: string, defaultNamespace?: string): DestinationReference {
  if (isIp(text)) return { endpoint: { kind: 'ip', address: parseIp(text) }, port: undefined };
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::([^:]+))?$/.exec(text);
  if (!match) throw notAnEnd(text);
  const [, bracketed, plain, port] = match;
  return { endpoint: parseSource(bracketed ?? plain!, defaultNamespace), port: port && parsePort(port) };
}

function parsePort(text: string): number | string {
  if (!/^\d+$/.test(text)) return text;
  const port = Number(text);
  if (port >= 1 && port <= 65535) return port;
  throw new UserError(`${text} is not a port: it must be from 1 to 65535, or a port's name`, { exitCode: 2 });
}

function notAnEnd(text: string): UserError {
  return new UserError(`${JSON.stringify(text)} is neither a pod, an address, a node, a service nor outside`, {
    hint: 'write pod, namespace/pod, 10.244.1.7, node/node-1, outside or service/name, and :PORT after a destination',
    exitCode: 2,
  });
}

/** The addresses of a source. Throws UserError when there is no such object or it has none. */
export function placeOf(reference: EndpointReference, snapshot: PolicySnapshot): Place {
  switch (reference.kind) {
    case 'pod':
      return placeOfPod(reference, snapshot);
    case 'ip':
      return { label: reference.address, addresses: [reference.address], ...podAt(reference.address, snapshot) };
    case 'outside':
      return { label: 'outside', addresses: snapshot.outside };
    case 'node': {
      const node = snapshot.nodes.find((each) => each.metadata.name === reference.name);
      if (!node) throw absent('node', reference.name, snapshot.nodes);
      const addresses = (node.status?.addresses ?? []).map(({ address }) => address).filter(isIp);
      return { label: `node ${reference.name}`, addresses };
    }
    case 'service':
      throw new UserError('a service sends no packets: name one of its pods as the source', { exitCode: 2 });
  }
}

function podAt(address: string, { pods }: PolicySnapshot): { pod: Pod } | undefined {
  const pod = pods.find((each) => !each.spec.hostNetwork && podAddresses(each).includes(address));
  return pod && { pod };
}

function placeOfPod({ namespace, name }: { namespace: string; name: string }, snapshot: PolicySnapshot): Place {
  const pod = snapshot.pods.find((each) => each.metadata.namespace === namespace && each.metadata.name === name);
  if (!pod)
    throw absent(
      'pod',
      name,
      snapshot.pods.filter((each) => each.metadata.namespace === namespace),
      namespace,
    );
  const addresses = podAddresses(pod);
  if (addresses.length === 0) throw new UserError(`pod ${namespace}/${name} has no address yet`);
  return { label: `pod ${namespace}/${name}`, addresses, pod };
}

/** Canonical. */
export function podAddresses({ status }: Pod): string[] {
  const addresses = status?.podIPs?.length ? status.podIPs.map(({ ip }) => ip) : [status?.podIP];
  return addresses.filter((address) => address !== undefined && isIp(address)).map((address) => parseIp(address!));
}

function absent(
  kind: string,
  name: string,
  others: readonly { metadata: { name: string } }[],
  namespace?: string,
): UserError {
  const names = others.map(({ metadata }) => metadata.name).slice(0, 8);
  return new UserError(`there is no ${kind} ${name}${namespace ? ` in the namespace ${namespace}` : ''}`, {
    ...(names.length ? { hint: `there is: ${names.join(', ')}` } : {}),
  });
}

/** Every place where packets to the destination may end, with the ports they have there. Throws UserError. */
export function targetsOf(
  { endpoint, port }: DestinationReference,
  protocol: TransportProtocol,
  snapshot: PolicySnapshot,
): Target[] {
  if (endpoint.kind === 'service') return targetsOfService(endpoint, port, protocol, snapshot);
  const service = endpoint.kind === 'ip' && serviceAt(endpoint.address, snapshot);
  if (service) {
    const { namespace, name } = service.metadata;
    return targetsOfService({ namespace, name }, port, protocol, snapshot, endpoint.address);
  }
  const place = placeOf(endpoint, snapshot);
  return [{ ...place, port: portOn(place, port, protocol), protocol }];
}

function portOn({ pod, label }: Place, port: number | string | undefined, protocol: string): number | undefined {
  if (typeof port === 'number') return port;
  const ports = (pod?.spec.containers ?? [])
    .flatMap((container) => container.ports ?? [])
    .filter((each) => (each.protocol ?? 'TCP') === protocol);
  if (port === undefined) return ports[0]?.containerPort;
  const found = ports.find((each) => each.name === port);
  if (found) return found.containerPort;
  throw new UserError(`${label} has no ${protocol} port named ${JSON.stringify(port)}`);
}

function serviceAt(address: string, { services }: PolicySnapshot): Service | undefined {
  return services.find(({ spec }) => (spec.clusterIPs ?? [spec.clusterIP]).includes(address));
}

function targetsOfService(
  { namespace, name }: { readonly namespace: string; readonly name: string },
  port: number | string | undefined,
  protocol: TransportProtocol,
  snapshot: PolicySnapshot,
  address?: string,
): Target[] {
  const service = snapshot.services.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name);
  if (!service) throw absent('service', name, snapshot.services, namespace);
  const ports = (service.spec.ports ?? []).filter((each) => {
    const wanted = port === undefined || each.port === port || each.name === port;
    return wanted && (each.protocol ?? 'TCP') === protocol;
  });
  if (ports.length === 0) {
    throw new UserError(`service ${namespace}/${name} has no ${protocol} port${port === undefined ? '' : ` ${port}`}`);
  }
  const slices = snapshot.slices.filter(
    ({ metadata }) => metadata.namespace === namespace && metadata.labels?.['kubernetes.io/service-name'] === name,
  );
  const targets = ports.flatMap((servicePort) => {
    const through = `service ${namespace}/${name}:${servicePort.port}`;
    return slices.flatMap((slice) => {
      if (address !== undefined && !slice.endpoints.some((each) => sameFamily(each.addresses, address))) return [];
      const number = slice.ports?.find((each) => (each.name ?? '') === (servicePort.name ?? ''))?.port;
      return slice.endpoints
        .filter(({ conditions }) => conditions?.ready !== false)
        .flatMap(({ addresses }) => addresses.slice(0, 1))
        .map((each): Target => {
          const pod = podAt(parseIp(each), snapshot);
          const label = pod ? `pod ${pod.pod.metadata.namespace}/${pod.pod.metadata.name}` : each;
          return { label, addresses: [parseIp(each)], ...pod, port: number, protocol, through };
        });
    });
  });
  if (targets.length === 0) {
    throw new UserError(`service ${namespace}/${name} has no ready endpoints: connections to it are refused`);
  }
  return targets;
}

function sameFamily(addresses: readonly string[], address: string): boolean {
  return addresses.some((each) => isIp(each) && familyOf(each) === familyOf(address));
}

/** The pairs of addresses of one family each. */
export function addressPairs(from: Place, to: Place): { srcIp: string; dstIp: string }[] {
  return to.addresses.flatMap((dstIp) => {
    const srcIp = from.addresses.find((each) => familyOf(each) === familyOf(dstIp));
    return srcIp === undefined ? [] : [{ srcIp, dstIp }];
  });
}
