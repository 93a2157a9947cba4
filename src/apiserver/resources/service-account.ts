/** ServiceAccount, core/v1. */
import type { ServiceAccount } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { boolean, list } from '../schema/schema.ts';
import { age } from './age.ts';
import { LocalObjectReference, ObjectReference } from './core-schema.ts';
import { type Draftable, defineKind } from './kind.ts';

export const serviceAccount = defineKind<Draftable<ServiceAccount>>({
  group: '',
  version: 'v1',
  kind: 'ServiceAccount',
  plural: 'serviceaccounts',
  namespaced: true,
  shortNames: ['sa'],
  schema: topLevel('io.k8s.api.core.v1.ServiceAccount', 'ServiceAccount is an identity for processes in pods.', {
    secrets: list(ObjectReference, { mergeKey: 'name' }),
    imagePullSecrets: list(LocalObjectReference),
    automountServiceAccountToken: boolean({
      keep: true,
      description: 'Whether pods get a token mounted; default true.',
    }),
  }),
  columns: [{ name: 'Name', format: 'name' }, { name: 'Secrets' }, { name: 'Age' }],
  row: (object, now) => [
    object.metadata.name,
    (object.secrets ?? []).length,
    age(object.metadata.creationTimestamp, now),
  ],
  extraSubresources: [
    { name: 'token', kind: 'TokenRequest', group: 'authentication.k8s.io', version: 'v1', verbs: ['create'] },
  ],
  returnsDeleted: true,
});
