/** Namespace, core/v1. Its own finalizer lives in spec.finalizers, so that the namespace controller empties it first. */
import type { Namespace } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { list, object, string, strings, time, wire } from '../schema/schema.ts';
import { dns1123Label } from '../validation/names.ts';
import { age } from './age.ts';
import { type Draftable, defineKind } from './kind.ts';

const IMMORTAL = new Set(['default', 'kube-public', 'kube-system']);
const NAME_LABEL = 'kubernetes.io/metadata.name';

export const namespace = defineKind<Draftable<Namespace>>({
  group: '',
  version: 'v1',
  kind: 'Namespace',
  plural: 'namespaces',
  namespaced: false,
  shortNames: ['ns'],
  schema: topLevel('io.k8s.api.core.v1.Namespace', 'Namespace provides a scope for Names.', {
    spec: wire(
      2,
      object(
        'io.k8s.api.core.v1.NamespaceSpec',
        { finalizers: wire(1, strings({ description: 'Must be empty before the namespace is removed for good.' })) },
        { always: true },
      ),
    ),
    status: wire(
      3,
      object(
        'io.k8s.api.core.v1.NamespaceStatus',
        {
          phase: wire(1, string({ description: 'Active or Terminating.' })),
          conditions: wire(
            2,
            list(
              object('io.k8s.api.core.v1.NamespaceCondition', {
                type: wire(1, string({ required: true })),
                status: wire(2, string({ required: true })),
                lastTransitionTime: wire(4, time()),
                reason: wire(5, string()),
                message: wire(6, string()),
              }),
              { mergeKey: 'type' },
            ),
          ),
        },
        { always: true },
      ),
    ),
  }),
  columns: [
    { name: 'Name', format: 'name' },
    { name: 'Status', description: 'The status of the namespace' },
    { name: 'Age' },
  ],
  row: (object, now) => [object.metadata.name, object.status?.phase ?? '', age(object.metadata.creationTimestamp, now)],
  selectableFields: ['status.phase'],
  status: {},
  extraSubresources: [{ name: 'finalize', kind: 'Namespace', verbs: ['update'] }],
  returnsDeleted: true,
  validateName: dns1123Label,
  applyDefaults: labelWithName,
  prepareForCreate(object) {
    object.status = { phase: 'Active' };
    object.spec ??= {};
    const finalizers = object.spec.finalizers ?? [];
    object.spec.finalizers = finalizers.includes('kubernetes') ? finalizers : [...finalizers, 'kubernetes'];
    // A generated name is known only now.
    labelWithName(object);
  },
  prepareForUpdate(object, old) {
    object.spec ??= {};
    object.spec.finalizers = old.spec?.finalizers;
  },
  protectedFromDeletion: ({ metadata }) =>
    IMMORTAL.has(metadata.name) ? 'this namespace may not be deleted' : undefined,
  beginDeletion(object) {
    object.status = { ...object.status, phase: 'Terminating' };
  },
  mayVanish: (object) => (object.spec?.finalizers ?? []).length === 0,
});

function labelWithName({ metadata }: Draftable<Namespace>): void {
  if (metadata.name) metadata.labels = { ...metadata.labels, [NAME_LABEL]: metadata.name };
}
