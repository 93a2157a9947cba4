/** Endpoints, core/v1: the older form of EndpointSlices, which some tools still read. */
import { hostPort } from '../../base/ip.ts';
import type { Endpoints } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { int32, list, string, wire } from '../schema/schema.ts';
import { type FieldError, invalid, required } from '../validation/field.ts';
import { nonSpecialIp, portNumber } from '../validation/names.ts';
import { age } from './age.ts';
import { coreObject as object } from './core-object.ts';
import { type Draftable, defineKind } from './kind.ts';
import { ObjectReference } from './references.ts';

const EndpointAddress = object('EndpointAddress', {
  ip: wire(1, string({ required: true })),
  hostname: wire(3, string()),
  nodeName: wire(4, string({ keep: true })),
  targetRef: wire(2, ObjectReference),
});
const EndpointPort = object('EndpointPort', {
  name: wire(1, string()),
  port: wire(2, int32({ required: true })),
  protocol: wire(3, string({ default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'] })),
  appProtocol: wire(4, string({ keep: true })),
});
const EndpointSubset = object('EndpointSubset', {
  addresses: wire(1, list(EndpointAddress, { description: 'Addresses that are ready.' })),
  notReadyAddresses: wire(2, list(EndpointAddress, { description: 'Addresses that are not ready yet, or no longer.' })),
  ports: wire(3, list(EndpointPort)),
});

export const endpoints = defineKind<Draftable<Endpoints>>({
  group: '',
  version: 'v1',
  kind: 'Endpoints',
  plural: 'endpoints',
  singular: 'endpoints',
  namespaced: true,
  shortNames: ['ep'],
  schema: topLevel(
    'io.k8s.api.core.v1.Endpoints',
    'Endpoints is a collection of endpoints that implement the actual service.',
    {
      subsets: wire(2, list(EndpointSubset)),
    },
  ),
  columns: [{ name: 'Name', format: 'name' }, { name: 'Endpoints' }, { name: 'Age' }],
  row: (object, now) => [
    object.metadata.name,
    summary(object.subsets ?? []),
    age(object.metadata.creationTimestamp, now),
  ],
  createsOnUpdate: true,
  validate(object, at) {
    const errors: FieldError[] = [];
    (object.subsets ?? []).forEach((subset, i) => {
      const here = at.child('subsets').index(i);
      if (!subset.addresses?.length && !subset.notReadyAddresses?.length)
        errors.push(required(here, 'must specify `addresses` or `notReadyAddresses`'));
      for (const field of ['addresses', 'notReadyAddresses'] as const) {
        (subset[field] ?? []).forEach(({ ip }, j) => {
          if (ip) errors.push(...nonSpecialIp(ip).map((m) => invalid(here.child(field).index(j).child('ip'), ip, m)));
        });
      }
      (subset.ports ?? []).forEach(({ name, port }, j) => {
        const where = here.child('ports').index(j);
        if (!name && subset.ports!.length > 1) errors.push(required(where.child('name')));
        errors.push(...portNumber(port ?? 0).map((m) => invalid(where.child('port'), port ?? 0, m)));
      });
    });
    return errors;
  },
});

/** The first three addresses, and how many more. */
function summary(subsets: NonNullable<Draftable<Endpoints>['subsets']>): string {
  const all = subsets.flatMap(({ addresses = [], ports = [] }) =>
    ports.length === 0
      ? addresses.map(({ ip }) => ip)
      : ports.flatMap(({ port }) => addresses.map(({ ip }) => hostPort(ip, port))),
  );
  if (all.length === 0) return '<none>';
  return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',');
}
