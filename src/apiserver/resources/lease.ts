/** Lease, coordination.k8s.io/v1. */
import type { Lease } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { int32, microTime, object, string, wire } from '../schema/schema.ts';
import { type FieldError, invalid } from '../validation/field.ts';
import { age } from './age.ts';
import { type Draftable, defineKind } from './kind.ts';

export const lease = defineKind<Draftable<Lease>>({
  group: 'coordination.k8s.io',
  version: 'v1',
  kind: 'Lease',
  plural: 'leases',
  namespaced: true,
  schema: topLevel('io.k8s.api.coordination.v1.Lease', 'Lease defines a lease concept.', {
    spec: wire(
      2,
      object(
        'io.k8s.api.coordination.v1.LeaseSpec',
        {
          holderIdentity: wire(1, string({ keep: true, description: 'Who holds the lease.' })),
          leaseDurationSeconds: wire(2, int32({ keep: true })),
          acquireTime: wire(3, microTime()),
          renewTime: wire(4, microTime()),
          leaseTransitions: wire(5, int32({ keep: true })),
          strategy: wire(6, string({ keep: true })),
          preferredHolder: wire(7, string({ keep: true })),
        },
        { always: true },
      ),
    ),
  }),
  columns: [{ name: 'Name', format: 'name' }, { name: 'Holder' }, { name: 'Age' }],
  row: ({ metadata, spec }, now) => [metadata.name, spec.holderIdentity ?? '', age(metadata.creationTimestamp, now)],
  createsOnUpdate: true,
  validate({ spec }, at) {
    const errors: FieldError[] = [];
    const { leaseDurationSeconds, leaseTransitions } = spec;
    if (leaseDurationSeconds !== undefined && leaseDurationSeconds <= 0)
      errors.push(invalid(at.child('spec', 'leaseDurationSeconds'), leaseDurationSeconds, 'must be greater than 0'));
    if (leaseTransitions !== undefined && leaseTransitions < 0)
      errors.push(
        invalid(at.child('spec', 'leaseTransitions'), leaseTransitions, 'must be greater than or equal to 0'),
      );
    return errors;
  },
});
