/** Endpoints, core/v1: the older form of EndpointSlices, which some tools still read. */
import { hostPort } from '../../base/ip.ts';
import type { Endpoints } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { object as define, int32, list, type Schema, string } from '../schema/schema.ts';
import { type FieldError, invalid, required } from '../validation/field.ts';
import { ipAddress, portNumber } from '../validation/names.ts';
import { age } from './age.ts';
import { ObjectReference } from './core-schema.ts';
import { type Draftable, defineKind } from './kind.ts';

const object = (name: string, fields: Readonly<Record<string, Schema>>) => define(`io.k8s.api.core.v1.${name}`, fields);

const EndpointAddress = object('EndpointAddress', {
  ip: string({ required: true }),
  hostname: string(),
  nodeName: string({ keep: true }),
  targetRef: ObjectReference,
});
const EndpointPort = object('EndpointPort', {
  name: string(),
  port: int32({ required: true }),
  protocol: string({ default: 'TCP', enum: ['SCTP', 'TCP', 'UDP'] }),
  appProtocol: string({ keep: true }),
});
const EndpointSubset = object('EndpointSubset', {
  addresses: list(EndpointAddress, { description: 'Addresses that are ready.' }),
  notReadyAddresses: list(EndpointAddress, { description: 'Addresses that are not ready yet, or no longer.' }),
  ports: list(EndpointPort),
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
      subsets: list(EndpointSubset),
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
          if (ip) errors.push(...ipAddress(ip).map((m) => invalid(here.child(field).index(j).child('ip'), ip, m)));
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
