/** EndpointSlice, discovery.k8s.io/v1. */
import { familyOf, isIp } from '../../base/ip.ts';
import type { EndpointSlice } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { boolean, object as define, int32, list, type Schema, string, stringMap, strings } from '../schema/schema.ts';
import {
  type FieldError,
  type FieldErrors,
  forbidden,
  invalid,
  notSupported,
  type Path,
  required,
  tooMany,
} from '../validation/field.ts';
import { dns1123Subdomain, portNumber } from '../validation/names.ts';
import { age } from './age.ts';
import { ObjectReference } from './core-schema.ts';
import { type Draftable, defineKind } from './kind.ts';

type Draft = Draftable<EndpointSlice>;

const object = (name: string, fields: Readonly<Record<string, Schema>>) =>
  define(`io.k8s.api.discovery.v1.${name}`, fields);

const ForZone = object('ForZone', { name: string({ required: true }) });
const ForNode = object('ForNode', { name: string({ required: true }) });
const Endpoint = object('Endpoint', {
  addresses: strings({ required: true, description: "Addresses of the endpoint, all of the slice's family." }),
  conditions: {
    ...object('EndpointConditions', {
      ready: boolean({ keep: true }),
      serving: boolean({ keep: true }),
      terminating: boolean({ keep: true }),
    }),
    always: true,
  },
  hostname: string({ keep: true }),
  targetRef: ObjectReference,
  deprecatedTopology: stringMap(),
  nodeName: string({ keep: true }),
  zone: string({ keep: true }),
  hints: object('EndpointHints', { forZones: list(ForZone), forNodes: list(ForNode) }),
});
const EndpointPort = object('EndpointPort', {
  name: string({ keep: true, default: '' }),
  protocol: string({ keep: true, default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'] }),
  port: int32({ keep: true }),
  appProtocol: string({ keep: true }),
});

/** As in Kubernetes: the most endpoints and ports of one slice. */
const MAX_ENDPOINTS = 1000;
const MAX_PORTS = 20_000;

export const endpointSlice = defineKind<Draft>({
  group: 'discovery.k8s.io',
  version: 'v1',
  kind: 'EndpointSlice',
  plural: 'endpointslices',
  namespaced: true,
  schema: topLevel(
    'io.k8s.api.discovery.v1.EndpointSlice',
    'EndpointSlice represents a set of service endpoints of one address family.',
    {
      addressType: string({ required: true, enum: ['FQDN', 'IPv4', 'IPv6'] }),
      endpoints: list(Endpoint, { keep: true }),
      ports: list(EndpointPort, { keep: true }),
    },
  ),
  columns: [
    { name: 'Name', format: 'name' },
    { name: 'AddressType' },
    { name: 'Ports' },
    { name: 'Endpoints' },
    { name: 'Age' },
  ],
  row: (object, now) => [
    object.metadata.name,
    object.addressType ?? '',
    few(
      (object.ports ?? []).map(({ port }) => (port === undefined ? '*' : String(port))),
      '<unset>',
    ),
    few(
      (object.endpoints ?? []).flatMap(({ addresses }) => addresses),
      '<unset>',
    ),
    age(object.metadata.creationTimestamp, now),
  ],
  countsGenerations: true,
  createsOnUpdate: true,
  prepareForCreate(object) {
    object.endpoints ??= [];
    object.ports ??= [];
  },
  validate: (object, at) => validateSlice(object, at),
  validateUpdate: (object, old, at) =>
    object.addressType === old.addressType
      ? []
      : [invalid(at.child('addressType'), object.addressType, 'field is immutable')],
});

function few(all: readonly string[], none: string): string {
  if (all.length === 0) return none;
  return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',');
}

function validateSlice(object: Draft, at: Path): FieldErrors {
  const errors: FieldError[] = [];
  const endpoints = object.endpoints ?? [];
  if (endpoints.length > MAX_ENDPOINTS) errors.push(tooMany(at.child('endpoints'), endpoints.length, MAX_ENDPOINTS));
  endpoints.forEach((endpoint, i) => {
    const here = at.child('endpoints').index(i);
    if ((endpoint.addresses ?? []).length === 0)
      errors.push(required(here.child('addresses'), 'must contain at least 1 address'));
    else if (endpoint.addresses.length > 100)
      errors.push(tooMany(here.child('addresses'), endpoint.addresses.length, 100));
    (endpoint.addresses ?? []).forEach((address, j) => {
      errors.push(...validateAddress(object.addressType, address, here.child('addresses').index(j)));
    });
  });
  const ports = object.ports ?? [];
  if (ports.length > MAX_PORTS) errors.push(tooMany(at.child('ports'), ports.length, MAX_PORTS));
  ports.forEach(({ port }, i) => {
    if (port !== undefined)
      errors.push(...portNumber(port).map((m) => invalid(at.child('ports').index(i).child('port'), port, m)));
  });
  const names = ports.map(({ name }) => name ?? '');
  if (new Set(names).size < names.length) errors.push(forbidden(at.child('ports'), 'port names must be unique'));
  return errors;
}

function validateAddress(type: string | undefined, address: string, at: Path): FieldError[] {
  switch (type) {
    case 'IPv4':
    case 'IPv6':
      return isIp(address) && `IPv${familyOf(address)}` === type
        ? []
        : [invalid(at, address, `must be a valid ${type} address`)];
    case 'FQDN':
      return dns1123Subdomain(address).map((message) => invalid(at, address, message));
    default:
      return type ? [notSupported(at, type, ['FQDN', 'IPv4', 'IPv6'])] : [];
  }
}
