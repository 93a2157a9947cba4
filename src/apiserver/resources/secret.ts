/** Secret, core/v1. stringData is written, never read: it ends up in data. */
import { isDeepStrictEqual } from 'node:util';
import type { Secret } from '../../kube/types.ts';
import { topLevel } from '../schema/meta.ts';
import { boolean, bytes, map, string, stringMap, wire } from '../schema/schema.ts';
import { type FieldError, forbidden, invalid, required, tooLong } from '../validation/field.ts';
import { configMapKey } from '../validation/names.ts';
import { age } from './age.ts';
import { MAX_DATA_BYTES } from './config-map.ts';
import { type Draftable, defineKind } from './kind.ts';

/** Keys that a Secret of a type must have. */
const REQUIRED_KEYS: Readonly<Record<string, readonly string[]>> = {
  'kubernetes.io/tls': ['tls.crt', 'tls.key'],
  'kubernetes.io/dockerconfigjson': ['.dockerconfigjson'],
  'kubernetes.io/dockercfg': ['.dockercfg'],
  'kubernetes.io/ssh-auth': ['ssh-privatekey'],
};

export const secret = defineKind<Draftable<Secret>>({
  group: '',
  version: 'v1',
  kind: 'Secret',
  plural: 'secrets',
  namespaced: true,
  schema: topLevel('io.k8s.api.core.v1.Secret', 'Secret holds secret data of a certain type.', {
    immutable: wire(5, boolean({ keep: true, description: 'If true, the data cannot be changed any more.' })),
    data: wire(2, map(bytes(), { description: 'The secret data, in base64.' })),
    stringData: wire(4, stringMap({ description: 'Secret data as text; written into data, never returned.' })),
    type: wire(3, string({ default: 'Opaque', description: 'What programs may expect of the data.' })),
  }),
  columns: [{ name: 'Name', format: 'name' }, { name: 'Type' }, { name: 'Data' }, { name: 'Age' }],
  row: (object, now) => [
    object.metadata.name,
    object.type ?? '',
    String(Object.keys(object.data ?? {}).length),
    age(object.metadata.creationTimestamp, now),
  ],
  selectableFields: ['type'],
  applyDefaults(object) {
    for (const [key, value] of Object.entries(object.stringData ?? {}))
      object.data = { ...object.data, [key]: Buffer.from(value).toString('base64') };
    delete object.stringData;
  },
  validate(object, at) {
    const errors: FieldError[] = [];
    let size = 0;
    for (const [key, value] of Object.entries(object.data ?? {})) {
      errors.push(...configMapKey(key).map((message) => invalid(at.child('data').key(key), key, message)));
      size += Buffer.byteLength(value, 'base64');
    }
    if (size > MAX_DATA_BYTES) errors.push(tooLong(at.child('data'), MAX_DATA_BYTES));
    for (const key of REQUIRED_KEYS[object.type ?? ''] ?? [])
      if (object.data?.[key] === undefined) errors.push(required(at.child('data').key(key)));
    if (
      object.type === 'kubernetes.io/service-account-token' &&
      !object.metadata.annotations?.['kubernetes.io/service-account.name']
    )
      errors.push(required(at.child('metadata', 'annotations').key('kubernetes.io/service-account.name')));
    return errors;
  },
  validateUpdate(object, old, at) {
    const errors: FieldError[] = [];
    if (object.type !== old.type) errors.push(invalid(at.child('type'), object.type, 'field is immutable'));
    if (!old.immutable) return errors;
    if (!object.immutable) errors.push(forbidden(at.child('immutable'), 'field is immutable when `immutable` is set'));
    if (!isDeepStrictEqual(object.data, old.data))
      errors.push(forbidden(at.child('data'), 'field is immutable when `immutable` is set'));
    return errors;
  },
});
