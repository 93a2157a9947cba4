/** EndpointSlice, discovery.k8s.io/v1. */
import { familyOf, isIp } from '../../base/ip.ts';
import type { EndpointSlice } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import {
  boolean,
  object as define,
  int32,
  list,
  type Schema,
  string,
  stringMap,
  strings,
  wire,
} from '../schema/schema.ts';
import {
  duplicate,
  type FieldError,
  type FieldErrors,
  invalid,
  type Path,
  required,
  tooMany,
} from '../validation/field.ts';
import { dns1123Label, dns1123Subdomain, nonSpecialIp, portNumber, qualifiedName } from '../validation/names.ts';
import { age } from './age.ts';
import { type Draftable, defineKind } from './kind.ts';
import { ObjectReference } from './references.ts';

type Draft = Draftable<EndpointSlice>;

const object = (name: string, fields: Readonly<Record<string, Schema>>) =>
  define(`io.k8s.api.discovery.v1.${name}`, fields);

const ForZone = object('ForZone', { name: wire(1, string({ required: true })) });
const ForNode = object('ForNode', { name: wire(1, string({ required: true })) });
const Endpoint = object('Endpoint', {
  addresses: wire(1, strings({ required: true, description: "Addresses of the endpoint, all of the slice's family." })),
  conditions: wire(2, {
    ...object('EndpointConditions', {
      ready: wire(1, boolean({ keep: true })),
      serving: wire(2, boolean({ keep: true })),
      terminating: wire(3, boolean({ keep: true })),
    }),
    always: true,
  }),
  hostname: wire(3, string({ keep: true })),
  targetRef: wire(4, ObjectReference),
  deprecatedTopology: wire(5, stringMap()),
  nodeName: wire(6, string({ keep: true })),
  zone: wire(7, string({ keep: true })),
  hints: wire(8, object('EndpointHints', { forZones: wire(1, list(ForZone)), forNodes: wire(2, list(ForNode)) })),
});
const EndpointPort = object('EndpointPort', {
  name: wire(1, string({ keep: true, default: '' })),
  protocol: wire(2, string({ keep: true, default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'] })),
  port: wire(3, int32({ keep: true })),
  appProtocol: wire(4, string({ keep: true })),
});

/** As in Kubernetes: the most endpoints and ports of one slice. */
const MAX_ENDPOINTS = 1000;
const MAX_PORTS = 20_000;
const MAX_HINTS = 8;

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
      addressType: wire(4, string({ required: true, enum: ['FQDN', 'IPv4', 'IPv6'] })),
      endpoints: wire(2, list(Endpoint, { keep: true })),
      ports: wire(3, list(EndpointPort, { keep: true })),
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
    errors.push(...validatePlace(endpoint, here));
  });
  const ports = object.ports ?? [];
  if (ports.length > MAX_PORTS) errors.push(tooMany(at.child('ports'), ports.length, MAX_PORTS));
  const names = new Set<string>();
  ports.forEach(({ name = '', port, appProtocol }, i) => {
    const here = at.child('ports').index(i);
    if (name !== '') errors.push(...dns1123Label(name).map((m) => invalid(here.child('name'), name, m)));
    if (names.has(name)) errors.push(duplicate(here.child('name'), name));
    names.add(name);
    if (port !== undefined) errors.push(...portNumber(port).map((m) => invalid(here.child('port'), port, m)));
    if (appProtocol !== undefined)
      errors.push(...qualifiedName(appProtocol).map((m) => invalid(here.child('appProtocol'), appProtocol, m)));
  });
  return errors;
}

/** Where an endpoint runs and whom it is meant for. */
function validatePlace({ hostname, nodeName, hints }: NonNullable<Draft['endpoints']>[number], at: Path): FieldErrors {
  const errors: FieldError[] = [];
  if (hostname !== undefined)
    errors.push(...dns1123Label(hostname).map((m) => invalid(at.child('hostname'), hostname, m)));
  if (nodeName !== undefined)
    errors.push(...dns1123Subdomain(nodeName).map((m) => invalid(at.child('nodeName'), nodeName, m)));
  for (const field of ['forZones', 'forNodes'] as const) {
    const all =
      (hints as Partial<Record<typeof field, readonly { readonly name: string }[]>> | undefined)?.[field] ?? [];
    const where = at.child('hints', field);
    if (all.length > MAX_HINTS) errors.push(tooMany(where, all.length, MAX_HINTS));
    const seen = new Set<string>();
    all.forEach(({ name }, i) => {
      if (seen.has(name)) errors.push(duplicate(where.index(i).child('name'), name));
      seen.add(name);
    });
  }
  return errors;
}

function validateAddress(type: string | undefined, address: string, at: Path): FieldError[] {
  switch (type) {
    case 'IPv4':
    case 'IPv6':
      if (!isIp(address) || `IPv${familyOf(address)}` !== type)
        return [invalid(at, address, `must be a valid ${type} address`)];
      return nonSpecialIp(address).map((message) => invalid(at, address, message));
    case 'FQDN':
      return dns1123Subdomain(address).map((message) => invalid(at, address, message));
    default:
      return []; // The schema has refused the type.
  }
}
