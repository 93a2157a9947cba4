/** For tests and the benchmark: small objects of the API, and questions asked of the codec under test and of another one. */
import { decode as decodeWithOracle, encode as encodeWithOracle } from '@dnsquery/dns-packet';
import type { EndpointSlice, Pod, Service } from '../../kube/types.ts';
import { decodeQuery } from './decode.ts';
import { clusterAddresses, ownerOf, podAddresses, sliceAddresses } from './model.ts';
import type { Query } from './wire.ts';
import type { ZoneSource } from './zone.ts';

const stored = (namespace: string, name: string) => ({
  namespace,
  name,
  uid: `uid-${namespace}-${name}`,
  resourceVersion: '1',
  creationTimestamp: '2026-01-01T00:00:00Z',
});

/** "namespace/name" */
const split = (key: string): [string, string] => key.split('/') as [string, string];

export function service(key: string, spec: Service['spec']): Service {
  return { apiVersion: 'v1', kind: 'Service', metadata: stored(...split(key)), spec };
}

export interface SliceFixture {
  readonly name?: string;
  readonly endpoints?: EndpointSlice['endpoints'];
  readonly ports?: EndpointSlice['ports'];
  readonly addressType?: string;
}

/** A slice of a Service. */
export function slice(
  key: string,
  { name, endpoints = [], ports = [], addressType = 'IPv4' }: SliceFixture,
): EndpointSlice {
  const [namespace, owner] = split(key);
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      ...stored(namespace, name ?? `${owner}-1`),
      labels: { 'kubernetes.io/service-name': owner },
    },
    addressType,
    endpoints,
    ports,
  };
}

export function pod(key: string, addresses: readonly string[], phase = 'Running'): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: stored(...split(key)),
    spec: { containers: [] },
    status: { phase, podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) },
  };
}

export interface Objects {
  readonly namespaces: readonly string[];
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  readonly pods: readonly Pod[];
}

/** The questions of a zone, answered by looking through lists: no index, nothing kept. */
export function sourceOver(objects: Objects): ZoneSource {
  return {
    service: (namespace, name) =>
      objects.services.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name),
    slices: (namespace, name) => objects.slices.filter((one) => ownerOf(one) === `${namespace}/${name}`),
    hasNamespace: (name) => objects.namespaces.includes(name),
    hasPod: (namespace, address) =>
      objects.pods.some((one) => one.metadata.namespace === namespace && podAddresses(one).includes(address)),
    serviceAt: (address) => objects.services.find((one) => clusterAddresses(one).includes(address)),
    slicesAt: (address) => objects.slices.filter((one) => sliceAddresses(one).includes(address)),
  };
}

export interface QuestionOptions {
  readonly id?: number;
  readonly edns?: { readonly udpPayloadSize?: number; readonly dnssecOk?: boolean; readonly version?: number };
  readonly recursionDesired?: boolean;
  readonly class?: string;
}

const RECURSION_DESIRED = 0x100;
const DO = 0x8000;

/** A query as another implementation encodes it. */
export function question(name: string, type: string, options: QuestionOptions = {}): Buffer {
  const { id = 1, edns, recursionDesired = true } = options;
  const additionals = edns
    ? [
        {
          type: 'OPT' as const,
          name: '.' as const,
          udpPayloadSize: edns.udpPayloadSize ?? 1232,
          extendedRcode: 0,
          ednsVersion: edns.version ?? 0,
          flags: edns.dnssecOk ? DO : 0,
          flag_do: edns.dnssecOk ?? false,
          options: [],
        },
      ]
    : [];
  const message = {
    type: 'query' as const,
    id,
    flags: recursionDesired ? RECURSION_DESIRED : 0,
    questions: [{ name, type, class: options.class ?? 'IN' }],
    additionals,
  };
  return Buffer.from(encodeWithOracle(message as unknown as Parameters<typeof encodeWithOracle>[0]));
}

/** The same, decoded by us. */
export function queryOf(name: string, type: string, options: QuestionOptions = {}): Query {
  const decoded = decodeQuery(question(name, type, options));
  if (decoded.kind !== 'query') throw new Error(`not a query: ${decoded.kind}`);
  return decoded.query;
}

/** A response as another implementation reads it. */
export interface OracleResponse {
  readonly id: number;
  readonly rcode: string;
  readonly flag_qr: boolean;
  readonly flag_aa: boolean;
  readonly flag_tc: boolean;
  readonly flag_rd: boolean;
  readonly flag_ra: boolean;
  readonly flag_cd: boolean;
  readonly questions: readonly { readonly name: string; readonly type: string; readonly class: string }[];
  readonly answers: readonly OracleRecord[];
  readonly authorities: readonly OracleRecord[];
  readonly additionals: readonly (OracleRecord & {
    readonly udpPayloadSize?: number;
    readonly extendedRcode?: number;
    readonly flag_do?: boolean;
  })[];
}

export interface OracleRecord {
  readonly name: string;
  readonly type: string;
  readonly class: string;
  readonly ttl: number;
  readonly data: unknown;
}

export function readResponse(response: Uint8Array): OracleResponse {
  return decodeWithOracle(response) as unknown as OracleResponse;
}
